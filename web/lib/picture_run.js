// @ts-check
// A run that shows the picture of a node in which nothing says yet what to take: Select by Points runs in its place, which shows a picture
// to be clicked on. In the graph nothing changes; in the prompt of this one run that entry does, on its way to the server.

import { api } from "../../../scripts/api.js";
import { executionId } from "./graph.js";
import { queueAlone } from "./solo_run.js";

/**
 * @typedef {{ class_type: string, inputs: Record<string, unknown> }} Entry of a prompt
 * @typedef {{ output: Record<string, Entry>, workflow: unknown }} Prompt
 */

const SHOWS = "SSR_SelectByPoints";

/** @type {Set<string>} the server's ids of nodes of which the picture is asked for */
const asked = new Set();

/** To be called once, before anything is queued. */
export function watchPrompts() {
  const { queuePrompt } = /** @type {any} */ (api);
  /** @type {any} */ (api).queuePrompt = function (/** @type {number} */ number, /** @type {Prompt} */ prompt, /** @type {any} */ options, /** @type {any[]} */ ...more) {
    const targets = /** @type {string[]} */ (options?.partialExecutionTargets ?? []);
    const shown = targets.length === 1 && asked.delete(String(targets[0])) ? exchanged(prompt, String(targets[0])) : prompt;
    return queuePrompt.call(this, number, shown, options, ...more);
  };
}

/** Queues it in front of everything. @param {any} node @returns {Promise<boolean>} */
export function queuePicture(node) {
  asked.add(executionId(node));
  return queueAlone(node);
}

/** Queues the node as it is. @param {any} node @returns {Promise<boolean>} */
export function queueNode(node) {
  asked.delete(executionId(node)); // of a run that never came about
  return queueAlone(node);
}

/** @param {Prompt} prompt @param {string} target @returns {Prompt} */
function exchanged(prompt, target) {
  const entry = prompt.output[target];
  if (!entry) return prompt;
  const { image, clip_vision, fit, crop } = entry.inputs;
  const inputs = Object.fromEntries(Object.entries({ image, clip_vision, fit, crop, points: "" }).filter(([, value]) => value !== undefined));
  return { ...prompt, output: { ...prompt.output, [target]: { ...entry, class_type: SHOWS, inputs } } };
}
