// @ts-check
// What a node's picture and map are made of: the values of its widgets and of all that is connected to it, as one short text to compare.
// Nothing runs for it, so that a change is noticed before anything does.

import { pathTo, sourceOf } from "./graph.js";

/** Inputs that change nothing that a view shows. */
const UNSEEN = ["strength", "null_query", "name", "previous", "region"];

/** Of what is shown, and after a stroke of the picture alone. @param {any} node */
export function originOf(node) {
  return `${digest(described(node, new Map(), UNSEEN))}/${originOfPicture(node) ?? ""}`;
}

/** Of everything, also of what changes nothing that is shown. @param {any} node */
export function originOfAll(node) {
  return digest(described(node, new Map()));
}

/** Of the picture alone; null where none is connected. @param {any} node */
export function originOfPicture(node) {
  const source = sourceOf(node, "image", pathTo(node));
  if (!source) return null;
  const unseen = source.node.type === "SSR_MiniScene" && source.slot === 0 ? ["marked"] : []; // which changes what comes beside the picture
  return digest([source.slot, described(source.node, new Map(), unseen)]);
}

/**
 * @param {any} node @param {Map<any, number>} known nodes that are described already, by their number: graphs share parts
 * @param {string[]} unseen
 * @returns {unknown}
 */
function described(node, known, unseen = []) {
  if (known.has(node)) return known.get(node);
  known.set(node, known.size);
  const widgets = (node.widgets ?? []).filter((/** @type {any} */ one) => one.serialize !== false && !unseen.includes(one.name));
  const inputs = (node.inputs ?? []).filter((/** @type {any} */ one) => !unseen.includes(one.name));
  return [
    node.type,
    node.mode,
    widgets.map((/** @type {any} */ { name, value }) => [name, value]),
    inputs.map((/** @type {any} */ { name }) => {
      const source = sourceOf(node, name, pathTo(node));
      return source && [name, source.slot, described(source.node, known)];
    }),
    (node.subgraph?.nodes ?? []).map((/** @type {any} */ inner) => described(inner, known)),
  ];
}

/** Two numbers of 32 bits, as letters: FNV-1a (Fowler, Noll, Vo) from two starts. @param {unknown} value */
export function digest(value) {
  const text = JSON.stringify(value, (_, part) => (part instanceof Node ? null : part)) ?? "";
  return [0x811c9dc5, 0x9e3779b9]
    .map((start) => {
      let hash = start;
      for (let place = 0; place < text.length; place++) hash = Math.imul(hash ^ text.charCodeAt(place), 0x01000193);
      return (hash >>> 0).toString(36);
    })
    .join("-");
}
