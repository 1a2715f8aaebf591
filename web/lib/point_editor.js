// @ts-check
// Clicks and strokes on the picture become points. Every click or stroke reads the points input anew and writes it once, at its end.

import { inPicture, pixelAt, pointUnder } from "./drawing.js";
import { parsePoints } from "./points.js";

/**
 * @typedef {import("./drawing.js").Shown} Shown
 * @typedef {import("./points.js").Point} Point
 * @typedef {{ shown: () => Shown | null, reach: () => number[], read: () => string, linked: () => boolean, write: (points: Point[]) => void,
 *   changed: () => void, ended: () => void, outside: () => void }} Owner reach: where points may be set, in shares of the picture;
 *   outside: a click where they may not
 */

export class PointEditor {
  /** @param {HTMLCanvasElement} canvas @param {Owner} owner */
  constructor(canvas, owner) {
    this.canvas = canvas;
    this.owner = owner;
    /** @type {Point[]} */ this.points = [];
    /** @type {{ points: Point[], listening: AbortController } | null} under way */ this.stroke = null;
  }

  /** @returns {Point[]} the points to be drawn: the input's, and those of the stroke under way */
  get visible() {
    return this.stroke?.points ?? this.points;
  }

  /** Reads the points again: they may have been typed, pasted or undone. */
  read() {
    this.points = this.owner.linked() ? [] : (parsePoints(this.owner.read()) ?? []);
  }

  /** @param {AbortSignal} signal */
  listen(signal) {
    this.canvas.addEventListener("pointerdown", (event) => this.start(event), { signal });
    this.canvas.addEventListener("pointermove", (event) => this.showCursor(event), { signal });
  }

  /** @param {PointerEvent} event */
  showCursor(event) {
    const shown = this.editable();
    if (this.stroke) return;
    const free = () => (shown && pixelAt(this.canvas, shown.subject, this.owner.reach(), event) ? "crosshair" : "not-allowed");
    this.canvas.style.cursor = !shown ? "" : pointUnder(this.canvas, shown.subject, event, this.points) < 0 ? free() : "pointer";
  }

  /** @returns {Shown | null} */
  editable() {
    const shown = this.owner.shown();
    return shown?.image && shown.subject.editable && !this.owner.linked() ? shown : null;
  }

  /** @param {PointerEvent} event */
  start(event) {
    const shown = this.editable();
    if (!shown || event.button !== 0 || !event.isPrimary || this.stroke) return;
    this.read();
    const { subject } = shown;
    const known = pointUnder(this.canvas, subject, event, this.points);
    const first = pixelAt(this.canvas, subject, this.owner.reach(), event);
    if (known < 0 && !first) {
      if (inPicture(this.canvas, subject, event)) this.owner.outside();
      return;
    }
    event.stopPropagation(); // the node is not dragged
    event.preventDefault();
    if (known >= 0) this.owner.write(this.points.filter((_, number) => number !== known));
    else if (first) this.follow(event, subject, [...this.points, first]);
  }

  /** A click without a stroke. @param {PointerEvent} event */
  click(event) {
    const shown = this.editable();
    if (!shown) return;
    this.read();
    const point = pixelAt(this.canvas, shown.subject, this.owner.reach(), event);
    if (point) this.owner.write([...this.points, point]);
    else if (inPicture(this.canvas, shown.subject, event)) this.owner.outside();
  }

  /** @param {PointerEvent} event @param {import("./payload.js").Subject} subject @param {Point[]} points */
  follow({ pointerId }, subject, points) {
    const listening = new AbortController();
    this.stroke = { points, listening };
    const [left, top, right, bottom] = subject.around ? this.owner.reach() : subject.box;
    const patch = { x: ((right - left) * subject.width) / subject.grid, y: ((bottom - top) * subject.height) / subject.grid };
    /**
     * @param {"pointermove" | "pointerup" | "pointercancel" | "lostpointercapture"} kind
     * @param {(event: PointerEvent) => void} act
     */
    const on = (kind, act) =>
      this.canvas.addEventListener(kind, (event) => event.pointerId === pointerId && act(event), { signal: listening.signal });
    on("pointermove", (event) => {
      const point = pixelAt(this.canvas, subject, this.owner.reach(), event);
      const last = points[points.length - 1];
      if (!point || (Math.abs(point.x - last.x) < patch.x && Math.abs(point.y - last.y) < patch.y)) return;
      points.push(point);
      this.owner.changed();
    });
    on("pointerup", () => this.end(points));
    on("lostpointercapture", () => this.end(points));
    on("pointercancel", () => this.end(null));
    this.canvas.setPointerCapture(pointerId);
    this.owner.changed();
  }

  /** @param {Point[] | null} points null leaves the input as it was */
  end(points) {
    this.stroke?.listening.abort();
    this.stroke = null;
    this.owner.ended();
    if (points) this.owner.write(points);
    else this.owner.changed();
  }

  /** The view leaves the page. */
  leave() {
    this.stroke?.listening.abort();
    this.stroke = null;
  }
}
