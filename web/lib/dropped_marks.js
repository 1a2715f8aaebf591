// @ts-check
// Points and a frame that were set in another picture: taken out of the node, and offered back.

import { make } from "./elements.js";

/** @typedef {{ read: () => string, write: (text: string) => void, linked: () => boolean }} Input */

export class DroppedMarks {
  /** @param {import("./texts.js").Texts} texts @param {(Input | null)[]} inputs of the node that hold marks @param {() => void} onBack */
  constructor(texts, inputs, onBack) {
    this.inputs = inputs.filter((input) => input !== null);
    this.onBack = onBack;
    /** @type {{ input: Input, text: string }[]} */ this.dropped = [];
    this.back = make("button", { type: "button", textContent: texts.back });
    this.element = make("div", { className: "ssr-row", hidden: true }, make("span", { textContent: texts.dropped }), this.back);
    this.element.setAttribute("role", "status");
  }

  /** @param {AbortSignal} signal */
  listen(signal) {
    this.back.addEventListener("click", () => this.bringBack(), { signal });
  }

  /** Another picture has come. */
  drop() {
    const marks = this.marks();
    if (!marks.length) return; // what was dropped before stays on offer
    for (const { input } of marks) input.write("");
    this.dropped = marks;
  }

  bringBack() {
    const { dropped } = this;
    this.forget();
    for (const { input, text } of dropped) input.write(text);
    this.onBack();
  }

  /** New marks take their place. */
  forget() {
    this.dropped = [];
  }

  /** Offers them while there are no others. */
  show() {
    this.element.hidden = !this.dropped.length || this.marks().length > 0;
  }

  /** What is set now. A link's text is not the node's own. */
  marks() {
    return this.inputs.filter((input) => !input.linked() && input.read().trim()).map((input) => ({ input, text: input.read() }));
  }
}
