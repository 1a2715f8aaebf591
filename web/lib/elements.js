// @ts-check
// The view's place in the page: its own element, which knows when it is on screen, and its style.

const TAG = "ssr-subject-view";
const STYLE_ID = "ssr-subject-view-style";
const STYLE = `
.ssr-view { display: flex; flex-direction: column; gap: 4px; width: 100%; height: 100%; box-sizing: border-box; font-size: 12px;
  color: var(--input-text, #ddd); min-height: 0; }
.ssr-view .ssr-stage { position: relative; flex: 1; min-height: 120px; border-radius: 4px; overflow: hidden;
  background: var(--comfy-input-bg, #222); }
.ssr-view canvas { position: absolute; inset: 0; width: 100%; height: 100%; touch-action: none; }
.ssr-view canvas:focus-visible { outline: 2px solid var(--p-primary-color, #4a9eff); outline-offset: -2px; }
.ssr-view .ssr-message { position: absolute; inset: 0; display: grid; place-items: center; padding: 12px; text-align: center;
  color: var(--descrip-text, #999); pointer-events: none; white-space: pre-line; }
.ssr-view .ssr-message:empty { display: none; }
.ssr-view .ssr-over { inset: auto 0 6px; margin: auto; width: fit-content; padding: 2px 10px; border-radius: 10px;
  color: var(--input-text, #ddd); background: var(--comfy-menu-bg, #333); opacity: 0.9; }
.ssr-view .ssr-stale { position: absolute; inset: 6px 0 auto; margin: auto; width: fit-content; max-width: 90%; padding: 2px 10px;
  border-radius: 10px; color: #000; background: #ffdb33; pointer-events: none; }
.ssr-view .ssr-fault { position: absolute; inset: auto 0 0; max-height: 70%; overflow: auto; padding: 6px 8px; white-space: pre-wrap;
  overflow-wrap: anywhere; border-left: 4px solid #e5484d; color: var(--input-text, #ddd); background: var(--comfy-menu-bg, #333);
  cursor: pointer; }
.ssr-view .ssr-row { display: flex; flex-wrap: wrap; gap: 4px; align-items: center; max-height: 48px; overflow: auto; flex: none; }
.ssr-view button { font: inherit; color: inherit; background: var(--comfy-input-bg, #222); border: 1px solid var(--border-color, #444);
  border-radius: 10px; padding: 1px 8px; cursor: pointer; max-width: 100%; overflow: hidden; text-overflow: ellipsis; white-space: nowrap; }
.ssr-view button:hover, .ssr-view button:focus-visible, .ssr-view button[aria-pressed="true"] { border-color: var(--p-primary-color, #4a9eff); }
.ssr-view button.ssr-wanted { border-color: #ffdb33; box-shadow: 0 0 0 1px #ffdb33; }
.ssr-view input[type="range"] { flex: 1; min-width: 40px; }
.ssr-view [hidden] { display: none; }
`;

/**
 * An element that says when it comes into the page and when it leaves. The frontend tells neither of a node in a subgraph, nor of a
 * copy that is only made to be written to the clipboard; listeners and observers live between these two moments.
 * @param {() => void} onArrive @param {() => void} onLeave
 */
export function viewElement(onArrive, onLeave) {
  if (!customElements.get(TAG)) customElements.define(TAG, newClass());
  if (!document.getElementById(STYLE_ID)) document.head.append(make("style", { id: STYLE_ID, textContent: STYLE }));
  const element = document.createElement(TAG);
  element.className = "ssr-view";
  return Object.assign(element, { onArrive, onLeave });
}

/** Views in the page, drawn or hidden. @returns {HTMLElement[]} */
export function viewsInPage() {
  return [.../** @type {NodeListOf<HTMLElement>} */ (document.querySelectorAll(TAG))];
}

function newClass() {
  return class extends HTMLElement {
    /** @type {(() => void) | undefined} */ onArrive;
    /** @type {(() => void) | undefined} */ onLeave;

    connectedCallback() {
      this.onArrive?.();
    }

    disconnectedCallback() {
      this.onLeave?.();
    }
  };
}

/**
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag @param {Partial<HTMLElementTagNameMap[Tag]>} properties @param {...Node} children
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export function make(tag, properties, ...children) {
  const element = document.createElement(tag);
  Object.assign(element, properties);
  element.append(...children);
  return element;
}
