/** What is about to be sent: findings, and for each variant its tokens and a table of them. */

import { chips, find, make, makeCard, tokenTable } from "./dom.js";

/** @import { Finding, Ledger, LedgerColumn, Mount, SentPrompt } from "./types.js" */

/** @param {Finding} finding */
const findingLine = ({ level, who, text, cure }) =>
  make(
    "li",
    level,
    make("b", "", `${level === "error" ? "Error" : "Warning"}, ${who}: `),
    `${text} `,
    make("span", "ledger-cure", cure),
  );

/**
 * @param {LedgerColumn} column
 * @param {SentPrompt} sent
 */
const columnCard = ({ role, title }, sent) => {
  const { count, digest, sources, tokens } = sent;
  const card = makeCard(
    `ledger-column ${role}`,
    title,
    chips(tokens),
    make("p", "ledger-sources", sources),
    tokenTable(tokens),
  );
  find(card, "h4").append(make("small", "", ` ${count} tokens · ${digest}`));
  return card;
};

/** @type {Mount<Ledger>} */
export const mount =
  ({ element }) =>
  ({ columns, findings, settings }) => {
    find(element, ".ledger").hidden = !columns.length;
    find(element, ".ledger-findings").replaceChildren(...findings.map(findingLine));
    /** @type {SentPrompt[]} */
    const prompts = columns.map(({ sent }) => JSON.parse(sent));
    const counts = prompts.map(({ count }) => count).join(", ");
    find(element, ".ledger-counts").textContent = `${counts} tokens · ${settings}`;
    find(element, ".ledger-columns").replaceChildren(
      ...columns.map((column, n) => columnCard(column, prompts[n])),
    );
  };
