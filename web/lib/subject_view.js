// @ts-check
// The view itself: a picture with the query's map over it, chips for its words, an opacity slider, points to click; and what there is to
// tell: that it runs, what went wrong, what is missing, and that what is shown was made of something else.

import { formatCrop, frameOf } from "./crop.js";
import { drawSubject } from "./drawing.js";
import { DroppedMarks } from "./dropped_marks.js";
import { viewElement } from "./elements.js";
import { FrameEditor } from "./frame_editor.js";
import { PointEditor } from "./point_editor.js";
import { formatPoints } from "./points.js";
import { loadImage, messageOf, viewParts } from "./view_parts.js";
import { WordChips } from "./word_chips.js";

/**
 * @typedef {import("./payload.js").Subject} Subject
 * @typedef {import("./points.js").Point} Point
 * @typedef {{ read: () => string, write: (text: string) => void, linked: () => boolean,
 *   selectsWithout: () => boolean }} PointsInput selectsWithout: whether something besides the points says what to take
 * @typedef {{ read: () => string, write: (text: string) => void, linked: () => boolean, square: () => boolean }} CropInput square: whether
 *   the frame must be one
 * @typedef {{ texts: import("./texts.js").Texts, maps: boolean, opacity: number, onOpacity: (value: number) => void, onRun: () => void,
 *   onFirst: (subject: Subject, image: HTMLImageElement | null) => void, points: PointsInput | null, crop: CropInput | null,
 *   pictureUrl: (file: Record<string, string>) => string, forward: (element: HTMLElement, signal: AbortSignal) => void }} Options
 *   onFirst: is told of the first subject, in which points may be set, also while another is shown
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
    /** Whether nothing says what to take. */ this.missing = false;
    /** Whether all that is shown counts as the object. */ this.everything = false;
    /** Whether the picture that is shown is another than the node's. */ this.outdated = false;
    this.listening = new AbortController();
    const { texts, points, crop } = options;
    this.parts = viewParts(texts, options.opacity);
    this.canvas = this.parts.canvas;
    this.chips = new WordChips(texts.whole, () => this.draw());
    this.dropped = new DroppedMarks(texts, [points, crop], () => this.options.onRun());
    this.element = viewElement(
      () => this.arrive(),
      () => this.leave(),
    );
    this.element.append(this.parts.stage, this.chips.element, this.dropped.element, this.parts.bar);
    this.resizing = new ResizeObserver(() => this.draw());
    this.editor = points && new PointEditor(this.canvas, {
      shown: () => this.shown,
      reach: () => (this.followsMarks() ? [0, 0, 1, 1] : this.frame()),
      read: points.read,
      linked: points.linked,
      write: (changed) => this.writePoints(changed),
      changed: () => this.draw(),
      ended: () => this.showWaiting(),
      outside: () => this.say(texts.outside),
    });
    this.framing =
      crop &&
      new FrameEditor(this.canvas, {
        subject: () => (this.shown?.image && this.movable() ? this.shown.subject : null),
        frame: () => this.pixels(this.frame()),
        square: crop.square,
        points: () => this.editor?.points ?? [],
        write: (frame) => this.writeCrop(formatCrop(frame)),
        changed: () => this.draw(),
        clicked: (event) => this.editor?.click(event),
      });
    this.tell();
  }

  /** The view has come into the page; more than once, if another renderer draws its node or the node comes back. */
  arrive() {
    this.leave();
    this.listening = new AbortController();
    const { signal } = this.listening;
    this.parts.look.addEventListener("click", () => this.options.onRun(), { signal });
    this.parts.clear.addEventListener("click", () => this.writePoints([]), { signal });
    this.parts.fault.addEventListener("click", () => this.fail("", ""), { signal });
    this.parts.turn.addEventListener("click", () => this.load(this.subjects, (this.index + 1) % this.subjects.length), { signal });
    this.parts.slider.addEventListener(
      "input",
      () => {
        this.setOpacity(Number(this.parts.slider.value));
        this.options.onOpacity(this.opacity);
      },
      { signal },
    );
    this.chips.listen(signal);
    this.dropped.listen(signal);
    this.parts.unframe.addEventListener("click", () => this.writeCrop(""), { signal });
    this.canvas.addEventListener("pointerdown", (event) => this.refresh(event), { signal, capture: true }); // before the editors
    this.editor?.listen(signal);
    this.framing?.listen(signal);
    this.options.forward(this.element, signal);
    this.resizing.observe(this.parts.stage);
    this.showPoints();
  }

  /** The view has left the page. */
  leave() {
    this.listening.abort();
    this.resizing.disconnect();
    this.editor?.leave();
    this.framing?.leave();
    this.canvas.width = this.canvas.height = 0; // the tooltips of Nodes 2.0 keep elements that are gone; at least free the pixels
  }

  /** @param {Subject[]} subjects of a run that has just ended, or of the last one */
  show(subjects) {
    if (subjects.length) this.load(subjects, Math.min(this.index, subjects.length - 1));
  }

  /** Shows a subject as soon as its picture has arrived; until then the view stays as it is. @param {Subject[]} subjects @param {number} index */
  load(subjects, index) {
    const image = this.loadPicture(subjects[index], (found) => {
      if (this.loading !== image) return; // another run was faster
      this.loading = null;
      this.waiting = () => this.put(subjects, index, found);
      if (this.editor?.stroke) this.tell();
      else this.showWaiting();
    });
    this.loading = image;
    this.tell();
  }

  /** @param {Subject} subject @param {(image: HTMLImageElement | null) => unknown} arrived null where the file is gone */
  loadPicture(subject, arrived) {
    return loadImage(subject.kept || this.options.pictureUrl(subject.picture), arrived);
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
    this.fail("", "");
    this.parts.turn.hidden = subjects.length < 2;
    this.parts.turn.textContent = `${index + 1} / ${subjects.length}`;
    this.parts.turn.setAttribute("aria-label", `${this.options.texts.next} (${this.parts.turn.textContent})`);
    this.chips.show(subjects[index].words);
    this.tell();
    this.showPoints();
    if (index === 0) this.options.onFirst(subjects[0], image);
    else this.loadPicture(subjects[0], (first) => this.subjects === subjects && !this.loading && this.options.onFirst(subjects[0], first));
  }

  /** A click on a picture that is not the node's any more shows the one that is. @param {PointerEvent} event */
  refresh(event) {
    if (!this.outdated || !this.shown?.image || event.button !== 0) return;
    event.stopImmediatePropagation();
    event.preventDefault();
    this.options.onRun();
  }

  /** @param {boolean} running whether a run that this view asked for is queued or under way */
  setRunning(running) {
    this.running = running;
    this.notice = "";
    if (running) this.fail("", "");
    this.tell();
  }

  /**
   * @param {{ stale: boolean, outdated: boolean, missing: boolean, everything: boolean }} state stale: what is shown was made of something
   *   else; outdated: of another picture; missing: nothing says what to take; everything: the whole picture counts as the object
   */
  setState({ stale, outdated, missing, everything }) {
    this.parts.stale.hidden = !stale || !this.shown;
    this.parts.look.classList.toggle("ssr-wanted", stale);
    if (this.missing && !missing) this.notice = "";
    this.missing = missing;
    this.everything = everything;
    this.outdated = outdated;
    this.tell();
  }

  /** Shows an error until the next run, or until it is clicked. @param {string} message @param {string} meaning in the user's language */
  fail(message, meaning) {
    this.parts.fault.hidden = !message;
    this.parts.fault.textContent = meaning ? `${meaning}\n${message}` : message;
    this.parts.fault.title = meaning ? message : "";
  }

  /** Shows a notice over the picture until the next run. @param {string} notice */
  say(notice) {
    this.notice = notice;
    this.tell();
  }

  tell() {
    const busy = this.running || this.loading !== null;
    const text = messageOf(this.options.texts, busy, this);
    this.element.setAttribute("aria-busy", String(busy));
    if (this.parts.message.textContent !== text) this.parts.message.textContent = text;
    this.parts.message.classList.toggle("ssr-over", Boolean(this.shown?.image));
  }

  /** @param {number} value */
  setOpacity(value) {
    this.opacity = value;
    this.parts.slider.value = String(value);
    this.draw();
  }

  /** Reads the points again: they may have been typed, pasted or undone, or a link may give them now. */
  showPoints() {
    this.editor?.read();
    const { points, texts } = this.options;
    const [editable, movable] = [this.shown?.subject.editable ?? true, this.movable()];
    const told = !editable ? texts.seen : [points && !points.linked() && texts.click, movable && texts.frame].filter(Boolean).join(". ");
    this.canvas.title = told;
    this.canvas.setAttribute("aria-label", told || texts.picture);
    this.parts.slider.hidden = this.shown ? !this.shown.subject.map : !this.options.maps;
    this.parts.clear.hidden = !this.editor?.points.length;
    this.parts.unframe.hidden = !editable || !this.cropText().trim();
    this.canvas.tabIndex = movable ? 0 : -1;
    this.dropped.show();
    this.draw();
  }

  /** Another picture has come: takes out points and a frame that were set in the former, and offers to bring them back. Nothing runs. */
  dropMarks() {
    this.dropped.drop();
    this.showPoints();
  }

  /** @param {Point[]} points */
  writePoints(points) {
    this.dropped.forget();
    this.options.points?.write(formatPoints(points));
    this.selected = points.length > 0 || Boolean(this.options.points?.selectsWithout());
    this.showPoints();
    if (this.selected) this.options.onRun();
  }

  /** @param {string} text */
  writeCrop(text) {
    this.dropped.forget();
    this.options.crop?.write(text);
    this.showPoints();
    this.options.onRun();
  }

  /** The crop input; "" where a link gives it. */
  cropText() {
    const { crop } = this.options;
    return crop && !crop.linked() ? crop.read() : "";
  }

  /** What is seen, in shares of the picture. @returns {number[]} */
  frame() {
    const { shown, framing } = this;
    return shown ? frameOf(shown.subject, framing?.drag?.frame ?? null, this.cropText()) : [0, 0, 1, 1];
  }

  /** Whether the frame lies around what is marked, wherever that is: points beside it count too. */
  followsMarks() {
    return Boolean(this.shown?.subject.around) && !this.cropText().trim();
  }

  /** Whether the frame may be drawn by hand. Around what is marked it may not: a stroke that begins near it would end the following. */
  movable() {
    const { crop } = this.options;
    return crop !== null && !crop.linked() && (this.shown?.subject.editable ?? true) && !this.followsMarks();
  }

  /** @param {number[]} shares @returns {import("./crop.js").Frame} */
  pixels([left, top, right, bottom]) {
    const { width, height } = this.shown?.subject ?? { width: 1, height: 1 };
    return [left * width, top * height, right * width, bottom * height];
  }

  draw() {
    const subject = this.shown?.subject;
    const handles = Boolean(this.framing?.near && subject && this.movable());
    const map = subject?.words[this.chips.word]?.map ?? subject?.map ?? null;
    drawSubject(this.canvas, this.shown, this.selected, map, this.opacity, (subject?.editable && this.editor?.visible) || [], this.frame(), handles);
  }
}
