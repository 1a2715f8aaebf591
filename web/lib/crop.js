// @ts-check
// The part of the reference that is framed, as the `crop` input holds it: "left, top, right, bottom" in pixels of the whole picture.
// Reads exactly what the node itself reads (ssr_core/crop.py), and says where the frame is and what moving and resizing makes of it.

import { numbersOf, strip } from "./points.js";

/** @typedef {[number, number, number, number]} Frame left, top, right, bottom */
/** @typedef {"nw" | "ne" | "sw" | "se"} Corner */

/** As in ssr_core/crop.py and points.py. */
const MOST = { letters: 400, pixels: 1 << 16 };
/** Sides of the smallest frame that a mouse can make, in pixels. */
const LEAST = 16;
/** Of the picture: by how much the box that a run tells may miss the crop it was made with. */
const HAIR = 0.01;

/** @param {string} text @returns {Frame | [] | null} [] for the whole picture; null where the node would refuse the text */
export function parseCrop(text) {
  const trimmed = strip(text);
  if (!trimmed) return [];
  if ([...text].length > MOST.letters) return null;
  const listed = trimmed.startsWith("[") && trimmed.endsWith("]") && trimmed.length > 1;
  const sides = numbersOf(listed ? trimmed.slice(1, -1) : trimmed);
  const valid = sides.length === 4 && sides.every((side) => Math.abs(side) <= MOST.pixels);
  return valid ? /** @type {Frame} */ (sides) : null;
}

/** @param {Frame} frame */
export function formatCrop(frame) {
  return frame.join(", ");
}

/** Whole pixels of a crop, ending where the picture does; null where it has none of them. @param {Frame} crop @param {number} width @param {number} height */
export function pixelsOf(crop, width, height) {
  const [left, top, right, bottom] = crop.map(Math.trunc);
  /** @type {Frame} */ const within = [Math.max(0, left), Math.max(0, top), Math.min(width, right), Math.min(height, bottom)];
  return within[0] < within[2] && within[1] < within[3] ? within : null;
}

/**
 * Where the frame of a picture is, in shares of it: as it is drawn or written now, or else as the shown result tells.
 * @param {import("./payload.js").Subject} subject @param {Frame | null} drawn in pixels @param {string} written the crop input
 * @returns {number[]}
 */
export function frameOf({ box, width, height, around }, drawn, written) {
  const seen = box.map((side) => Math.min(Math.max(side, 0), 1));
  const crop = parseCrop(written);
  const pixels = drawn ?? (crop?.length ? pixelsOf(crop, width, height) : null);
  if (!pixels) return seen;
  const framed = pixels.map((side, place) => side / (place % 2 ? height : width));
  const middle = !drawn && !around && seen.every((side, place) => (place < 2 ? side >= framed[place] - HAIR : side <= framed[place] + HAIR));
  return middle ? seen : framed; // a center crop of what is framed, if that is no square
}

/** A frame moved as far as the picture goes. @param {Frame} frame @param {number} x @param {number} y @param {number} width @param {number} height @returns {Frame} */
export function moved([left, top, right, bottom], x, y, width, height) {
  const across = Math.round(Math.min(Math.max(x, -left), width - right));
  const down = Math.round(Math.min(Math.max(y, -top), height - bottom));
  return [left + across, top + down, right + across, bottom + down];
}

/**
 * A frame whose corner is drawn to a place; the corner across stays.
 * @param {Frame} frame @param {Corner} corner @param {{ x: number, y: number }} to @param {boolean} square whether it must stay a square
 * @param {number} width of the picture @param {number} height @returns {Frame}
 */
export function resized([left, top, right, bottom], corner, to, square, width, height) {
  const west = corner.endsWith("w");
  const north = corner.startsWith("n");
  const [room, depth] = [west ? right : width - left, north ? bottom : height - top];
  const fit = (/** @type {number} */ length, /** @type {number} */ most) => Math.round(Math.min(Math.max(length, LEAST), most));
  let across = fit(west ? right - to.x : to.x - left, room);
  let down = fit(north ? bottom - to.y : to.y - top, depth);
  if (square) across = down = Math.min(Math.max(across, down), room, depth);
  return [west ? right - across : left, north ? bottom - down : top, west ? right : left + across, north ? bottom : top + down];
}
