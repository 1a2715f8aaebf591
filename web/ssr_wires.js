// @ts-check
// Colours of the pack's own wires, so that a graph shows which method is where. A palette that names one of these types has its way.

import { app } from "../../scripts/app.js";

/** A family for each method: warm for the SSR-Encoder, blue for MIP, violet for ELITE, red for LASR. */
const COLOURS = {
  SSR_ENCODER: "#e8973d",
  SSR_SUBJECT: "#ffdb33",
  SSR_FOOTPRINT: "#b8c94a",
  SSR_MIP_ADAPTER: "#4a90b8",
  SSR_MIP_OBJECTS: "#5fd0e6",
  SSR_ELITE: "#a06fd6",
  SSR_ELITE_SUBJECT: "#d3a6ff",
  SSR_LASR_SUBJECT: "#f07f6b",
};

app.registerExtension({
  name: "SSR-Encoder.Wires",

  setup() {
    for (const table of [LGraphCanvas.link_type_colors, app.canvas.default_connection_color_byType]) {
      for (const [type, colour] of Object.entries(COLOURS)) keepColour(table, type, colour);
    }
    // Nodes 2.0: a palette sets these on the element itself, which goes before a sheet.
    const rules = Object.entries(COLOURS).map(([type, colour]) => `--color-datatype-${type}: ${colour};`);
    const sheet = document.createElement("style");
    sheet.textContent = `:root { ${rules.join(" ")} }`;
    document.head.append(sheet);
  },
});

/**
 * A colour that holds where a palette has none: every change of palette empties the types that it does not name.
 * @param {Record<string, any>} table @param {string} type @param {string} colour
 */
function keepColour(table, type, colour) {
  let named = table[type];
  Object.defineProperty(table, type, {
    get: () => named || colour,
    set: (value) => (named = value),
    enumerable: true,
    configurable: true,
  });
}
