// @ts-check
// The view itself: a picture with the query's map over it, chips for its words, an opacity slider, points to click.

import { drawSubject } from "./drawing.js";
import { make, viewElement } from "./elements.js";
import { PointEditor } from "./point_editor.js";
import { formatPoints } from "./points.js";
import { WordChips } from "./word_chips.js";

/**
 * @typedef {import("./payload.js").Subject} Subject
 * @typedef {import("./points.js").Point} Point
 * @typedef {{ read: () => string, write: (text: string) => void, linked: () => boolean,
 *   selectsWithout: () => boolean }} PointsInput selectsWithout: whether something besides the points says what to take
 * @typedef {{ texts: import("./texts.js").Texts, maps: boolean, opacity: number, onOpacity: (value: number) => void, onRun: () => void,
 *   points: PointsInput | null, pictureUrl: (file: Record<string, string>) => string,
 *   forward: (element: HTMLElement, signal: AbortSignal) => void }} Options
 */

export class SubjectView {
  /** @param {Options} options */
  constructor(options) {
    this.options = options;
    this.opacity = options.opacity;
    /** @type {Subject[]} */ this.subjects = [];
    this.index = 0;
    /** @type {import("./drawing.js").Shown | null} */ this.shown = null;
    /** @type {HTMLImageElement | null} the picture that is to be shown next */ this.loading = null;
    /** @type {(() => void) | null} shows a picture that arrived while a stroke was being drawn */ this.waiting = null;
    /** Whether anything is still selected: once the last point is gone, the last map no longer holds. */ this.selected = true;
    this.running = false;
    this.notice = "";
    this.listening = new AbortController();
    const { texts, points } = options;
    this.canvas = make("canvas", {});
    this.canvas.setAttribute("role", "img");
    this.message = make("div", { className: "ssr-message" });
    this.message.setAttribute("role", "status");
    this.stage = make("div", { className: "ssr-stage" }, this.canvas, this.message);
    this.chips = new WordChips(texts.whole, () => this.draw());
    this.turn = make("button", { type: "button", className: "ssr-turn", title: texts.next, hidden: true });
    this.slider = make("input", { type: "range", min: "0", max: "1", step: "0.05", title: texts.opacity, value: String(options.opacity) });
    this.slider.setAttribute("aria-label", texts.opacity);
    this.clear = make("button", { type: "button", textContent: texts.clear, hidden: true });
    this.look = make("button", { type: "button", textContent: texts.look, title: texts.lookTip });
    const bar = make("div", { className: "ssr-row" }, this.look, this.slider, this.turn, this.clear);
    this.element = viewElement(
      () => this.arrive(),
      () => this.leave(),
    );
    this.element.append(this.stage, this.chips.element, bar);
    this.resizing = new ResizeObserver(() => this.draw());
    this.editor = points && new PointEditor(this.canvas, {
      shown: () => this.shown,
      read: points.read,
      linked: points.linked,
      write: (changed) => this.writePoints(changed),
      changed: () => this.draw(),
      ended: () => this.showWaiting(),
    });
    this.tell();
  }

  /** The view has come into the page; more than once, if another renderer draws its node or the node comes back. */
  arrive() {
    this.leave();
    this.listening = new AbortController();
    const { signal } = this.listening;
    this.look.addEventListener("click", () => this.options.onRun(), { signal });
    this.clear.addEventListener("click", () => this.writePoints([]), { signal });
    this.turn.addEventListener("click", () => this.load(this.subjects, (this.index + 1) % this.subjects.length), { signal });
    this.slider.addEventListener(
      "input",
      () => {
        this.setOpacity(Number(this.slider.value));
        this.options.onOpacity(this.opacity);
      },
      { signal },
    );
    this.chips.listen(signal);
    this.editor?.listen(signal);
    this.options.forward(this.element, signal);
    this.resizing.observe(this.stage);
    this.showPoints();
  }

  /** The view has left the page. */
  leave() {
    this.listening.abort();
    this.resizing.disconnect();
    this.editor?.leave();
    this.canvas.width = this.canvas.height = 0; // the tooltips of Nodes 2.0 keep elements that are gone; at least free the pixels
  }

  /** @param {Subject[]} subjects of a run that has just ended, or of the last one */
  show(subjects) {
    if (subjects.length) this.load(subjects, Math.min(this.index, subjects.length - 1));
  }

  /** Shows a subject as soon as its picture has arrived; until then the view stays as it is. @param {Subject[]} subjects @param {number} index */
  load(subjects, index) {
    const image = new Image();
    this.loading = image;
    this.tell();
    const arrived = (/** @type {HTMLImageElement | null} */ found) => {
      if (this.loading !== image) return; // another run was faster
      this.loading = null;
      this.waiting = () => this.put(subjects, index, found);
      if (this.editor?.stroke) this.tell();
      else this.showWaiting();
    };
    image.onload = () => arrived(image);
    image.onerror = () => arrived(null);
    image.src = this.options.pictureUrl(subjects[index].picture);
  }

  showWaiting() {
    this.waiting?.();
    this.waiting = null;
  }

  /** @param {Subject[]} subjects @param {number} index @param {HTMLImageElement | null} image null where the file is gone */
  put(subjects, index, image) {
    this.subjects = subjects;
    this.index = index;
    this.shown = { subject: subjects[index], image };
    this.selected = true;
    this.notice = "";
    this.turn.hidden = subjects.length < 2;
    this.turn.textContent = `${index + 1} / ${subjects.length}`;
    this.turn.setAttribute("aria-label", `${this.options.texts.next} (${this.turn.textContent})`);
    this.chips.show(subjects[index].words);
    this.tell();
    this.showPoints();
  }

  /** @param {boolean} running whether a run that this view asked for is queued or under way */
  setRunning(running) {
    this.running = running;
    this.notice = "";
    this.tell();
  }

  /** Shows a notice over the picture until the next run. @param {string} notice */
  say(notice) {
    this.notice = notice;
    this.tell();
  }

  tell() {
    const { texts } = this.options;
    const resting = !this.shown ? texts.empty : this.shown.image ? "" : texts.gone;
    const busy = this.running || this.loading !== null;
    const text = busy ? texts.running : this.notice || resting;
    this.element.setAttribute("aria-busy", String(busy));
    if (this.message.textContent !== text) this.message.textContent = text;
    this.message.classList.toggle("ssr-over", Boolean(this.shown?.image));
  }

  /** @param {number} value */
  setOpacity(value) {
    this.opacity = value;
    this.slider.value = String(value);
    this.draw();
  }

  /** Reads the points again: they may have been typed, pasted or undone, or a link may give them now. */
  showPoints() {
    this.editor?.read();
    const { points, texts } = this.options;
    const editable = this.shown?.subject.editable ?? true;
    const told = !editable ? texts.seen : points && !points.linked() ? texts.click : "";
    this.canvas.title = told;
    this.canvas.setAttribute("aria-label", told || texts.picture);
    this.slider.hidden = this.shown ? !this.shown.subject.map : !this.options.maps;
    this.clear.hidden = !this.editor?.points.length;
    this.draw();
  }

  /** @param {Point[]} points */
  writePoints(points) {
    this.options.points?.write(formatPoints(points));
    this.selected = points.length > 0 || Boolean(this.options.points?.selectsWithout());
    this.showPoints();
    if (this.selected) this.options.onRun();
  }

  draw() {
    const subject = this.shown?.subject;
    const map = subject?.words[this.chips.word]?.map ?? subject?.map ?? null;
    drawSubject(this.canvas, this.shown, this.selected, map, this.opacity, (subject?.editable && this.editor?.visible) || []);
  }
}
