// @ts-check
// What the server tells about subjects. A shared workflow is untrusted: everything is checked, nothing is trusted to be text or short.

/**
 * grid: patches along a side of the box; map: null where there is nothing that looks; framed: whether what is outside the box is darkened;
 * around: whether the box was laid around what is marked, so that points beside it count too; editable: whether its places are those that
 * points tell; kept: the picture itself as a data URL, where the workflow has it.
 * @typedef {{ text: string, map: Uint8Array }} Word
 * @typedef {{ picture: Record<string, string>, kept: string, width: number, height: number, box: number[], grid: number,
 *   map: Uint8Array | null, words: Word[], marked: Uint8Array | null, framed: boolean, around: boolean, editable: boolean }} Subject
 */

/** Far beyond what the node sends: 16 x 16 patches, CLIP's 77 tokens, a batch that anybody would leaf through. */
const MOST = { grid: 64, words: 80, subjects: 64, text: 200, side: 1 << 16, box: 1 << 16, kept: 100_000 };
/** What a browser makes of a small picture. */
const KEPT = /^data:image\/(?:jpeg|png);base64,[A-Za-z0-9+/]+={0,2}$/;

/** @param {any} output what a node's run gave to the browser @returns {Subject[]} */
export function readSubjects(output) {
  return list(output?.ssr_subject, MOST.subjects)
    .map(readSubject)
    .filter((subject) => subject !== null);
}

/** What keepsake.js left in a node's properties. @param {any} found @returns {{ subject: Subject, origin: string } | null} */
export function readKept(found) {
  const picture = found?.picture;
  if (typeof picture !== "string" || picture.length > MOST.kept || !KEPT.test(picture)) return null;
  const subject = readSubject({ ...found, picture: null });
  return subject && { subject: { ...subject, kept: picture }, origin: words(found.origin) };
}

/** @param {any} entry @returns {Subject | null} */
function readSubject(entry) {
  const map = entry?.map === undefined ? null : bytes(entry.map);
  const grid = map ? Math.sqrt(map.length) : Number(entry?.grid);
  const [width, height] = [Number(entry?.width), Number(entry?.height)];
  const box = list(entry?.box, 5).map(Number);
  const [left, top, right, bottom] = box;
  if (!Number.isInteger(grid) || grid < 1 || grid > MOST.grid || ![width, height].every((side) => side >= 1 && side <= MOST.side)) return null;
  if (box.length !== 4 || !box.every((side) => Math.abs(side) <= MOST.box) || right <= left || bottom <= top) return null;
  const fits = (/** @type {Uint8Array} */ found) => found.length === grid ** 2;
  const marked = entry.marked ? bytes(entry.marked) : null;
  return {
    picture: Object.fromEntries(["filename", "subfolder", "type"].map((key) => [key, words(entry.picture?.[key])])),
    kept: "",
    width,
    height,
    box,
    grid,
    map,
    words: list(entry.words, MOST.words)
      .map((word) => ({ text: words(word?.text), map: bytes(word?.map) }))
      .filter((word) => fits(word.map)),
    marked: marked && fits(marked) ? marked : null,
    framed: entry.framed !== false,
    around: entry.around === true,
    editable: entry.editable !== false,
  };
}

/** @param {unknown} value @param {number} most @returns {any[]} */
function list(value, most) {
  return Array.isArray(value) ? value.slice(0, most) : [];
}

/** @param {unknown} value */
function words(value) {
  return typeof value === "string" ? value.slice(0, MOST.text) : "";
}

/** @param {unknown} text base64 @returns {Uint8Array} */
function bytes(text) {
  if (typeof text !== "string" || text.length > (MOST.grid ** 2 * 4) / 3 + 4) return new Uint8Array();
  try {
    const found = Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
    return found.length > MOST.grid ** 2 ? new Uint8Array() : found;
  } catch {
    return new Uint8Array();
  }
}
