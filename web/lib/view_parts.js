// @ts-check
// What a view consists of, and what it says over its picture.

import { make } from "./elements.js";

/** @param {import("./texts.js").Texts} texts @param {number} opacity */
export function viewParts(texts, opacity) {
  const canvas = make("canvas", {});
  canvas.setAttribute("role", "img");
  const message = make("div", { className: "ssr-message" });
  message.setAttribute("role", "status");
  const fault = make("div", { className: "ssr-fault", hidden: true });
  fault.setAttribute("role", "alert");
  const stale = make("div", { className: "ssr-stale", textContent: texts.stale, hidden: true });
  stale.setAttribute("role", "status");
  const stage = make("div", { className: "ssr-stage" }, canvas, stale, message, fault);
  const turn = make("button", { type: "button", className: "ssr-turn", title: texts.next, hidden: true });
  const slider = make("input", { type: "range", min: "0", max: "1", step: "0.05", title: texts.opacity, value: String(opacity) });
  slider.setAttribute("aria-label", texts.opacity);
  const clear = make("button", { type: "button", textContent: texts.clear, hidden: true });
  const unframe = make("button", { type: "button", textContent: texts.unframe, hidden: true });
  const look = make("button", { type: "button", textContent: texts.look, title: texts.lookTip });
  const bar = make("div", { className: "ssr-row" }, look, slider, turn, clear, unframe);
  return { canvas, message, fault, stale, stage, turn, slider, clear, unframe, look, bar };
}

/**
 * @param {import("./texts.js").Texts} texts
 * @param {boolean} busy whether a run or a picture is awaited
 * @param {{ shown: import("./drawing.js").Shown | null, notice: string, missing: boolean, everything: boolean }} state missing: nothing says
 *   what to take; everything: the whole picture counts as the object
 */
export function messageOf(texts, busy, { shown, notice, missing, everything }) {
  if (busy) return texts.running;
  if (notice) return notice;
  if (missing) return shown ? texts.nothing : `${texts.nothing}\n${texts.first}`;
  if (!shown) return texts.empty;
  if (!shown.image) return texts.gone;
  return shown.subject.editable && everything ? texts.everything : "";
}

/** @param {string} url @param {(image: HTMLImageElement | null) => unknown} arrived null where the file is gone */
export function loadImage(url, arrived) {
  const image = new Image();
  image.onload = () => arrived(image);
  image.onerror = () => arrived(null);
  image.src = url;
  return image;
}
