// @ts-check
// What the server tells about subjects. A shared workflow is untrusted: everything is checked, nothing is trusted to be text or short.

/**
 * @typedef {{ text: string, map: Uint8Array }} Word
 * @typedef {{ picture: Record<string, string>, width: number, height: number, box: number[], grid: number,
 *   query: string, map: Uint8Array, words: Word[], marked: Uint8Array | null }} Subject
 */

/** @param {any} output what a node's run gave to the browser @returns {Subject[]} */
export function readSubjects(output) {
  const entries = Array.isArray(output?.ssr_subject) ? output.ssr_subject : [];
  return entries.map(readSubject).filter((/** @type {Subject | null} */ subject) => subject !== null);
}

/** @param {any} entry @returns {Subject | null} */
function readSubject(entry) {
  const map = bytes(entry?.map);
  const grid = Math.sqrt(map.length);
  const box = Array.isArray(entry?.box) ? entry.box.map(Number) : [];
  const width = Number(entry?.width);
  const height = Number(entry?.height);
  if (!Number.isInteger(grid) || grid < 1 || box.length !== 4 || ![...box, width, height].every(Number.isFinite)) return null;
  const picture = Object.fromEntries(
    ["filename", "subfolder", "type"].map((key) => [key, String(entry.picture?.[key] ?? "")]),
  );
  const fits = (/** @type {Uint8Array} */ found) => found.length === map.length;
  const marked = entry.marked ? bytes(entry.marked) : null;
  return {
    picture,
    width,
    height,
    box,
    grid,
    query: String(entry.query ?? ""),
    map,
    words: (Array.isArray(entry.words) ? entry.words : [])
      .map((/** @type {any} */ word) => ({ text: String(word?.text ?? ""), map: bytes(word?.map) }))
      .filter((/** @type {Word} */ word) => fits(word.map)),
    marked: marked && fits(marked) ? marked : null,
  };
}

/** @param {unknown} text base64 @returns {Uint8Array} */
function bytes(text) {
  try {
    return Uint8Array.from(atob(String(text ?? "")), (letter) => letter.charCodeAt(0));
  } catch {
    return new Uint8Array();
  }
}
