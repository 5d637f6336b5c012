/** Continuations from forced tokens, the newest first; each can be taken away again. */

import { find, make, makeButton, makeCard } from "./dom.js";

/** @import { Component, Fork, ForkColumn } from "./types.js" */

/**
 * Return the forks with a new one first, or with a growing one at its place.
 * @param {Fork[]} forks
 * @param {Fork} fork
 */
export const withFork = (forks, fork) =>
  forks.some(({ run }) => run === fork.run)
    ? forks.map((other) => (other.run === fork.run ? fork : other))
    : [fork, ...forks];

/** @param {ForkColumn} column */
const columnCard = ({ role, title, text, error, meta }) => {
  const card = makeCard(`ledger-column ${role}`, title);
  card.append(make("p", "grid-text", text));
  if (error) card.append(make("p", "pane-error", error));
  card.append(make("p", "mask-count", meta));
  return card;
};

/** @param {Component<Fork>} component */
export const mount = ({ element, props, watch }) => {
  /** @type {Fork[]} */
  let forks = [];
  /** @type {Set<number>} */
  const removed = new Set(); // a fork may be taken away while it is still written

  /** @param {Fork} fork */
  const article = ({ run, title, begun, columns }) => {
    const box = make("article", "fork");
    const head = make("header");
    const remove = makeButton("remove", () => {
      removed.add(run);
      forks = forks.filter((fork) => fork.run !== run);
      list();
    });
    remove.setAttribute("aria-label", `Remove ${title}`);
    head.append(make("h4", "", title), make("span", "fork-begun", begun), remove);
    const cards = make("div", "ledger-columns");
    cards.append(...columns.map(columnCard));
    box.append(head, cards);
    return box;
  };

  const list = () => {
    find(element, ".forks").hidden = !forks.length;
    find(element, ".forks-list").replaceChildren(...forks.map(article));
  };

  const paint = () => {
    if (!props.value || removed.has(props.value.run)) return;
    forks = withFork(forks, props.value);
    list();
  };
  watch("value", paint);
  paint();
};
