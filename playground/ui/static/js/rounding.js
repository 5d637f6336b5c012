/** What 4 bits change of each variant, beside what tuning changes. */

import { find, make, makeCard, makeRow } from "./dom.js";
import { figure, percent } from "./text.js";

/** @import { Mount, Rounding } from "./types.js" */

const HEAD = ["", "by rounding", "by tuning", "same likeliest", "answers part at"];

/**
 * Return the cells of a variant's row.
 * @param {Rounding} rounding
 */
export const cells = ({ title, kl, tuning, same, parts }) => [
  title,
  figure(kl, 3),
  figure(tuning, 3),
  `${percent(same)} %`,
  parts === null ? "nowhere" : `token ${parts + 1}`,
];

/** @param {Rounding} rounding */
const answersCard = ({ role, title, text, whole }) =>
  makeCard(
    `ledger-column ${role}`,
    title,
    make("p", "mask-count", "in 4 bits"),
    make("p", "grid-text", text),
    make("p", "mask-count", "unquantised"),
    make("p", "grid-text", whole),
  );

/** @type {Mount<Rounding[]>} */
export const mount =
  ({ element }) =>
  (variants) => {
    find(element, ".rounding").hidden = !variants.length;
    find(element, "thead").replaceChildren(makeRow("th", HEAD));
    find(element, "tbody").replaceChildren(
      ...variants.map((variant) => makeRow("td", cells(variant), variant.role)),
    );
    find(element, ".ledger-columns").replaceChildren(...variants.map(answersCard));
  };
