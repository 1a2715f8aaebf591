// @ts-check
// The query's words under the picture: pointing at one or focusing it shows its own map, a click keeps that.

import { make } from "./elements.js";

/** @typedef {import("./payload.js").Word} Word */

const WHOLE = -1;

export class WordChips {
  /** @param {string} whole the text of the whole query's chip @param {() => void} onChange */
  constructor(whole, onChange) {
    this.whole = whole;
    this.onChange = onChange;
    this.element = make("div", { className: "ssr-row ssr-chips" });
    /** @type {string[]} */ this.texts = [];
    /** @type {number | null} */ this.hovered = null;
    this.pinned = WHOLE;
  }

  /** The number of the word whose map is to be seen; -1 is the whole query. */
  get word() {
    return this.hovered ?? this.pinned;
  }

  /** @param {AbortSignal} signal */
  listen(signal) {
    for (const kind of ["pointerover", "focusin"]) this.element.addEventListener(kind, (event) => this.hover(numberOf(event)), { signal });
    for (const kind of ["pointerout", "focusout"]) this.element.addEventListener(kind, () => this.hover(null), { signal });
    this.element.addEventListener("click", (event) => this.pin(numberOf(event)), { signal });
  }

  /** The chips of the same words stay, and with them the keyboard's place. @param {Word[]} words */
  show(words) {
    const texts = words.map(({ text }) => text);
    if (texts.length === this.texts.length && texts.every((text, number) => text === this.texts[number])) return;
    const kept = (/** @type {number} */ number) => texts.indexOf(this.texts[number]);
    const active = /** @type {HTMLElement | null} */ (document.activeElement);
    const focused = active && this.element.contains(active) ? kept(Number(active.dataset.word)) : null;
    this.pinned = kept(this.pinned);
    this.hovered = null;
    this.texts = texts;
    const chips = texts.map((text, number) => this.chip(text, number));
    if (texts.length > 1) chips.unshift(this.chip(this.whole, WHOLE));
    this.element.replaceChildren(...chips);
    if (focused !== null) chips.find((chip) => chip.dataset.word === String(focused))?.focus({ preventScroll: true });
  }

  /** @param {string} text @param {number} number */
  chip(text, number) {
    const chip = make("button", { type: "button", textContent: text, title: text });
    chip.dataset.word = String(number);
    chip.setAttribute("aria-pressed", String(number === this.pinned));
    return chip;
  }

  /** @param {number | null} number */
  hover(number) {
    this.hovered = number;
    this.onChange();
  }

  /** @param {number | null} pinned */
  pin(pinned) {
    if (pinned === null) return;
    this.pinned = pinned;
    for (const chip of this.element.children) {
      chip.setAttribute("aria-pressed", String(/** @type {HTMLElement} */ (chip).dataset.word === String(pinned)));
    }
    this.onChange();
  }
}

/** @param {Event} event @returns {number | null} */
function numberOf(event) {
  const chip = /** @type {HTMLElement} */ (event.target).closest("button");
  return chip && Number(chip.dataset.word);
}
