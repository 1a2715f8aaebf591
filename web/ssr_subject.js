// @ts-check
// The picture in Encode Subject and Load Subject: where the query looks in the reference, word by word, before anything is sampled.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { SubjectView } from "./lib/subject_view.js";
import { readSubjects } from "./lib/payload.js";
import { textsFor } from "./lib/texts.js";

const NODES = ["SSR_EncodeSubject", "SSR_LoadSubject"];
/** Own type name: a widget named like one of the frontend's would be drawn as that. */
const WIDGET_TYPE = "SSR_SUBJECT_VIEW";
const OPACITY = "ssr_opacity";

/** @type {Map<FrontendNode, SubjectView>} views of the nodes that exist */
const views = new Map();

app.registerExtension({
  name: "SSR-Encoder.SubjectView",

  /** Undo and tabs make nodes anew and put the last results back afterwards. */
  onNodeOutputsUpdated() {
    for (const [node, view] of views) view.show(readSubjects(lastOutput(node)));
  },

  nodeCreated(created) {
    const node = /** @type {FrontendNode} */ (created);
    if (!NODES.includes(node.comfyClass ?? "")) return;
    const points = node.widgets?.find((widget) => widget.name === "points");
    const view = new SubjectView({
      texts: textsFor(app.extensionManager.setting.get("Comfy.Locale")),
      opacity: Number(node.properties[OPACITY] ?? 0.6),
      onOpacity: (value) => (node.properties[OPACITY] = value),
      onRun: () => runAlone(node),
      points: points && { read: () => String(points.value ?? ""), write: (text) => setValue(node, points, text) },
      pictureUrl: (file) => api.apiURL(`/view?${new URLSearchParams(file)}`),
    });
    const widget = node.addDOMWidget("ssr_view", WIDGET_TYPE, view.element, {
      serialize: false,
      hideOnZoom: false,
      getMinHeight: () => 260,
    });
    widget.serialize = false; // neither in the workflow's positional values nor in the prompt
    views.set(node, view);

    const { onExecuted, onConfigure, onRemoved } = node;
    node.onExecuted = function (output) {
      onExecuted?.call(this, output);
      view.show(readSubjects(output));
    };
    node.onConfigure = function (saved) {
      onConfigure?.call(this, saved);
      view.setOpacity(Number(this.properties[OPACITY] ?? 0.6));
      view.showPoints();
      view.show(readSubjects(lastOutput(node)));
      requestAnimationFrame(() => takePlace(node, view));
    };
    node.onRemoved = function () {
      onRemoved?.call(this);
      views.delete(node);
      view.destroy();
      view.element.dataset.goneNode = String(node.id);
    };
  },
});

/**
 * Nodes 2.0 keeps the frame of a node that undo or another tab makes anew, with the element of the old one still in it.
 * @param {any} node @param {SubjectView} view
 */
function takePlace(node, view) {
  if (view.element.isConnected) return;
  for (const gone of document.querySelectorAll("[data-gone-node]")) {
    if (/** @type {HTMLElement} */ (gone).dataset.goneNode === String(node.id)) gone.replaceWith(view.element);
  }
}

/** Runs this node and what it needs, without sampling. @param {any} node */
function runAlone(node) {
  return app.queuePrompt(0, 1, [executionId(node)]);
}

/** What the node's last run gave: the frontend keeps it by the id within a subgraph. @param {any} node */
function lastOutput(node) {
  const { graph } = node;
  const root = graph?.rootGraph ?? graph;
  return graph && app.nodeOutputs?.[graph === root ? String(node.id) : `${graph.id}:${node.id}`];
}

/** A node's id as the server knows it: ids of the subgraph nodes around it first. @param {any} node */
function executionId(node) {
  const root = app.graph.rootGraph ?? app.graph;
  return pathTo(root, node)?.join(":") ?? String(node.id);
}

/** @param {any} graph @param {any} node @returns {(string | number)[] | undefined} */
function pathTo(graph, node) {
  if (graph === node.graph) return [node.id];
  for (const outer of graph.nodes ?? graph._nodes ?? []) {
    const inner = outer.subgraph && pathTo(outer.subgraph, node);
    if (inner) return [outer.id, ...inner];
  }
  return undefined;
}

/** @param {any} node @param {any} widget @param {string} text */
function setValue(node, widget, text) {
  widget.value = text;
  widget.callback?.(text, app.canvas, node);
  node.setDirtyCanvas?.(true, true);
}
