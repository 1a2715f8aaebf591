// @ts-check
// Maps of patches as pictures to lay over a reference: dark where nothing looks, a line around what is lit. ssr_core/maps.py shows maps
// the same way. Each is painted once and kept as long as its map.

/** Colour and measures of ssr_core/maps.py: LINE, LINE_SHARE, FLAT. */
export const LINE = [255, 219, 51];
const LINE_SHARE = 1 / 96;
const FLAT = 1e-5;
/** Of the painted pictures, in pixels. */
const SIDE = 384;

/** @type {WeakMap<Uint8Array, HTMLCanvasElement>} */
const shades = new WeakMap();
/** @type {WeakMap<Uint8Array, HTMLCanvasElement>} */
const lines = new WeakMap();

/**
 * Black over everything that is not lit. Laid over a picture twice at the same opacity it leaves the square of the light that is left, as in Python.
 * @param {Uint8Array} lit 255 in full light @param {number} grid @param {number} [side] in pixels
 */
export function shadePicture(lit, grid, side = SIDE) {
  return kept(shades, lit, side, (pixels) => {
    enlarged(lit, grid, side).forEach((light, place) => (pixels[4 * place + 3] = 255 * (1 - light)));
  });
}

/**
 * The line around what is lit.
 * @param {Uint8Array} lit @param {number} grid @param {number[]} [colour] always the same for a map @param {number} [side] in pixels
 */
export function linePicture(lit, grid, colour = LINE, side = SIDE) {
  return kept(lines, lit, side, (pixels) => {
    const light = enlarged(lit, grid, side);
    const at = (/** @type {number} */ row, /** @type {number} */ column) =>
      light[Math.min(Math.max(row, 0), side - 1) * side + Math.min(Math.max(column, 0), side - 1)];
    const reach = Math.max(2, LINE_SHARE * side) / 2 + 0.5;
    for (let row = 0; row < side; row++) {
      for (let column = 0; column < side; column++) {
        const slope = Math.hypot(at(row, column + 1) - at(row, column - 1), at(row + 1, column) - at(row - 1, column)) / 2;
        const distance = Math.abs(at(row, column) - 0.5) / slope;
        pixels.set([...colour, slope > FLAT ? 255 * (reach - distance) : 0], 4 * (row * side + column));
      }
    }
  });
}

/** The light at each pixel, bilinear between the middles of patches. @param {Uint8Array} lit @param {number} grid @param {number} side */
function enlarged(lit, grid, side) {
  const steps = Array.from({ length: side }, (_, pixel) => {
    const place = Math.max(0, ((pixel + 0.5) * grid) / side - 0.5);
    const first = Math.floor(place);
    return { first, second: Math.min(first + 1, grid - 1), share: place - first };
  });
  const light = new Float32Array(side * side);
  steps.forEach((down, row) => {
    steps.forEach((across, column) => {
      const [upper, lower] = [down.first, down.second].map(
        (line) => lit[line * grid + across.first] * (1 - across.share) + lit[line * grid + across.second] * across.share,
      );
      light[row * side + column] = (upper * (1 - down.share) + lower * down.share) / 255;
    });
  });
  return light;
}

/**
 * @param {WeakMap<Uint8Array, HTMLCanvasElement>} pictures @param {Uint8Array} map @param {number} side
 * @param {(pixels: Uint8ClampedArray) => void} paint
 */
function kept(pictures, map, side, paint) {
  const known = pictures.get(map);
  if (known) return known;
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = side;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const image = context.createImageData(side, side);
  paint(image.data);
  context.putImageData(image, 0, 0);
  pictures.set(map, canvas);
  return canvas;
}
