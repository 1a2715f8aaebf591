// @ts-check
// What Inspect Model, Mini Scene, and the nodes that load and save, have to say, as text in the node to read and to copy.

import { app } from "../../scripts/app.js";
import { ComfyWidgets } from "../../scripts/widgets.js";
import "./ssr_subject.js"; // registered first, whichever arrives first: a node's picture stands above its text
import { lastOutput, liveNodes } from "./lib/graph.js";

const NODES = ["SSR_LoadModels", "SSR_MiniScene", "SSR_InspectModel", "SSR_SaveSubject", "SSR_LoadSubject", "SSR_LoadMIPAdapter", "SSR_SaveObjectsMIP", "SSR_LoadObjectsMIP", "SSR_LoadELITE", "SSR_SaveSubjectELITE", "SSR_LoadSubjectELITE", "SSR_LearnSubjectLASR", "SSR_SaveSubjectLASR", "SSR_LoadSubjectLASR"];
const NAME = "report";
const HEIGHT = 90;
/** Of a report: a set of 64 subjects takes as many lines of one entry. */
const MOST = { lines: 64, letters: 40_000 };

app.registerExtension({
  name: "SSR-Encoder.TextView",

  /** Undo and a change of tab make nodes anew and put their last results back afterwards. */
  onNodeOutputsUpdated() {
    for (const node of liveNodes()) show(node, lastOutput(node));
  },

  nodeCreated(created) {
    const node = /** @type {FrontendNode} */ (created);
    if (!NODES.includes(node.comfyClass ?? "") || node.widgets?.some(({ name }) => name === NAME)) return;
    const { widget } = ComfyWidgets.STRING(node, NAME, ["STRING", { multiline: true }], app);
    widget.serialize = false; // neither in the workflow's positional values ...
    widget.options.serialize = false; // ... nor in the prompt
    widget.options.read_only = true; // Nodes 2.0
    widget.options.getMinHeight = () => HEIGHT;
    const { element } = /** @type {{ element?: HTMLTextAreaElement }} */ (widget);
    if (element) element.readOnly = true;

    const { onExecuted } = node;
    node.onExecuted = function (output) {
      onExecuted?.call(this, output);
      show(node, output);
    };
  },
});

/** @param {any} node @param {any} output what a run gave to the browser */
function show(node, output) {
  const widget = node.widgets?.find((/** @type {any} */ one) => one.name === NAME);
  const lines = Array.isArray(output?.text) ? output.text.slice(0, MOST.lines) : [];
  if (widget && lines.length) widget.value = lines.map((/** @type {unknown} */ line) => String(line).slice(0, MOST.letters)).join("\n");
}
