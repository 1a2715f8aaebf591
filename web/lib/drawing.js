// @ts-check
// Draws a reference with a query's map over it, and tells which pixel of the reference is under the mouse.

import { linePicture, shadePicture } from "./heat.js";

/**
 * @typedef {import("./payload.js").Subject} Subject
 * @typedef {import("./points.js").Point} Point
 * @typedef {{ x: number, y: number, width: number, height: number }} Rect
 * @typedef {{ subject: Subject, image: HTMLImageElement | null }} Shown
 */

/** Opacity of the dark over what is not marked, where there is no map; with one, a white line tells what is marked. */
const MARKED_SHADE = 0.6;
const MARKED_LINE = [255, 255, 255];
const POINT_RADIUS = 5;
/** Length of the marks at a frame's corners, in screen pixels. */
const CORNER = 12;
/** How near to a point, in screen pixels, a click removes it. */
const GRAB = 8;
/** The box comes in shares of the picture; multiplied by the picture's sides it may miss a whole number by its last digit. */
const ROUNDING = 1e-6;

/**
 * @param {HTMLCanvasElement} canvas as large as its place on the page
 * @param {Shown | null} shown @param {boolean} selected whether anything is selected still @param {Uint8Array | null} map of what looks
 * @param {number} opacity @param {Point[]} points @param {number[]} frame what is seen, in shares of the picture
 * @param {boolean} handles whether the frame's corners are shown, to be taken
 */
export function drawSubject(canvas, shown, selected, map, opacity, points, frame, handles) {
  const ratio = window.devicePixelRatio || 1;
  canvas.width = Math.max(1, canvas.clientWidth * ratio);
  canvas.height = Math.max(1, canvas.clientHeight * ratio);
  const context = canvas.getContext("2d");
  if (!shown?.image || !context) return;
  const { subject, image } = shown;
  const whole = place(canvas, subject);
  const box = within(whole, subject.box);
  context.save();
  context.beginPath();
  context.rect(whole.x, whole.y, whole.width, whole.height);
  context.clip();
  context.drawImage(image, whole.x, whole.y, whole.width, whole.height);
  context.imageSmoothingQuality = "high";
  if (selected && map) {
    context.globalAlpha = opacity;
    for (let layer = 0; layer < 2; layer++) context.drawImage(shadePicture(map, subject.grid), ...box);
    context.globalAlpha = Math.min(1, 2 * opacity);
    context.drawImage(linePicture(map, subject.grid), ...box);
  }
  context.globalAlpha = map ? 1 : MARKED_SHADE;
  if (selected && subject.marked) {
    const marks = map ? linePicture(subject.marked, subject.grid, MARKED_LINE) : shadePicture(subject.marked, subject.grid);
    context.drawImage(marks, ...box);
  }
  context.globalAlpha = 1;
  drawFrame(context, whole, within(whole, frame), subject.framed);
  context.restore();
  if (handles) drawCorners(context, within(whole, frame), ratio);
  for (const point of points) {
    const x = whole.x + ((point.x + 0.5) / subject.width) * whole.width;
    const y = whole.y + ((point.y + 0.5) / subject.height) * whole.height;
    context.beginPath();
    context.arc(x, y, POINT_RADIUS * ratio, 0, 2 * Math.PI);
    context.fillStyle = "#fff";
    context.fill();
    context.lineWidth = 2 * ratio;
    context.strokeStyle = "#000";
    context.stroke();
  }
}

/** A box in shares of the picture, on the canvas: x, y, width, height. @param {Rect} whole @param {number[]} box @returns {[number, number, number, number]} */
function within(whole, [left, top, right, bottom]) {
  return [whole.x + left * whole.width, whole.y + top * whole.height, (right - left) * whole.width, (bottom - top) * whole.height];
}

/** @param {CanvasRenderingContext2D} context @param {number[]} frame @param {number} ratio */
function drawCorners(context, [x, y, width, height], ratio) {
  const length = Math.min(CORNER * ratio, width / 2, height / 2);
  for (const [line, colour] of /** @type {[number, string][]} */ ([[5, "#000"], [3, "#fff"]])) {
    context.lineWidth = line * ratio;
    context.strokeStyle = colour;
    for (const [left, across] of [[x, length], [x + width, -length]]) {
      for (const [top, down] of [[y, length], [y + height, -length]]) {
        context.beginPath();
        context.moveTo(left, top + down);
        context.lineTo(left, top);
        context.lineTo(left + across, top);
        context.stroke();
      }
    }
  }
}

/**
 * A dashed line, also where the picture is dark already: beyond it clicks may be refused, and it can be dragged.
 * @param {CanvasRenderingContext2D} context @param {Rect} whole @param {number[]} box @param {boolean} dark whether the encoder sees nothing beyond
 */
function drawFrame(context, whole, [x, y, width, height], dark) {
  if (x <= whole.x + 1 && y <= whole.y + 1 && x + width >= whole.x + whole.width - 1 && y + height >= whole.y + whole.height - 1) return;
  if (dark) {
    context.beginPath();
    context.rect(whole.x, whole.y, whole.width, whole.height);
    context.rect(x, y, width, height);
    context.fillStyle = "rgba(0, 0, 0, 0.5)";
    context.fill("evenodd");
  }
  context.setLineDash([6, 4]);
  context.strokeStyle = "#fff";
  context.strokeRect(x + 0.5, y + 0.5, width - 1, height - 1);
}

/**
 * Where the picture is on the canvas, whole and in its proportions.
 * @param {HTMLCanvasElement} canvas @param {Subject} subject @returns {Rect}
 */
function place(canvas, subject) {
  const scale = Math.min(canvas.width / subject.width, canvas.height / subject.height);
  const width = subject.width * scale;
  const height = subject.height * scale;
  return { x: (canvas.width - width) / 2, y: (canvas.height - height) / 2, width, height };
}

/**
 * The mouse's place in the reference, in its pixels with fractions, at any zoom of the page; scale: screen pixels for one of these.
 * @param {HTMLCanvasElement} canvas @param {Subject} subject @param {MouseEvent} event
 */
export function exactly(canvas, subject, event) {
  const seen = canvas.getBoundingClientRect();
  const whole = place(canvas, subject);
  const x = (((event.clientX - seen.left) / seen.width) * canvas.width - whole.x) / whole.width;
  const y = (((event.clientY - seen.top) / seen.height) * canvas.height - whole.y) / whole.height;
  return { x: x * subject.width, y: y * subject.height, scale: (whole.width / subject.width) * (seen.width / canvas.width) };
}

/**
 * The pixel of the reference under the mouse; null where points select nothing.
 * @param {HTMLCanvasElement} canvas @param {Subject} subject @param {number[]} reach where they do, in shares of the picture @param {MouseEvent} event
 * @returns {Point | null}
 */
export function pixelAt(canvas, subject, [left, top, right, bottom], event) {
  const { x, y } = exactly(canvas, subject, event);
  const column = Math.floor(x);
  const row = Math.floor(y);
  const inside = (/** @type {number} */ at, /** @type {number} */ low, /** @type {number} */ high, /** @type {number} */ side) =>
    at >= 0 && at < side && at + ROUNDING >= low * side && at + ROUNDING < high * side;
  return inside(column, left, right, subject.width) && inside(row, top, bottom, subject.height) ? { x: column, y: row } : null;
}

/** Whether the mouse is over the reference, seen or not. @param {HTMLCanvasElement} canvas @param {Subject} subject @param {MouseEvent} event */
export function inPicture(canvas, subject, event) {
  const { x, y } = exactly(canvas, subject, event);
  return x >= 0 && y >= 0 && x < subject.width && y < subject.height;
}

/**
 * The number of the point under the mouse, or -1.
 * @param {HTMLCanvasElement} canvas @param {Subject} subject @param {MouseEvent} event @param {Point[]} points
 */
export function pointUnder(canvas, subject, event, points) {
  const { x, y, scale } = exactly(canvas, subject, event);
  return points.findIndex((point) => Math.hypot(point.x + 0.5 - x, point.y + 0.5 - y) * scale < GRAB);
}
