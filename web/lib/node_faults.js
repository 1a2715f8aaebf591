// @ts-check
// What the host says went wrong with a node, told to that node: errors while it ran, and prompts that were refused because of it.

import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";
import { executionId } from "./graph.js";
import { explanation } from "./help_page.js";

/** @typedef {(node: any, message: string, meaning: string) => void} Tell meaning: what the message means, in the user's language, or "" */

/** @param {() => any[]} nodes @param {() => string} language @param {Tell} tell */
export function tellFaults(nodes, language, tell) {
  api.addEventListener("execution_error", ({ detail }) => {
    const node = nodes().find((one) => executionId(one) === String(detail.node_id));
    if (node) void told(node, String(detail.exception_message).trim(), language(), tell);
  });
}

/**
 * A refused prompt is told to nobody; but the frontend draws its canvas afterwards, in both renderers.
 * @param {() => any[]} nodes @param {() => string} language @param {Tell} tell
 */
export function tellRefusals(nodes, language, tell) {
  const canvas = /** @type {any} */ (app.canvas);
  const { onDrawForeground } = canvas;
  /** @type {unknown} */ let known = null;
  canvas.onDrawForeground = function (/** @type {unknown[]} */ ...drawing) {
    onDrawForeground?.apply(this, drawing);
    const faults = app.lastNodeErrors;
    if (faults === known) return;
    known = faults;
    for (const node of faults ? nodes() : []) {
      const errors = faults?.[executionId(node)]?.errors;
      if (errors?.length) void told(node, errors.map(({ message, details }) => (details ? `${message}: ${details}` : message)).join("\n"), language(), tell);
    }
  };
}

/** @param {any} node @param {string} message @param {string} language @param {Tell} tell */
async function told(node, message, language, tell) {
  tell(node, message, await explanation(node.comfyClass ?? node.type, language, message));
}
