/**
 * What all components are made with. Texts reach the page through textContent alone: markup,
 * scripts and templates in them are letters.
 */

import { visible } from "./text.js";

/** @import { NamedText, SentToken } from "./types.js" */

/**
 * Find a part of a component's static markup.
 * @param {ParentNode} parent
 * @param {string} selector
 * @returns {HTMLElement}
 */
export const find = (parent, selector) => {
  const part = parent.querySelector(selector);
  if (!(part instanceof HTMLElement)) throw new Error(`The markup has no ${selector}.`);
  return part;
};

/**
 * Make an element.
 * @template {keyof HTMLElementTagNameMap} Tag
 * @param {Tag} tag
 * @param {string} [className]
 * @param {(Node | string)[]} content a string becomes text, never markup
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export const make = (tag, className = "", ...content) => {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...content);
  return element;
};

/**
 * Make a button that submits nothing.
 * @param {string} text
 * @param {() => void} pressed
 * @param {string} [className]
 */
export const makeButton = (text, pressed, className) => {
  const button = make("button", className, text);
  button.type = "button";
  button.addEventListener("click", pressed);
  return button;
};

/**
 * Make a table row whose first cell is its header.
 * @param {"th" | "td"} tag of the other cells
 * @param {string[]} cells
 * @param {string} [className]
 */
export const makeRow = (tag, cells, className) =>
  make("tr", className, ...cells.map((text, n) => make(n ? tag : "th", "", text)));

/**
 * Make the terms and descriptions of a definition list.
 * @param {NamedText[]} facts
 */
export const definitions = (facts) =>
  facts.flatMap(({ name, text }) => [make("dt", "", name), make("dd", "", text)]);

/**
 * Make a box whose colour is a variant's, with its title.
 * @param {string} className
 * @param {string} title
 * @param {(Node | string)[]} content
 */
export const makeCard = (className, title, ...content) =>
  make("section", className, make("h4", "", title), ...content);

/**
 * Make a line that says what failed; nothing where nothing did.
 * @param {string} error
 */
export const failure = (error) => (error ? [make("p", "pane-error", error)] : []);

/**
 * Make a line of what is to be known of an answer; nothing where nothing is.
 * @param {string} notes
 */
export const remark = (notes) => (notes ? [make("p", "pane-notes", notes)] : []);

/**
 * Make the reasoning of an answer, folded; nothing where there is none.
 * @param {string} reasoning
 */
export const folding = (reasoning) => {
  if (!reasoning) return [];
  const text = make("p", "reasoning", reasoning);
  text.tabIndex = 0;
  return [make("details", "pane-reasoning", make("summary", "", "Reasoning"), text)];
};

/**
 * Make a paragraph of tokens as chips; a point at one tells its id and its bytes.
 * @param {SentToken[]} tokens
 */
export const chips = (tokens) => {
  const spans = tokens.map(({ text, id, special, bytes, added }) => {
    const marked = text.replaceAll("\n", "↵\n").replaceAll("\t", "⇥");
    const className = `tok${special ? " special" : ""}${added ? " added" : ""}`;
    const chip = make("span", className, special ? text : marked);
    chip.title = `id ${id}${bytes ? ` · bytes ${bytes}` : ""}`;
    return chip;
  });
  const paragraph = make("p", "tokens", ...spans);
  paragraph.tabIndex = 0;
  return paragraph;
};

/**
 * Make a table of tokens, which is filled when it is first opened.
 * @param {SentToken[]} tokens
 */
export const tokenTable = (tokens) => {
  const details = make("details", "token-table", make("summary", "", "Token table"));
  /** @type {(tag: "th" | "td", cells: string[]) => HTMLElement} */
  const line = (tag, cells) => make("tr", "", ...cells.map((text) => make(tag, "", text)));
  details.addEventListener("toggle", () => {
    if (!details.open || details.querySelector("table")) return;
    const rows = tokens.map(({ text, id, special, bytes }, n) =>
      line("td", [String(n), String(id), visible(text), special ? "special" : bytes]),
    );
    details.append(make("table", "", line("th", ["place", "id", "text", "bytes"]), ...rows));
  });
  return details;
};
