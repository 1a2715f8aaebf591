// @ts-check
// Finding nodes: those that exist, the way to one through subgraphs, and the ids by which the server and the frontend's results know it.

import { app } from "../../../scripts/app.js";

/** @type {Map<string, string>} subgraph -> the node through which it was opened last; ids, because undo makes both anew */
const opened = new Map();

function rootGraph() {
  const graph = /** @type {any} */ (app.graph);
  return graph?.rootGraph ?? graph;
}

/** Every node of the open workflow, the root graph's first. @returns {any[]} */
export function liveNodes() {
  const root = rootGraph();
  if (!root) return [];
  return [root, ...(root.subgraphs?.values() ?? [])].flatMap((graph) => [...graph.nodes]);
}

/** A subgraph can be used by several nodes; remembers through which one the user opened it. @param {Event} event */
export function rememberInstance(event) {
  const { subgraph, fromNode } = /** @type {CustomEvent} */ (event).detail ?? {};
  const canvas = /** @type {any} */ (app.canvas);
  // Older frontends do not send fromNode; there a click on its node opens a subgraph.
  const candidates = [fromNode, canvas.node_over, ...Object.values(canvas.selected_nodes ?? {})];
  const around = candidates.find((node) => subgraph && node?.subgraph === subgraph);
  if (around) opened.set(subgraph.id, address(around));
}

/** @param {any} node */
function address(node) {
  return `${node.graph?.id}:${node.id}`;
}

/** The subgraph nodes around a node, outermost first, and the node itself. @param {any} node @returns {any[]} */
export function pathTo(node) {
  const root = rootGraph();
  const path = [node];
  for (let { graph } = node; graph && graph !== root; { graph } = path[0]) {
    const instances = liveNodes().filter((other) => other.subgraph === graph);
    const around = instances.find((instance) => address(instance) === opened.get(graph.id)) ?? instances[0];
    if (!around) return [node];
    path.unshift(around);
  }
  return path;
}

/** A node's id as the server knows it: ids of the subgraph nodes around it first. @param {any} node */
export function executionId(node) {
  return pathTo(node)
    .map(({ id }) => id)
    .join(":");
}

/**
 * What the node's last run gave. The frontend keeps it under the id within a subgraph; older ones, after a change of tab, under the
 * server's id.
 * @param {any} node
 */
export function lastOutput(node) {
  const { graph } = node;
  if (!graph) return undefined;
  return app.nodeOutputs?.[graph === rootGraph() ? String(node.id) : address(node)] ?? app.nodeOutputs?.[executionId(node)];
}

/** @param {any} node @param {string} name of an input or of a widget's input */
export function isLinked(node, name) {
  return Boolean(node.inputs?.some((/** @type {any} */ input) => input.name === name && input.link != null));
}
