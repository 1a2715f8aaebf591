// @ts-check
// Places in the reference, as the `points` input holds them: "x, y; x, y" in pixels, or JSON as point editors write it.
// Reads exactly what the node itself reads (parse_points in ssr_core/points.py): a text that the node refuses has no points here either.

/** @typedef {{ x: number, y: number }} Point */

/** As in ssr_core/points.py. Every pattern here is linear in the text's length: it is read at every keystroke and mouse move. */
const MOST = { letters: 100_000, points: 4096, pixels: 1 << 16 };

/** What Python's str.strip and str.split take for white space; JavaScript's own differ in five characters. */
const SPACE = /[\t-\r\x1c-\x20\x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]/;
const SPACES = new RegExp(`${SPACE.source}+`);
const DIGITS = "\\d(?:_?\\d)*";
/** A finite number as Python's float reads it; Number alone would also take "0x10" and "". */
const NUMBER = new RegExp(`^[+-]?(?:${DIGITS}(?:\\.(?:${DIGITS})?)?|\\.${DIGITS})(?:[eE][+-]?${DIGITS})?$`);

/** @param {string} text @returns {Point[] | null} null where the node would refuse the text */
export function parsePoints(text) {
  if (text.length > MOST.letters && [...text].length > MOST.letters) return null;
  const trimmed = strip(text);
  if (!trimmed) return [];
  const pairs = /^[[{]/.test(trimmed) ? pairsOfJson(text) : pairsOfText(trimmed);
  const valid = pairs?.every((pair) => pair.length === 2 && pair.every((value) => Math.abs(value) <= MOST.pixels));
  return pairs && valid && pairs.length <= MOST.points ? pairs.map(([x, y]) => ({ x, y })) : null;
}

/** @param {Point[]} points */
export function formatPoints(points) {
  return points.map(({ x, y }) => `${x}, ${y}`).join("; ");
}

/** @param {string} text @returns {number[][]} */
function pairsOfText(text) {
  const parts = text.split(/[;\n]/).filter(strip);
  return parts.map(numbersOf);
}

/** Numbers with commas or white space between them; NaN for what is none. @param {string} text @returns {number[]} */
export function numbersOf(text) {
  return strip(text.replaceAll(",", " ")).split(SPACES).map(number);
}

/** @param {string} text @returns {number[][] | null} */
function pairsOfJson(text) {
  let content;
  try {
    content = JSON.parse(text);
  } catch {
    return null;
  }
  if (!Array.isArray(content)) return Object.keys(content).length ? null : [];
  return content.map((item) => {
    const pair = Array.isArray(item) ? item : [item?.x, item?.y];
    return pair.map((value) => (typeof value === "number" || typeof value === "boolean" ? Number(value) : NaN));
  });
}

/** @param {string} text @returns {number} NaN if it is none */
function number(text) {
  const digits = text.replace(/\p{Nd}/gu, western);
  return NUMBER.test(digits) ? Number(digits.replaceAll("_", "")) : NaN;
}

/** Python reads the digits of every script. In Unicode they stand in runs of ten, from zero to nine. @param {string} digit */
function western(digit) {
  const code = Number(digit.codePointAt(0));
  let first = code;
  while (/\p{Nd}/u.test(String.fromCodePoint(first - 1))) first--;
  return String((code - first) % 10);
}

/** A loop, as a pattern for the end would try every run of white space in the middle again and again. @param {string} text */
export function strip(text) {
  let first = 0;
  let last = text.length;
  while (first < last && SPACE.test(text[first])) first++;
  while (last > first && SPACE.test(text[last - 1])) last--;
  return text.slice(first, last);
}
