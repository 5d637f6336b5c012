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
 * @param {string} [text]
 * @returns {HTMLElementTagNameMap[Tag]}
 */
export const make = (tag, className = "", text = "") => {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.textContent = text;
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
export const makeRow = (tag, cells, className) => {
  const row = make("tr", className);
  row.append(...cells.map((text, n) => make(n ? tag : "th", "", text)));
  return row;
};

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
 */
export const makeCard = (className, title) => {
  const card = make("section", className);
  card.append(make("h4", "", title));
  return card;
};

/**
 * Make a paragraph of tokens as chips; a point at one tells its id and its bytes.
 * @param {SentToken[]} tokens
 */
export const chips = (tokens) => {
  const paragraph = make("p", "tokens");
  paragraph.tabIndex = 0;
  paragraph.append(
    ...tokens.map(({ text, id, special, bytes, added }) => {
      const marked = text.replaceAll("\n", "↵\n").replaceAll("\t", "⇥");
      const className = `tok${special ? " special" : ""}${added ? " added" : ""}`;
      const chip = make("span", className, special ? text : marked);
      chip.title = `id ${id}${bytes ? ` · bytes ${bytes}` : ""}`;
      return chip;
    }),
  );
  return paragraph;
};

/**
 * Make a table of tokens, which is filled when it is first opened.
 * @param {SentToken[]} tokens
 */
export const tokenTable = (tokens) => {
  const details = make("details", "token-table");
  details.append(make("summary", "", "Token table"));
  /** @type {(tag: "th" | "td", cells: string[]) => HTMLElement} */
  const line = (tag, cells) => {
    const row = make("tr");
    row.append(...cells.map((text) => make(tag, "", text)));
    return row;
  };
  details.addEventListener("toggle", () => {
    if (!details.open || details.querySelector("table")) return;
    const table = make("table");
    table.append(
      line("th", ["place", "id", "text", "bytes"]),
      ...tokens.map(({ text, id, special, bytes }, n) =>
        line("td", [String(n), String(id), visible(text), special ? "special" : bytes]),
      ),
    );
    details.append(table);
  });
  return details;
};
