// @ts-check
// The view itself: a picture with the query's map over it, chips for its words, an opacity slider, points to click.

import { heatPicture, shadePicture } from "./heat.js";
import { formatPoints, parsePoints } from "./points.js";

/**
 * @typedef {import("./payload.js").Subject} Subject
 * @typedef {import("./points.js").Point} Point
 * @typedef {{ texts: import("./texts.js").Texts, opacity: number, onOpacity: (value: number) => void, onRun: () => unknown,
 *   points?: { read: () => string, write: (text: string) => void }, pictureUrl: (file: Record<string, string>) => string }} Options
 */

const STYLE_ID = "ssr-subject-view-style";
const STYLE = `
.ssr-view { display: flex; flex-direction: column; gap: 4px; width: 100%; height: 100%; box-sizing: border-box; font-size: 12px;
  color: var(--input-text, #ddd); min-height: 0; }
.ssr-view .ssr-stage { position: relative; flex: 1; min-height: 120px; border-radius: 4px; overflow: hidden;
  background: var(--comfy-input-bg, #222); }
.ssr-view canvas { position: absolute; inset: 0; width: 100%; height: 100%; touch-action: none; }
.ssr-view .ssr-message { position: absolute; inset: 0; display: grid; place-items: center; padding: 12px; text-align: center;
  color: var(--descrip-text, #999); pointer-events: none; }
.ssr-view .ssr-row { display: flex; flex-wrap: wrap; gap: 4px; align-items: center; max-height: 48px; overflow: auto; flex: none; }
.ssr-view button { font: inherit; color: inherit; background: var(--comfy-input-bg, #222); border: 1px solid var(--border-color, #444);
  border-radius: 10px; padding: 1px 8px; cursor: pointer; max-width: 100%; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.ssr-view button:hover, .ssr-view button:focus-visible, .ssr-view button[aria-pressed="true"] { border-color: var(--p-primary-color, #4a9eff); }
.ssr-view input[type="range"] { flex: 1; min-width: 40px; }
.ssr-view [hidden] { display: none; }
`;
const POINT_RADIUS = 5;
/** How near to a point, in screen pixels, a click removes it. */
const GRAB = 8;

export class SubjectView {
  /** @param {Options} options */
  constructor(options) {
    this.options = options;
    this.opacity = options.opacity;
    /** @type {Subject[]} */ this.subjects = [];
    this.index = 0;
    /** @type {number | null} word under the mouse; -1 is the whole query */ this.hovered = null;
    this.pinned = -1;
    /** @type {HTMLImageElement | null} */ this.image = null;
    /** @type {Point[]} */ this.points = [];
    this.listening = new AbortController();
    this.chipsListening = new AbortController();
    if (!document.getElementById(STYLE_ID)) document.head.append(make("style", { id: STYLE_ID, textContent: STYLE }));
    const { texts } = options;
    this.canvas = make("canvas", { title: options.points ? texts.click : "" });
    this.message = make("div", { className: "ssr-message", textContent: texts.empty });
    this.stage = make("div", { className: "ssr-stage" }, this.canvas, this.message);
    this.chips = make("div", { className: "ssr-row ssr-chips" });
    this.turn = make("button", { type: "button", hidden: true });
    this.slider = make("input", { type: "range", min: "0", max: "1", step: "0.05", title: texts.opacity });
    this.slider.setAttribute("aria-label", texts.opacity);
    this.slider.value = String(this.opacity);
    this.clear = make("button", { type: "button", textContent: texts.clear, hidden: true });
    this.look = make("button", { type: "button", textContent: texts.look, title: texts.lookTip });
    const bar = make("div", { className: "ssr-row" }, this.look, this.slider, this.turn, this.clear);
    this.element = make("div", { className: "ssr-view" }, this.stage, this.chips, bar);

    const { signal } = this.listening;
    this.look.addEventListener("click", () => options.onRun(), { signal });
    this.clear.addEventListener("click", () => this.writePoints([]), { signal });
    this.turn.addEventListener("click", () => this.turnTo((this.index + 1) % this.subjects.length), { signal });
    this.slider.addEventListener(
      "input",
      () => {
        this.opacity = Number(this.slider.value);
        options.onOpacity(this.opacity);
        this.draw();
      },
      { signal },
    );
    if (options.points) this.canvas.addEventListener("pointerdown", (event) => this.startStroke(event), { signal });
    this.resizing = new ResizeObserver(() => this.draw());
    this.resizing.observe(this.stage);
    this.showPoints();
  }

  /** @param {Subject[]} subjects of a run that has just ended, or of the last one */
  show(subjects) {
    if (!subjects.length) return;
    this.subjects = subjects;
    this.turnTo(Math.min(this.index, subjects.length - 1));
  }

  /** @param {number} index */
  turnTo(index) {
    this.index = index;
    this.hovered = null;
    this.pinned = -1;
    const subject = this.subjects[index];
    this.turn.hidden = this.subjects.length < 2;
    this.turn.textContent = `${index + 1} / ${this.subjects.length}`;
    this.showChips(subject);
    this.showPoints();
    const image = new Image();
    this.image = null;
    image.onload = () => {
      if (this.subjects[this.index] !== subject) return; // another run was faster
      this.image = image;
      this.message.textContent = "";
      this.draw();
    };
    image.onerror = () => {
      if (this.subjects[this.index] === subject) this.message.textContent = this.options.texts.gone;
    };
    image.src = this.options.pictureUrl(subject.picture);
  }

  /** @param {Subject} subject */
  showChips(subject) {
    this.chipsListening.abort();
    this.chipsListening = new AbortController();
    const { signal } = this.chipsListening;
    const words = subject.words.length > 1 ? [{ text: this.options.texts.whole, number: -1 }] : [];
    words.push(...subject.words.map((word, number) => ({ text: word.text, number })));
    const chips = words.map(({ text, number }) => {
      const chip = make("button", { type: "button", textContent: text, title: text });
      chip.dataset.word = String(number);
      chip.setAttribute("aria-pressed", String(number === this.pinned));
      const hover = (/** @type {number | null} */ word) => () => {
        this.hovered = word;
        this.draw();
      };
      chip.addEventListener("pointerenter", hover(number), { signal });
      chip.addEventListener("pointerleave", hover(null), { signal });
      chip.addEventListener("focus", hover(number), { signal });
      chip.addEventListener("blur", hover(null), { signal });
      chip.addEventListener("click", () => this.pin(number), { signal });
      return chip;
    });
    this.chips.replaceChildren(...chips);
  }

  /** @param {number} word */
  pin(word) {
    this.pinned = word;
    for (const chip of this.chips.children) {
      chip.setAttribute("aria-pressed", String(/** @type {HTMLElement} */ (chip).dataset.word === String(word)));
    }
    this.draw();
  }

  /** @param {number} value */
  setOpacity(value) {
    this.opacity = value;
    this.slider.value = String(value);
    this.draw();
  }

  /** Reads the points again: they may have been typed, pasted or undone. */
  showPoints() {
    this.points = this.options.points ? parsePoints(this.options.points.read()) : [];
    this.clear.hidden = !this.points.length;
    this.draw();
  }

  /** @param {Point[]} points */
  writePoints(points) {
    this.options.points?.write(formatPoints(points));
    this.showPoints();
    this.options.onRun();
  }

  draw() {
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.max(1, this.stage.clientWidth * ratio);
    this.canvas.height = Math.max(1, this.stage.clientHeight * ratio);
    const subject = this.subjects[this.index];
    const context = this.canvas.getContext("2d");
    if (!this.image || !subject || !context) return;
    const place = this.place(subject);
    const [left, top, right, bottom] = subject.box;
    const box = [place.x + left * place.width, place.y + top * place.height, (right - left) * place.width, (bottom - top) * place.height];
    context.save();
    context.beginPath();
    context.rect(place.x, place.y, place.width, place.height);
    context.clip();
    context.drawImage(this.image, place.x, place.y, place.width, place.height);
    if (subject.marked) context.drawImage(shadePicture(subject.marked, subject.grid), ...tuple(box));
    const word = this.hovered ?? this.pinned;
    const map = word < 0 ? subject.map : subject.words[word].map;
    context.imageSmoothingQuality = "high";
    context.drawImage(heatPicture(map, subject.grid, this.opacity), ...tuple(box));
    this.drawFrame(context, place, box);
    context.restore();
    for (const point of this.points) {
      context.beginPath();
      context.arc(
        place.x + (point.x / subject.width) * place.width,
        place.y + (point.y / subject.height) * place.height,
        POINT_RADIUS * ratio,
        0,
        2 * Math.PI,
      );
      context.fillStyle = "#fff";
      context.fill();
      context.lineWidth = 2 * ratio;
      context.strokeStyle = "#000";
      context.stroke();
    }
  }

  /** What the encoder does not see is darkened. @param {CanvasRenderingContext2D} context @param {Rect} place @param {number[]} box */
  drawFrame(context, place, box) {
    const [x, y, width, height] = box;
    if (width >= place.width - 1 && height >= place.height - 1) return;
    context.beginPath();
    context.rect(place.x, place.y, place.width, place.height);
    context.rect(x, y, width, height);
    context.fillStyle = "rgba(0, 0, 0, 0.5)";
    context.fill("evenodd");
    context.setLineDash([6, 4]);
    context.strokeStyle = "#fff";
    context.strokeRect(x + 0.5, y + 0.5, width - 1, height - 1);
    context.setLineDash([]);
  }

  /** @typedef {{ x: number, y: number, width: number, height: number }} Rect */

  /** Where the picture is on the canvas, whole and in its proportions. @param {Subject} subject @returns {Rect} */
  place(subject) {
    const scale = Math.min(this.canvas.width / subject.width, this.canvas.height / subject.height);
    const width = subject.width * scale;
    const height = subject.height * scale;
    return { x: (this.canvas.width - width) / 2, y: (this.canvas.height - height) / 2, width, height };
  }

  /** Where in the reference the mouse is, at any zoom. @param {PointerEvent} event @param {Subject} subject @returns {Point | null} */
  pointAt(event, subject) {
    const shown = this.canvas.getBoundingClientRect();
    const place = this.place(subject);
    const x = (((event.clientX - shown.left) / shown.width) * this.canvas.width - place.x) / place.width;
    const y = (((event.clientY - shown.top) / shown.height) * this.canvas.height - place.y) / place.height;
    return x >= 0 && x < 1 && y >= 0 && y < 1 ? { x: x * subject.width, y: y * subject.height } : null;
  }

  /** @param {PointerEvent} event */
  startStroke(event) {
    const subject = this.subjects[this.index];
    const start = event.button === 0 && subject && this.image ? this.pointAt(event, subject) : null;
    if (!start) return;
    event.stopPropagation(); // the node is not dragged
    event.preventDefault();
    const shown = this.canvas.getBoundingClientRect();
    const pixel = subject.width / ((this.place(subject).width / this.canvas.width) * shown.width);
    const near = this.points.findIndex((point) => Math.hypot(point.x - start.x, point.y - start.y) < GRAB * pixel);
    if (near >= 0) {
      this.writePoints(this.points.filter((_, number) => number !== near));
      return;
    }
    this.points = [...this.points, start];
    this.draw();
    const patch = ((subject.box[2] - subject.box[0]) * subject.width) / subject.grid;
    const stroke = new AbortController();
    const signal = AbortSignal.any([stroke.signal, this.listening.signal]);
    this.canvas.setPointerCapture(event.pointerId);
    this.canvas.addEventListener(
      "pointermove",
      (move) => {
        const point = this.pointAt(move, subject);
        const last = this.points[this.points.length - 1];
        if (!point || Math.hypot(point.x - last.x, point.y - last.y) < patch) return;
        this.points = [...this.points, point];
        this.draw();
      },
      { signal },
    );
    for (const end of ["pointerup", "pointercancel"]) {
      this.canvas.addEventListener(
        end,
        () => {
          stroke.abort();
          this.writePoints(this.points);
        },
        { signal },
      );
    }
  }

  destroy() {
    this.listening.abort();
    this.chipsListening.abort();
    this.resizing.disconnect();
    this.image = null;
    this.subjects = [];
  }
}

/** @param {number[]} box @returns {[number, number, number, number]} */
function tuple(box) {
  return [box[0], box[1], box[2], box[3]];
}

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag @param {Partial<HTMLElementTagNameMap[Tag]>} properties @param {...Node} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
function make(tag, properties, ...children) {
  const element = document.createElement(tag);
  Object.assign(element, properties);
  element.append(...children);
  return element;
}
