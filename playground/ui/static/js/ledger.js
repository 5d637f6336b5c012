/** What is about to be sent: findings, and for each variant its tokens and a table of them. */

import { chips, find, make, makeCard, tokenTable } from "./dom.js";

/** @import { Component, Finding, Ledger, LedgerColumn, SentPrompt } from "./types.js" */

/** @param {Finding} finding */
const findingLine = ({ level, who, text, cure }) => {
  const line = make("li", level);
  line.append(
    make("b", "", `${level === "error" ? "Error" : "Warning"}, ${who}: `),
    `${text} `,
    make("span", "ledger-cure", cure),
  );
  return line;
};

/**
 * @param {LedgerColumn} column
 * @param {SentPrompt} sent
 */
const columnCard = ({ role, title }, sent) => {
  const card = makeCard(`ledger-column ${role}`, title);
  find(card, "h4").append(make("small", "", ` ${sent.count} tokens · ${sent.digest}`));
  card.append(chips(sent.tokens), tokenTable(sent.tokens));
  return card;
};

/** @param {Component<Ledger>} component */
export const mount = ({ element, props, watch }) => {
  const paint = () => {
    if (!props.value) return;
    const { columns, findings } = props.value;
    find(element, ".ledger").hidden = !columns.length;
    find(element, ".ledger-findings").replaceChildren(...findings.map(findingLine));
    /** @type {SentPrompt[]} */
    const prompts = columns.map(({ sent }) => JSON.parse(sent));
    const counts = prompts.map(({ count }) => count).join(", ");
    find(element, ".ledger-counts").textContent = `${counts} tokens`;
    find(element, ".ledger-columns").replaceChildren(
      ...columns.map((column, n) => columnCard(column, prompts[n])),
    );
  };
  watch("value", paint);
  paint();
};
