// @ts-check
// A map of patches as a small picture, in the colours of Subject Attention Map (ssr_core/maps.py). Each is painted once and kept as long as its map.

const GRADIENT = [
  [26, 13, 115],
  [13, 115, 217],
  [38, 204, 140],
  [250, 217, 38],
  [230, 38, 26],
];

/** @type {WeakMap<Uint8Array, HTMLCanvasElement>} */
const heats = new WeakMap();
/** @type {WeakMap<Uint8Array, HTMLCanvasElement>} */
const shades = new WeakMap();

/** @param {Uint8Array} map @param {number} grid @returns {HTMLCanvasElement} one pixel a patch, opaque where the query looks most */
export function heatPicture(map, grid) {
  return kept(heats, map, grid, (pixels, patch) => {
    const heat = map[patch] / 255;
    const place = heat * (GRADIENT.length - 1);
    const left = Math.min(Math.floor(place), GRADIENT.length - 2);
    for (let channel = 0; channel < 3; channel++) {
      pixels[4 * patch + channel] = GRADIENT[left][channel] + (GRADIENT[left + 1][channel] - GRADIENT[left][channel]) * (place - left);
    }
    pixels[4 * patch + 3] = map[patch];
  });
}

/** A shade over everything that is not marked. @param {Uint8Array} marked @param {number} grid */
export function shadePicture(marked, grid) {
  return kept(shades, marked, grid, (pixels, patch) => (pixels[4 * patch + 3] = 0.6 * (255 - marked[patch])));
}

/**
 * @param {WeakMap<Uint8Array, HTMLCanvasElement>} pictures @param {Uint8Array} map @param {number} grid
 * @param {(pixels: Uint8ClampedArray, patch: number) => void} paint
 */
function kept(pictures, map, grid, paint) {
  const known = pictures.get(map);
  if (known) return known;
  const canvas = document.createElement("canvas");
  canvas.width = canvas.height = grid;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const image = context.createImageData(grid, grid);
  for (let patch = 0; patch < grid * grid; patch++) paint(image.data, patch);
  context.putImageData(image, 0, 0);
  pictures.set(map, canvas);
  return canvas;
}
