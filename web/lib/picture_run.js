// @ts-check
// A run that shows the picture of a node in which nothing says yet what to take: Select by Points runs in its place, which shows a picture
// to be clicked on. In the graph nothing changes.

import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";
import { executionId } from "./graph.js";

const SHOWS = "SSR_SelectByPoints";

/** Queues it in front of everything. Throws what the frontend does where the server refuses it. @param {any} node @returns {Promise<boolean>} */
export async function queuePicture(node) {
  const target = executionId(node);
  const { output, workflow } = await app.graphToPrompt();
  const nodes = /** @type {Record<string, { class_type: string, inputs: Record<string, unknown> }>} */ (output);
  const { image, clip_vision, fit, crop } = nodes[target].inputs;
  const inputs = Object.fromEntries(Object.entries({ image, clip_vision, fit, crop, points: "" }).filter(([, value]) => value !== undefined));
  /** @type {typeof nodes} */ const needed = { [target]: { ...nodes[target], class_type: SHOWS, inputs } };
  const waiting = [needed[target]];
  for (let next = waiting.pop(); next; next = waiting.pop()) {
    for (const source of Object.values(next.inputs)) {
      const id = Array.isArray(source) ? String(source[0]) : "";
      if (!nodes[id] || needed[id]) continue;
      needed[id] = nodes[id];
      waiting.push(nodes[id]);
    }
  }
  await api.queuePrompt(-1, /** @type {any} */ ({ output: needed, workflow }));
  return true;
}
