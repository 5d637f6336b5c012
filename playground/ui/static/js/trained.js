/** How the variants were trained: rows as tokens with their loss mask, the facts, the curve. */

import { definitions, find, make, makeCard } from "./dom.js";
import { visible } from "./text.js";

/** @import { Mount, TrainedVariant, Training, TrainingPassage, TrainingRow } from "./types.js" */

/**
 * Return the label of a position, which is the next token; null where no loss is taken.
 * @param {TrainingRow} row
 * @param {number} n
 */
export const labelAt = ({ tokens, first }, n) =>
  n + 1 < tokens.length && n + 1 >= first ? tokens[n + 1] : null;

/**
 * Return a curve's points in a box of 100 × 40, its top at the highest loss.
 * @param {number[]} losses two at least
 */
export const curvePoints = (losses) => {
  const top = Math.max(...losses);
  return losses
    .map((loss, n) => `${(100 * n) / (losses.length - 1)},${40 - (40 * loss) / top}`)
    .join(" ");
};

/**
 * Make a row's tokens, each above the label of its position, and how many there are.
 * @param {TrainingRow} row
 */
const maskedRow = (row) => {
  const pairs = row.tokens.map((text, n) => {
    const label = labelAt(row, n);
    const below =
      label === null
        ? make("span", "mask-label none", "–")
        : make("span", "mask-label", visible(label));
    return make("span", "mask-token", make("span", "mask-text", visible(text)), below);
  });
  const labels = Math.max(0, row.tokens.length - row.first);
  const count = `${row.tokens.length} tokens, loss on ${labels} labels`;
  return [make("p", "mask", ...pairs), make("p", "mask-count", count)];
};

/**
 * @param {keyof SVGElementTagNameMap} tag
 * @param {Record<string, string>} attributes
 */
const svg = (tag, attributes) => {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  return element;
};

/** @param {TrainedVariant} variant */
const curveFigure = ({ curve, steps }) => {
  const box = { viewBox: "0 0 100 40", preserveAspectRatio: "none", "aria-hidden": "true" };
  const plot = svg("svg", box);
  plot.append(
    svg("polyline", { points: curvePoints(curve), "vector-effect": "non-scaling-stroke" }),
  );
  const [first, last, top] = [curve[0], curve[curve.length - 1], Math.max(...curve)];
  const caption =
    `Training loss, nats per label, over ${steps} steps: ${first.toFixed(2)} → ` +
    `${last.toFixed(2)}; the axis goes from 0 to ${top.toFixed(1)}`;
  return make("figure", "", plot, make("figcaption", "", caption));
};

/**
 * Make a part that opens.
 * @param {string} title
 * @param {Node[]} parts
 */
const makeDetails = (title, parts) => make("details", "", make("summary", "", title), ...parts);

/** @param {TrainingPassage} row */
const rowCard = (row) => {
  const explained = make("p", "trained-explain", row.explains);
  return makeCard(`kind ${row.role}`, row.title, explained, ...maskedRow(row));
};

/** @param {TrainedVariant} variant */
const variantCard = (variant) => {
  const { role, title, facts, curve, examples, sources } = variant;
  const card = makeCard(`kind ${role}`, title, make("dl", "", ...definitions(facts)));
  if (curve.length > 1) card.append(curveFigure(variant));
  if (examples.length) {
    card.append(makeDetails("Rows it was trained on", examples.flatMap(maskedRow)));
  }
  if (sources.length) {
    const items = make("ul", "", ...sources.map((source) => make("li", "", source)));
    card.append(makeDetails("Data and licences", [items]));
  }
  return card;
};

/** @type {Mount<Training>} */
export const mount =
  ({ element }) =>
  ({ rows, made }) => {
    find(element, ".trained").hidden = !rows.length;
    find(element, ".trained-rows").replaceChildren(...rows.map(rowCard));
    find(element, ".trained-made").replaceChildren(...made.map(variantCard));
  };
