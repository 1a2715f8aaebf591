// @ts-check
// Places in the reference, as the `points` input holds them: "x, y; x, y" in pixels. JSON of point editors is read too.

/** @typedef {{ x: number, y: number }} Point */

/** @param {string} text @returns {Point[]} what can be read of it */
export function parsePoints(text) {
  const trimmed = text.trim();
  if (/^[[{]/.test(trimmed)) {
    try {
      const content = JSON.parse(trimmed);
      return keepFinite((Array.isArray(content) ? content : []).map((item) => ({ x: item?.x ?? item?.[0], y: item?.y ?? item?.[1] })));
    } catch {
      return [];
    }
  }
  return keepFinite(
    trimmed.split(/[;\n]/).map((part) => {
      const [x, y] = part.replaceAll(",", " ").trim().split(/\s+/);
      return { x: x ? Number(x) : NaN, y: y ? Number(y) : NaN };
    }),
  );
}

/** @param {Point[]} points */
export function formatPoints(points) {
  return points.map(({ x, y }) => `${Math.round(x)}, ${Math.round(y)}`).join("; ");
}

/** @param {any[]} points @returns {Point[]} */
function keepFinite(points) {
  return points.map(({ x, y }) => ({ x: Number(x), y: Number(y) })).filter(({ x, y }) => Number.isFinite(x) && Number.isFinite(y));
}
