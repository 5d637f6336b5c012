/** Continuations from forced tokens, the newest first; each can be taken away again. */

import { failure, find, make, makeButton, makeCard } from "./dom.js";

/** @import { Fork, ForkColumn, Mount } from "./types.js" */

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
const columnCard = ({ role, title, text, error, meta }) =>
  makeCard(
    `ledger-column ${role}`,
    title,
    make("p", "grid-text", text),
    ...failure(error),
    make("p", "mask-count", meta),
  );

/** @type {Mount<Fork>} */
export const mount = ({ element }) => {
  /** @type {Fork[]} */
  let forks = [];
  /** @type {Set<number>} */
  const removed = new Set(); // a fork may be taken away while it is still written

  /** @param {Fork} fork */
  const article = ({ run, title, begun, columns }) => {
    const remove = makeButton("remove", () => {
      removed.add(run);
      forks = forks.filter((fork) => fork.run !== run);
      list();
    });
    remove.setAttribute("aria-label", `Remove ${title}`);
    return make(
      "article",
      "fork",
      make("header", "", make("h4", "", title), make("span", "fork-begun", begun), remove),
      make("div", "ledger-columns", ...columns.map(columnCard)),
    );
  };

  const list = () => {
    find(element, ".forks").hidden = !forks.length;
    find(element, ".forks-list").replaceChildren(...forks.map(article));
  };

  return (fork) => {
    if (removed.has(fork.run)) return;
    forks = withFork(forks, fork);
    list();
  };
};
