// @ts-check
// A small copy of what a view shows, in the workflow: after the page is loaded anew the picture is back before anything runs.

import { keepProperty } from "./graph.js";
import { readKept } from "./payload.js";

/**
 * @typedef {import("./payload.js").Subject} Subject
 * @typedef {{ subject: Subject, origin: string }} Kept origin: what it was made of (originOf)
 */

const PROPERTY = "ssr_picture";
/** Longer side, in pixels, and quality of the copy: some 8 kB. */
const SIDE = 192;
const QUALITY = 0.7;
const ON_BLACK = "#000";

/** @param {any} node @param {Subject} subject @param {HTMLImageElement} image @param {string} origin */
export function keep(node, subject, image, origin) {
  const scale = Math.min(1, SIDE / Math.max(image.naturalWidth, image.naturalHeight));
  const canvas = document.createElement("canvas");
  canvas.width = Math.max(1, Math.round(image.naturalWidth * scale));
  canvas.height = Math.max(1, Math.round(image.naturalHeight * scale));
  const context = canvas.getContext("2d");
  if (!context) return;
  context.fillStyle = ON_BLACK;
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.imageSmoothingQuality = "high";
  context.drawImage(image, 0, 0, canvas.width, canvas.height);
  const { width, height, box, grid, framed, around, editable } = subject;
  const marks = {
    ...(subject.map ? { map: letters(subject.map) } : {}),
    ...(subject.marked ? { marked: letters(subject.marked) } : {}),
    words: subject.words.map(({ text, map }) => ({ text, map: letters(map) })),
  };
  const told = { width, height, box, grid, framed, around, editable, ...marks };
  keepProperty(node, PROPERTY, { picture: canvas.toDataURL("image/jpeg", QUALITY), ...told, origin });
}

/** @param {any} node */
export function forget(node) {
  keepProperty(node, PROPERTY, undefined);
}

/** @param {any} node @returns {Kept | null} */
export function kept(node) {
  return readKept(node.properties[PROPERTY]);
}

/** @param {Uint8Array} bytes */
function letters(bytes) {
  return btoa(String.fromCharCode(...bytes));
}
