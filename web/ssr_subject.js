// @ts-check
// The picture in Encode Subject and Load Subject: where the query looks in the reference, word by word, before anything is sampled.
// In Select by Points and the nodes of MIP and ELITE: what of the reference is the object, and what the vision model sees of it.

import { app } from "../../scripts/app.js";
import { api } from "../../scripts/api.js";
import { forwardToCanvas } from "./lib/canvas_events.js";
import { viewsInPage } from "./lib/elements.js";
import { Freshness } from "./lib/freshness.js";
import { isLinked, lastOutput, liveNodes, pathTo, rememberInstance } from "./lib/graph.js";
import { forget, keep, kept } from "./lib/keepsake.js";
import { tellFaults, tellRefusals } from "./lib/node_faults.js";
import { readSubjects } from "./lib/payload.js";
import { queueNode, queuePicture, watchPrompts } from "./lib/picture_run.js";
import { SoloRun } from "./lib/solo_run.js";
import { SubjectView } from "./lib/subject_view.js";
import { languageOf, textsFor } from "./lib/texts.js";

const OF_OBJECTS = ["SSR_EncodeObjectMIP", "SSR_LoadObjectsMIP", "SSR_EncodeSubjectELITE", "SSR_LoadSubjectELITE", "SSR_SelectByPoints"];
const NODES = ["SSR_EncodeSubject", "SSR_LoadSubject", ...OF_OBJECTS];
/** Where nothing is marked the whole reference is taken, or at least shown. */
const TAKE_ALL = ["SSR_EncodeObjectMIP", "SSR_EncodeSubjectELITE", "SSR_SelectByPoints"];
/** Inputs of which one at least must say something. */
const NEEDS = /** @type {Record<string, string[]>} */ ({
  SSR_EncodeSubject: ["query", "mask", "points"],
  SSR_EncodeObjectMIP: ["name"],
  SSR_SelectByPoints: ["points"],
});
/** A node that runs without what it needs, to show the picture in which points are set. */
const SHOWS_FIRST = "SSR_SelectByPoints";
/** Fits and framings under which what is seen is a square of the picture. */
const SQUARE = ["center crop", "crop to mask"];
/** A type name of our own: a widget whose type is named like one of the frontend's would be drawn as that. */
const WIDGET_TYPE = "SSR_SUBJECT_VIEW";
const OPACITY = "ssr_opacity";
const USUAL_OPACITY = 0.6;
/** Modes of a node that is muted or bypassed. */
const OFF = [2, 4];
/** Must not refer to a view: the frontend keeps the options of widgets that are gone. hideInPanel: there the row would be empty. */
const VIEW_OPTIONS = { serialize: false, hideOnZoom: false, hideInPanel: true, getMinHeight: () => 260 };
const KEEP_PICTURE = "SSR-Encoder.View.KeepPicture";

/** @type {WeakMap<object, SubjectView>} by node; weak, as the frontend does not tell when a copy or a node in a subgraph is gone */
const views = new WeakMap();
/** @type {WeakMap<object, Freshness>} by node */
const freshness = new WeakMap();
/** @type {WeakMap<Element, { node: any, widget: any }>} by the view's element */
const owners = new WeakMap();

app.registerExtension({
  name: "SSR-Encoder.SubjectView",

  settings: [
    {
      id: /** @type {any} */ (KEEP_PICTURE),
      name: "Keep a small picture of the reference in the workflow",
      tooltip: "Then the picture in Encode Subject is back after loading, before anything runs. Whoever gets the workflow sees it too.",
      category: ["SSR-Encoder", "View", "KeepPicture"],
      type: "boolean",
      defaultValue: true,
      onChange: (/** @type {boolean} */ on) => void (on === false && liveNodes().filter((node) => views.has(node)).forEach(forget)),
    },
  ],

  setup() {
    watchPrompts();
    app.canvas.canvas.addEventListener("subgraph-opening", rememberInstance);
    api.addEventListener("execution_start", () => liveNodes().forEach((node) => freshness.get(node)?.begins()));
    api.addEventListener("graphChanged", () => {
      for (const fresh of liveNodes().map((node) => freshness.get(node))) fresh?.settled ? fresh.check() : fresh?.settle();
    });
    const shown = () => liveNodes().filter((node) => views.has(node));
    tellFaults(shown, language, fail);
    tellRefusals(shown, language, fail);
  },

  /** Undo and a change of tab make nodes anew and put their last results back afterwards. */
  onNodeOutputsUpdated() {
    for (const node of liveNodes()) showLast(node);
  },

  afterConfigureGraph() {
    for (const node of liveNodes()) freshness.get(node)?.settle();
    requestAnimationFrame(takePlaces);
  },

  nodeCreated(created) {
    const node = /** @type {FrontendNode} */ (created);
    if (NODES.includes(node.comfyClass ?? "") && !views.has(node)) addView(node);
  },
});

function language() {
  return languageOf(app.extensionManager.setting.get("Comfy.Locale"));
}

/** @type {import("./lib/node_faults.js").Tell} */
function fail(node, ...fault) {
  views.get(node)?.fail(...fault);
  freshness.get(node)?.failed();
}

/** @param {FrontendNode} node */
function addView(node) {
  const objects = OF_OBJECTS.includes(node.comfyClass ?? "");
  const texts = textsFor(app.extensionManager.setting.get("Comfy.Locale"), node.comfyClass ?? "", objects);
  const opacity = () => Number(node.properties[OPACITY] ?? USUAL_OPACITY);
  const run = new SoloRun(node, {
    queue: () => (node.comfyClass !== SHOWS_FIRST && missing(node) ? queuePicture(node) : queueNode(node)),
    running: (running) => view.setRunning(running),
  });
  const fresh = new Freshness(node, {
    changed: () => view.setState({ stale: fresh.stale, outdated: fresh.outdated, missing: missing(node), everything: takesEverything(node) }),
    otherPicture: () => view.dropMarks(),
    recovered: () => view.fail("", ""),
  });
  const view = new SubjectView({
    texts,
    maps: !objects,
    opacity: opacity(),
    onOpacity: (value) => (node.properties[OPACITY] = value),
    onRun: () => (pathTo(node).some(({ mode }) => OFF.includes(mode)) ? view.say(texts.off) : run.start()),
    onFirst: (subject, image) => {
      if (subject.kept || !image) return;
      if (app.extensionManager.setting.get(KEEP_PICTURE) === false) forget(node);
      else keep(node, subject, image, fresh.shown);
    },
    points: pointsInput(node, () => view.showPoints()),
    crop: cropInput(node, () => view.showPoints()),
    pictureUrl: (file) => api.apiURL(`/view?${new URLSearchParams(file)}`),
    forward: forwardToCanvas,
  });
  const widget = node.addDOMWidget("ssr_view", WIDGET_TYPE, view.element, { ...VIEW_OPTIONS });
  widget.serialize = false; // neither in the workflow's positional values nor in the prompt
  widget.beforeQueued = () => queueMicrotask(() => fresh.asks()); // after widgets that change before a run
  // The Parameters panel writes its own width here, and newer frontends would draw the view that wide in the node.
  Object.defineProperty(widget, "width", { get: () => undefined, set: () => {}, configurable: true });
  views.set(node, view);
  freshness.set(node, fresh);
  owners.set(view.element, { node, widget });
  for (const { name } of node.widgets ?? []) onChange(node, name, () => fresh.check());
  fresh.check();

  const { onExecuted, onConfigure, onConnectionsChange, onRemoved } = node;
  node.onExecuted = function (output) {
    onExecuted?.call(this, output);
    fresh.made(output);
    view.show(readSubjects(output));
    run.finish();
  };
  node.onConfigure = function (saved) {
    onConfigure?.call(this, saved);
    view.setOpacity(opacity());
    view.showPoints();
    if (!showLast(node)) showKept(node);
  };
  node.onConnectionsChange = function (...change) {
    onConnectionsChange?.apply(this, change);
    view.showPoints();
    fresh.check();
  };
  node.onRemoved = function () {
    onRemoved?.call(this);
    run.stop();
  };
}

/** Whether no input says what to take. @param {FrontendNode} node */
function missing(node) {
  const needs = NEEDS[node.comfyClass ?? ""] ?? [];
  const says = (/** @type {string} */ name) => isLinked(node, name) || String(widgetOf(node, name)?.value ?? "").trim() !== "";
  return needs.length > 0 && !needs.some(says);
}

/** Whether an object is encoded of which nothing is marked. @param {FrontendNode} node */
function takesEverything(node) {
  const marked = isLinked(node, "mask") || isLinked(node, "points") || String(widgetOf(node, "points")?.value ?? "").trim() !== "";
  return TAKE_ALL.includes(node.comfyClass ?? "") && node.comfyClass !== SHOWS_FIRST && !marked;
}

/** @param {any} node @returns {boolean} whether there is a result of this session */
function showLast(node) {
  const output = lastOutput(node);
  const subjects = readSubjects(output);
  if (!views.has(node) || !subjects.length) return false;
  freshness.get(node)?.recalled(output);
  views.get(node)?.show(subjects);
  return true;
}

/** @param {any} node */
function showKept(node) {
  const found = kept(node);
  if (!found) return;
  freshness.get(node)?.wasMadeOf(found.origin);
  views.get(node)?.show([found.subject]);
}

/** @param {FrontendNode} node @param {() => void} onTyped @returns {import("./lib/subject_view.js").PointsInput | null} */
function pointsInput(node, onTyped) {
  const [points, query] = ["points", "query"].map((name) => widgetOf(node, name));
  if (!points) return null;
  const takesAll = TAKE_ALL.includes(node.comfyClass ?? "");
  onChange(node, "points", onTyped);
  return {
    ...textOf(node, points),
    selectsWithout: () => takesAll || isLinked(node, "mask") || isLinked(node, "query") || String(query?.value ?? "").trim() !== "",
  };
}

/** @param {FrontendNode} node @param {() => void} onTyped @returns {import("./lib/subject_view.js").CropInput | null} */
function cropInput(node, onTyped) {
  const [crop, fit] = [widgetOf(node, "crop"), widgetOf(node, "fit") ?? widgetOf(node, "framing")];
  if (!crop) return null;
  onChange(node, "crop", onTyped);
  return { ...textOf(node, crop), square: () => SQUARE.includes(String(fit?.value)) };
}

/** @param {FrontendNode} node @param {any} widget that holds a text */
function textOf(node, widget) {
  return {
    read: () => String(widget.value ?? ""),
    write: (/** @type {string} */ text) => {
      widget.value = text;
      widget.callback?.(text, app.canvas, node);
      node.setDirtyCanvas(true, true);
    },
    linked: () => isLinked(node, widget.name),
  };
}

/** @param {FrontendNode} node @param {string} name */
function widgetOf(node, name) {
  return node.widgets?.find((widget) => widget.name === name);
}

/** @param {FrontendNode} node @param {string} name of a widget @param {() => void} act after its value was changed */
function onChange(node, name, act) {
  const widget = widgetOf(node, name);
  if (!widget || widget.serialize === false) return;
  const { callback } = widget;
  widget.callback = function (...change) {
    callback?.apply(this, change);
    act();
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
