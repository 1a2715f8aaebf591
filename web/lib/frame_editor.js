// @ts-check
// Moving and resizing the dashed frame, with the mouse at its edges and corners and with the keyboard. Every drag or key writes the crop once.

import { exactly, pointUnder } from "./drawing.js";
import { moved, resized } from "./crop.js";

/**
 * @typedef {import("./crop.js").Frame} Frame
 * @typedef {import("./crop.js").Corner} Corner
 * @typedef {import("./payload.js").Subject} Subject
 * @typedef {{ subject: () => Subject | null, frame: () => Frame, square: () => boolean, points: () => import("./points.js").Point[],
 *   write: (frame: Frame) => void, changed: () => void, clicked: (event: PointerEvent) => void }} Owner subject: null while its frame
 *   cannot be changed; frame: in pixels; clicked: a click that dragged nothing, and meant what is under it
 */

/** How near to a corner or an edge, in screen pixels, the mouse takes it. */
const NEAR = { corner: 10, edge: 6 };
/** Screen pixels within which a press that moves is still a click. */
const STILL = 3;
/** Of the picture's shorter side, that a key moves. */
const STEP = 1 / 50;
/** @type {Record<string, [number, number]>} */
const ARROWS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

export class FrameEditor {
  /** @param {HTMLCanvasElement} canvas @param {Owner} owner */
  constructor(canvas, owner) {
    this.canvas = canvas;
    this.owner = owner;
    /** @type {{ frame: Frame, listening: AbortController } | null} under way */ this.drag = null;
    /** Whether the handles are to be seen: the mouse or the keyboard is there. */ this.near = false;
  }

  /** After the points' own listeners, so that the cursor is this one's at last. @param {AbortSignal} signal */
  listen(signal) {
    const on = (/** @type {string} */ kind, /** @type {(event: any) => void} */ act, capture = false) =>
      this.canvas.addEventListener(kind, act, { signal, capture });
    on("pointerdown", (event) => this.start(event), true);
    on("pointermove", (event) => this.showCursor(event));
    on("keydown", (event) => this.press(event));
    for (const kind of ["pointerenter", "focus"]) on(kind, () => this.show(true));
    for (const kind of ["pointerleave", "blur"]) on(kind, () => this.show(document.activeElement === this.canvas));
  }

  /** @param {boolean} near */
  show(near) {
    this.near = near;
    this.owner.changed();
  }

  /** @param {PointerEvent} event @returns {Corner | "move" | null} what the mouse would take */
  handle(event) {
    const subject = this.owner.subject();
    if (!subject || pointUnder(this.canvas, subject, event, this.owner.points()) >= 0) return null;
    const [left, top, right, bottom] = this.owner.frame();
    const { x, y, scale } = exactly(this.canvas, subject, event);
    const away = { w: Math.abs(x - left) * scale, e: Math.abs(x - right) * scale, n: Math.abs(y - top) * scale, s: Math.abs(y - bottom) * scale };
    const corner = /** @type {Corner[]} */ (["nw", "ne", "sw", "se"]).find(
      (one) => Math.max(away[/** @type {"n" | "s"} */ (one[0])], away[/** @type {"w" | "e"} */ (one[1])]) < NEAR.corner,
    );
    if (corner) return corner;
    const slack = NEAR.edge / scale;
    const beside = x > left - slack && x < right + slack && y > top - slack && y < bottom + slack;
    const room = right - left < subject.width || bottom - top < subject.height;
    return beside && room && Math.min(...Object.values(away)) < NEAR.edge ? "move" : null;
  }

  /** @param {PointerEvent} event */
  showCursor(event) {
    if (this.drag || event.buttons) return;
    const handle = this.handle(event);
    if (handle) this.canvas.style.cursor = handle === "move" ? "move" : handle === "nw" || handle === "se" ? "nwse-resize" : "nesw-resize";
  }

  /** @param {PointerEvent} event */
  start(event) {
    const subject = this.owner.subject();
    const handle = this.handle(event);
    if (!subject || !handle || event.button !== 0 || !event.isPrimary || this.drag) return;
    event.stopImmediatePropagation(); // neither a point nor the node is meant
    event.preventDefault();
    this.canvas.focus({ preventScroll: true });
    const listening = new AbortController();
    const first = this.owner.frame();
    const from = exactly(this.canvas, subject, event);
    this.drag = { frame: first, listening };
    const on = (/** @type {string} */ kind, /** @type {(event: any) => void} */ act) =>
      this.canvas.addEventListener(kind, (/** @type {any} */ late) => late.pointerId === event.pointerId && act(late), { signal: listening.signal });
    on("pointermove", (late) => {
      if (this.drag?.frame === first && Math.hypot(late.clientX - event.clientX, late.clientY - event.clientY) < STILL) return;
      const to = exactly(this.canvas, subject, late);
      const { width, height } = subject;
      const whole = /** @type {Frame} */ (first.map(Math.round));
      const frame =
        handle === "move" ? moved(whole, to.x - from.x, to.y - from.y, width, height) : resized(whole, handle, to, this.owner.square(), width, height);
      this.drag = { frame, listening };
      this.owner.changed();
    });
    on("pointerup", (late) => this.end(first, late));
    on("lostpointercapture", () => this.end(first));
    on("pointercancel", () => this.end(null));
    this.canvas.setPointerCapture(event.pointerId);
  }

  /**
   * @param {Frame | null} first the frame as it was; null leaves the input as it was
   * @param {PointerEvent} [event] of the button that was let go; where nothing was dragged it was a click
   */
  end(first, event) {
    const frame = this.drag?.frame;
    this.leave();
    if (first && frame && frame.join() !== first.join()) this.owner.write(frame);
    else if (first && event) this.owner.clicked(event);
    this.owner.changed();
  }

  /** Arrows move the frame; with Shift they draw its lower right corner. @param {KeyboardEvent} event */
  press(event) {
    const subject = this.owner.subject();
    const arrow = ARROWS[event.key];
    if (!subject || !arrow || event.ctrlKey || event.metaKey || event.altKey) return;
    event.preventDefault();
    event.stopPropagation(); // the frontend moves nodes with arrows
    const { width, height } = subject;
    const step = Math.max(1, Math.round(Math.min(width, height) * STEP));
    const frame = /** @type {Frame} */ (this.owner.frame().map(Math.round));
    const [x, y] = arrow.map((way) => way * step);
    const square = this.owner.square();
    const to = { x: frame[2] + (square ? x || y : x), y: frame[3] + (square ? x || y : y) };
    const changed = event.shiftKey ? resized(frame, "se", to, square, width, height) : moved(frame, x, y, width, height);
    if (changed.join() !== frame.join()) this.owner.write(changed);
  }

  /** The view leaves the page, or a drag is over. */
  leave() {
    this.drag?.listening.abort();
    this.drag = null;
  }
}
