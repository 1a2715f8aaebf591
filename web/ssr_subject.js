// @ts-check
// The picture in Encode Subject and Load Subject: where the query looks in the reference, word by word, before anything is sampled.
// In Select by Points and the nodes of MIP and ELITE: what of the reference is the object, and what the vision model sees of it.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { forwardToCanvas } from "./lib/canvas_events.js";
import { viewsInPage } from "./lib/elements.js";
import { isLinked, lastOutput, liveNodes, pathTo, rememberInstance } from "./lib/graph.js";
import { readSubjects } from "./lib/payload.js";
import { SoloRun } from "./lib/solo_run.js";
import { SubjectView } from "./lib/subject_view.js";
import { textsFor } from "./lib/texts.js";

const OF_OBJECTS = ["SSR_EncodeObjectMIP", "SSR_LoadObjectsMIP", "SSR_EncodeSubjectELITE", "SSR_LoadSubjectELITE", "SSR_SelectByPoints"];
const NODES = ["SSR_EncodeSubject", "SSR_LoadSubject", ...OF_OBJECTS];
/** Where nothing is marked the whole reference is taken, or at least shown. */
const TAKE_ALL = ["SSR_EncodeObjectMIP", "SSR_EncodeSubjectELITE", "SSR_SelectByPoints"];
/** A type name of our own: a widget whose type is named like one of the frontend's would be drawn as that. */
const WIDGET_TYPE = "SSR_SUBJECT_VIEW";
const OPACITY = "ssr_opacity";
const USUAL_OPACITY = 0.6;
/** Modes of a node that is muted or bypassed. */
const OFF = [2, 4];
/** Must not refer to a view: the frontend keeps the options of widgets that are gone. */
const VIEW_OPTIONS = { serialize: false, hideOnZoom: false, getMinHeight: () => 260 };

/** @type {WeakMap<object, SubjectView>} by node; weak, as the frontend does not tell when a copy or a node in a subgraph is gone */
const views = new WeakMap();
/** @type {WeakMap<Element, { node: any, widget: any }>} by the view's element */
const owners = new WeakMap();

app.registerExtension({
  name: "SSR-Encoder.SubjectView",

  setup() {
    app.canvas.canvas.addEventListener("subgraph-opening", rememberInstance);
  },

  /** Undo and a change of tab make nodes anew and put their last results back afterwards. */
  onNodeOutputsUpdated() {
    for (const node of liveNodes()) views.get(node)?.show(readSubjects(lastOutput(node)));
  },

  afterConfigureGraph() {
    requestAnimationFrame(takePlaces);
  },

  nodeCreated(created) {
    const node = /** @type {FrontendNode} */ (created);
    if (NODES.includes(node.comfyClass ?? "") && !views.has(node)) addView(node);
  },
});

/** @param {FrontendNode} node */
function addView(node) {
  const objects = OF_OBJECTS.includes(node.comfyClass ?? "");
  const texts = textsFor(app.extensionManager.setting.get("Comfy.Locale"), objects);
  const opacity = () => Number(node.properties[OPACITY] ?? USUAL_OPACITY);
  const run = new SoloRun(node, (running) => view.setRunning(running));
  const view = new SubjectView({
    texts,
    maps: !objects,
    opacity: opacity(),
    onOpacity: (value) => (node.properties[OPACITY] = value),
    onRun: () => (pathTo(node).some(({ mode }) => OFF.includes(mode)) ? view.say(texts.off) : run.start()),
    points: pointsInput(node, () => view.showPoints()),
    pictureUrl: (file) => api.apiURL(`/view?${new URLSearchParams(file)}`),
    forward: forwardToCanvas,
  });
  const widget = node.addDOMWidget("ssr_view", WIDGET_TYPE, view.element, { ...VIEW_OPTIONS });
  widget.serialize = false; // neither in the workflow's positional values nor in the prompt
  views.set(node, view);
  owners.set(view.element, { node, widget });

  const { onExecuted, onConfigure, onConnectionsChange, onRemoved } = node;
  node.onExecuted = function (output) {
    onExecuted?.call(this, output);
    view.show(readSubjects(output));
    run.finish();
  };
  node.onConfigure = function (saved) {
    onConfigure?.call(this, saved);
    view.setOpacity(opacity());
    view.showPoints();
    view.show(readSubjects(lastOutput(node)));
  };
  node.onConnectionsChange = function (...change) {
    onConnectionsChange?.apply(this, change);
    view.showPoints();
  };
  node.onRemoved = function () {
    onRemoved?.call(this);
    run.stop();
  };
}

/** @param {FrontendNode} node @param {() => void} onTyped @returns {import("./lib/subject_view.js").PointsInput | null} */
function pointsInput(node, onTyped) {
  const [points, query] = ["points", "query"].map((name) => node.widgets?.find((widget) => widget.name === name));
  if (!points) return null;
  const { callback } = points;
  const takesAll = TAKE_ALL.includes(node.comfyClass ?? "");
  points.callback = function (...change) {
    callback?.apply(this, change);
    onTyped();
  };
  return {
    read: () => String(points.value ?? ""),
    write: (text) => {
      points.value = text;
      points.callback?.(text, app.canvas, node);
      node.setDirtyCanvas(true, true);
    },
    linked: () => isLinked(node, "points"),
    selectsWithout: () => takesAll || isLinked(node, "mask") || isLinked(node, "query") || String(query?.value ?? "").trim() !== "",
  };
}

/**
 * Puts the views of new nodes in the places of old ones. When undo or a change of tab makes a node anew, Nodes 2.0 keeps its frame with
 * the old node's element in it; and the frontend does not tell when nodes in a subgraph are gone.
 */
function takePlaces() {
  const live = liveNodes();
  for (const element of viewsInPage()) {
    const owner = owners.get(element);
    if (!owner || live.includes(owner.node)) continue;
    const id = String(owner.node.id);
    const heir = LiteGraph.vueNodesMode && live.find((node) => String(node.id) === id && views.get(node)?.element.isConnected === false);
    owner.widget.onRemove?.(); // the frontend forgets it too
    element.replaceWith(...(heir ? [views.get(heir)?.element ?? ""] : []));
  }
}
