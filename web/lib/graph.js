// @ts-check
// Finding nodes: those that exist, the way to one through subgraphs, and the ids by which the server and the frontend's results know it.

import { app } from "../../../scripts/app.js";
import { api } from "../../../scripts/api.js";

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

/**
 * What an input is connected to. Inside a subgraph that may be outside of it, at the node through which it was opened.
 * @param {any} node @param {string} name of the input @param {any[]} path to the node (pathTo)
 * @returns {{ node: any, slot: number } | null}
 */
export function sourceOf(node, name, path) {
  const id = node.inputs?.find((/** @type {any} */ input) => input.name === name)?.link;
  const link = id == null ? null : (node.graph?.getLink?.(id) ?? node.graph?.links?.[id]);
  if (!link) return null;
  const origin = node.graph.getNodeById(link.origin_id);
  if (origin) return { node: origin, slot: link.origin_slot };
  const around = path[path.length - 2]; // the link comes from the subgraph's own inputs
  const outer = around?.inputs?.[link.origin_slot];
  return outer ? sourceOf(around, outer.name, path.slice(0, -1)) : null;
}

/** A node and all that it needs, itself first, nodes inside of subgraph nodes after these. @param {any} node @returns {any[]} */
export function withSources(node) {
  const found = [node];
  const add = (/** @type {any} */ one) => void (found.includes(one) || found.push(one));
  for (const one of found) {
    for (const { name } of one.inputs ?? []) {
      const source = sourceOf(one, name, pathTo(one));
      if (source) add(source.node);
    }
    (one.subgraph?.nodes ?? []).forEach(add);
  }
  return found;
}

/**
 * Keeps a value in a node's properties as if it had always been there: neither an edit that undo takes back, nor one that queues a
 * prompt where every change does. The tracker's last state gets it too, and hears that there is something to keep over a reload.
 * @param {any} node @param {string} name @param {unknown} value undefined takes it out
 */
export function keepProperty(node, name, value) {
  if (JSON.stringify(node.properties[name]) === JSON.stringify(value)) return;
  const put = (/** @type {any} */ properties) => {
    if (value === undefined) delete properties[name];
    else properties[name] = value;
  };
  put(node.properties);
  const manager = /** @type {any} */ (app.extensionManager);
  const state = manager.workflow?.activeWorkflow?.changeTracker?.activeState;
  const inside = (/** @type {any} */ one) => one.id === node.graph?.id;
  const graph = node.graph === rootGraph() ? state : state?.definitions?.subgraphs?.find(inside);
  const saved = graph?.nodes?.find((/** @type {any} */ one) => String(one.id) === String(node.id) && one.type === node.type);
  if (!saved) return;
  put((saved.properties ??= {}));
  if (manager.queueSettings?.mode !== "change") api.dispatchCustomEvent("graphChanged", state);
}
