// @ts-check
// Zooming and panning over the view. Nodes 2.0 passes on wheel and middle button by itself; under the canvas renderer elements keep them.

import { app } from "../../../scripts/app.js";

const MIDDLE = 1;
const MIDDLE_HELD = 4;

/** @param {HTMLElement} element @param {AbortSignal} signal */
export function forwardToCanvas(element, signal) {
  element.addEventListener(
    "wheel",
    (event) => {
      if (LiteGraph.vueNodesMode || scrolls(event)) return;
      event.preventDefault();
      app.canvas.processMouseWheel(event);
    },
    { signal, passive: false },
  );
  /**
   * @param {"pointerdown" | "pointermove" | "pointerup"} kind
   * @param {(event: PointerEvent) => boolean} middle @param {(event: PointerEvent) => void} handle
   */
  const forward = (kind, middle, handle) =>
    element.addEventListener(kind, (event) => void (!LiteGraph.vueNodesMode && middle(event) && handle(event)), { signal });
  forward("pointerdown", ({ button }) => button === MIDDLE, (event) => app.canvas.processMouseDown(event));
  forward("pointermove", ({ buttons }) => (buttons & MIDDLE_HELD) > 0, (event) => app.canvas.processMouseMove(event));
  forward("pointerup", ({ button }) => button === MIDDLE, (event) => app.canvas.processMouseUp(event));
}

/** Whether the wheel is over more words than fit. @param {WheelEvent} event */
function scrolls({ target, ctrlKey }) {
  const row = /** @type {HTMLElement} */ (target).closest(".ssr-row");
  return !ctrlKey && row !== null && row.scrollHeight > row.clientHeight;
}
