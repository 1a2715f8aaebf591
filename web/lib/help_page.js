// @ts-check
// What a node's help page says about an error, in the user's language. The pages quote every message that they explain.

/** Of a page's section on errors: the messages, quoted, then what they mean. */
const ENTRY = /^- ((?:`[^`]+`[,、]? ?)+)\s?[:：]\s?(.+)$/gmu;

/** @type {Map<string, Promise<string>>} by address */
const pages = new Map();

/**
 * @param {string} type of the node @param {string} language (texts.languageOf) @param {string} message of an error
 * @returns {Promise<string>} "" where the page says nothing about it
 */
export async function explanation(type, language, message) {
  if (language === "en") return ""; // the messages themselves are
  for (const [, quoted, meaning] of (await page(type, language)).matchAll(ENTRY)) {
    if ([...quoted.matchAll(/`([^`]+)`/g)].some(([, part]) => message.includes(part))) return meaning.replaceAll("`", "");
  }
  return "";
}

/** @param {string} type @param {string} language */
function page(type, language) {
  const address = new URL(`../docs/${encodeURIComponent(type)}/${encodeURIComponent(language)}.md`, import.meta.url).href;
  const known = pages.get(address);
  if (known) return known;
  const text = fetch(address).then(
    (answer) => (answer.ok ? answer.text() : ""),
    () => "",
  );
  pages.set(address, text);
  return text;
}
