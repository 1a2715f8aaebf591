// @ts-check
// What the host says went wrong with a node, told to that node: errors while it or what it needs ran, and prompts that were
// refused because of either.

import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";
import { executionId, withSources } from "./graph.js";
import { explanation } from "./help_page.js";

/**
 * @typedef {(node: any, message: string, meaning: string) => void} Tell meaning: what the message means, in the user's language, or ""
 * @typedef {{ type?: string, message: string, details?: string }} Refusal
 * @typedef {Record<string, { errors?: Refusal[] }>} Refusals by the server's id of a node
 */

/** @param {() => any[]} nodes @param {() => string} language @param {Tell} tell */
export function tellFaults(nodes, language, tell) {
  api.addEventListener("execution_error", ({ detail }) => {
    for (const node of nodes()) {
      const cause = withSources(node).find((one) => executionId(one) === String(detail.node_id));
      if (cause) void tellMeaning(node, cause, String(detail.exception_message).trim(), language(), tell);
    }
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
    for (const node of faults ? nodes() : []) tellRefusal(/** @type {Refusals} */ (faults), node, language(), tell);
  };
}

/** @param {Refusals} refusals @param {any} node @param {string} language @param {Tell} tell */
function tellRefusal(refusals, node, language, tell) {
  const cause = withSources(node).find((one) => refusals[executionId(one)]?.errors?.length);
  if (!cause) return;
  const told = new Set(refusals[executionId(cause)].errors?.map(words));
  void tellMeaning(node, cause, [...told].join("\n"), language, tell);
}

/** A node's own check is told once for every one of its inputs, whose name comes first. @param {Refusal} refusal */
function words({ type, message, details }) {
  const own = type === "custom_validation_failed" ? (details ?? "").match(/^\w+ - (.+)$/s) : null;
  if (own) return own[1];
  return details ? `${message}: ${details}` : message;
}

/** @param {any} node @param {any} cause the node itself, or one that it needs @param {string} message @param {string} language @param {Tell} tell */
async function tellMeaning(node, cause, message, language, tell) {
  const meaning = await explanation(cause.comfyClass ?? cause.type, language, message);
  const name = cause === node ? "" : `${cause.title}: `;
  tell(node, name + message, meaning && name + meaning);
}
