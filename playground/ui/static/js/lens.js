/**
 * Three readings of a text: tokens coloured by what they cost, what was expected after one of them,
 * and the sums. All that is shown was computed before: choosing a token asks the server nothing.
 */

import { find, make, makeButton, makeCard, makeRow } from "./dom.js";
import {
  cameNext,
  colourStrength,
  costOf,
  describeToken,
  firstFree,
  firstPlace,
  forkRequest,
  lastPosition,
  likeliestAfter,
  MODES,
  movedBy,
  positionAt,
  quoteBefore,
  UNKNOWN_ID,
} from "./lens_tokens.js";
import { paintRadioGroup } from "./radio_group.js";
import { figure, probability, visible } from "./text.js";

/** @import { Lens, LensVariant, LikelyToken, LossSummary, Mount } from "./types.js" */

/** Tokens that are laid out in one frame: some thousand at once would hold the page up. */
const SLICE = 200;
const SUMS_HEAD = ["", "tokens", "nats", "nats a token", "perplexity", "bits a byte"];

/**
 * A variant's text on the page.
 * @typedef {object} Strip
 * @property {LensVariant} variant
 * @property {HTMLElement} section
 * @property {HTMLElement} box
 * @property {HTMLElement[]} chips those that are laid out
 */

/**
 * @param {HTMLElement} chip
 * @param {number} strength
 */
const colour = (chip, strength) => {
  chip.style.setProperty("--amount", `${Math.round(46 * Math.abs(strength))}%`);
  chip.classList.toggle("less", strength < 0);
};

/**
 * @param {LensVariant} variant
 * @param {number} n
 */
const makeChip = ({ tokens, prompt_tokens }, n) => {
  const special = tokens.special[n];
  const className = `lens-token${special ? " special" : ""}${n >= prompt_tokens ? " answer" : ""}`;
  const text = special ? tokens.text[n] : tokens.text[n].replaceAll("\n", "↵\n");
  const chip = make("span", className, text);
  chip.dataset.n = String(n);
  chip.title = describeToken(tokens, n);
  return chip;
};

/**
 * Make the button of a token that may come next.
 * @param {LikelyToken} likely
 * @param {{ came: boolean, top: number, fixed: boolean }} shown `top` is the probability of a full
 *   bar; `fixed` tells that a template wrote what stands here
 * @param {() => void} goOn
 */
const makeBar = ({ text, id, p, sampled }, { came, top, fixed }, goOn) => {
  const known = id !== UNKNOWN_ID;
  const left = `${probability(sampled)} after the sampler`;
  const bar = makeButton("", goOn, "bar");
  const length = make("span", "bar-p");
  length.style.width = `${(100 * p) / top}%`;
  const track = make("span", "bar-track", length);
  if (sampled) {
    const mark = make("span", "bar-sampled");
    mark.style.left = `${Math.min(100, (100 * sampled) / top)}%`;
    track.append(mark);
  }
  bar.append(
    make("span", "bar-text", visible(text)),
    track,
    make("span", "bar-figure", probability(p)),
  );
  bar.setAttribute(
    "aria-label",
    `“${text}” ${probability(p)}${known ? `, ${left}` : ""}${came ? ", the one that came" : ""}: go on from it`,
  );
  bar.disabled = !known || fixed;
  bar.title = `id ${id} · ${left} · click to go on from it`;
  if (fixed) bar.title = "What the template wrote cannot be changed.";
  if (!known) bar.title = "A server cannot be made to go on from a token.";
  return bar;
};

/**
 * @param {LensVariant} variant
 * @param {LossSummary} sums
 */
const sumsRow = ({ role, title }, sums) =>
  makeRow(
    "td",
    [
      `${title}, ${sums.name}`,
      sums.tokens.toLocaleString("en"),
      figure(sums.loss, 1),
      figure(sums.loss_per_token, 2),
      figure(sums.perplexity, 1),
      figure(sums.bits_per_byte, 2),
    ],
    role,
  );

/**
 * Its value is a `Lens` as JSON.
 * @type {Mount<string>}
 */
export const mount = ({ element, trigger }) => {
  /** @type {Lens} */
  let lens;
  /** @type {Strip[]} */
  let strips = [];
  let mode = MODES[0].name;
  let place = 0;
  let moved = false; // whether the reader has chosen the place
  let painted = "";

  /**
   * Lay the tokens out; one strip is one thing to reach by keyboard, and arrows move in it.
   * @param {LensVariant} variant
   * @returns {Strip}
   */
  const makeStrip = (variant) => {
    const { role, title, tokens, parts_at, says } = variant;
    const box = make("p", "lens-tokens");
    const section = makeCard(`lens-text ${role}`, title, box);
    if (parts_at !== null) {
      const parted = ` would have parted at “${visible(tokens.text[parts_at])}” and said “${visible(says)}”`;
      find(section, "h4").append(make("small", "", parted));
    }
    box.tabIndex = 0;
    box.setAttribute("role", "slider");
    box.setAttribute("aria-label", `Position in the text of ${title}`);
    /** @type {HTMLElement[]} */
    const chips = [];
    const layOut = () => {
      const end = Math.min(tokens.text.length, chips.length + SLICE);
      const fresh = [];
      for (let n = chips.length; n < end; n++) {
        const chip = makeChip(variant, n);
        chip.classList.toggle("chosen", n === positionAt(variant, place));
        colour(chip, colourStrength(tokens, n, mode));
        fresh.push(chip);
      }
      chips.push(...fresh);
      box.append(...fresh);
      if (end < tokens.text.length) requestAnimationFrame(layOut);
    };
    layOut();
    /** @param {number} n */
    const move = (n) => {
      place = Math.max(0, Math.min(lastPosition(variant), n)) - variant.prompt_tokens;
      moved = true;
      paintPlace();
    };
    box.addEventListener("click", ({ target }) => {
      const chip = target instanceof Element ? target.closest(".lens-token") : null;
      if (chip instanceof HTMLElement) move(Number(chip.dataset.n));
    });
    box.addEventListener("keydown", (event) => {
      const n = movedBy(event.key, positionAt(variant, place), lastPosition(variant));
      if (n === null) return;
      event.preventDefault();
      move(n);
    });
    return { variant, section, box, chips };
  };

  /**
   * @param {LensVariant} variant
   * @param {number} top
   */
  const nextCard = (variant, top) => {
    const n = positionAt(variant, place);
    const fixed = n + 1 < firstFree(variant, lens.format);
    const bars = likeliestAfter(variant, n).map((likely) => {
      const came = cameNext(variant, n, likely);
      const goOn = () => trigger("select", forkRequest(lens, variant, n, likely));
      return make("li", came ? "came" : "", makeBar(likely, { came, top, fixed }, goOn));
    });
    const others = `all other tokens together ${probability(variant.next.outside[n])}`;
    const shown = [make("ul", "bars", ...bars), make("p", "mask-count", others)];
    return makeCard(`ledger-column ${variant.role}`, variant.title, ...shown);
  };

  const paintPlace = () => {
    for (const { variant, box, chips } of strips) {
      const n = positionAt(variant, place);
      box.querySelector(".chosen")?.classList.remove("chosen");
      chips[n]?.classList.add("chosen");
      box.setAttribute("aria-valuemin", "0");
      box.setAttribute("aria-valuemax", String(lastPosition(variant)));
      box.setAttribute("aria-valuenow", String(n));
      const { tokens } = variant;
      box.setAttribute("aria-valuetext", `${tokens.text[n]}: ${describeToken(tokens, n)}`);
    }
    const { variants, format } = lens;
    const positions = variants.map((variant) => ({ variant, n: positionAt(variant, place) }));
    const top = Math.max(0.01, ...positions.flatMap(({ variant, n }) => variant.next.p[n]));
    const quotes = positions.map(({ variant, n }) => quoteBefore(variant, n));
    const after = format === "same" ? quotes[0] : [...new Set(quotes)].join(", ");
    find(element, ".lens-after").textContent =
      `After ${after}. All bars on one scale, to ${probability(top)}; the mark is the probability after the sampler.`;
    find(element, ".lens-next").replaceChildren(
      ...variants.map((variant) => nextCard(variant, top)),
    );
  };

  /** @param {string} name */
  const paintMode = (name) => {
    mode = name;
    paintRadioGroup(find(element, ".lens-modes"), MODES, mode, paintMode);
    const explained = MODES.find((known) => known.name === mode)?.explains ?? "";
    find(element, ".lens-explain").textContent = explained;
    for (const { variant, chips } of strips) {
      chips.forEach((chip, n) => {
        colour(chip, colourStrength(variant.tokens, n, mode));
      });
    }
  };

  const paintSums = () => {
    find(element, ".lens-sums thead").replaceChildren(makeRow("th", SUMS_HEAD));
    find(element, ".lens-sums tbody").replaceChildren(
      ...lens.variants.flatMap((variant) => variant.sums.map((sums) => sumsRow(variant, sums))),
    );
  };

  return (value) => {
    if (value === painted) return; // Gradio sends the last value twice
    painted = value;
    const run = lens?.run;
    lens = JSON.parse(painted);
    const ready = lens.variants?.length && lens.variants.every(({ next }) => next.p.length);
    find(element, ".lens").hidden = !ready;
    if (!ready) return;
    find(element, ".lens-of").textContent = lens.answer_of
      ? `The answer of ${lens.answer_of}, read by all three after their own prompts.`
      : "";
    find(element, ".lens-cost").textContent = costOf(lens);
    if (lens.run !== run) moved = false;
    if (!moved) place = firstPlace(lens);
    const focused = strips.findIndex(({ box }) => box === document.activeElement);
    strips = lens.variants.map(makeStrip);
    find(element, ".lens-texts").replaceChildren(...strips.map(({ section }) => section));
    strips[focused]?.box.focus();
    paintMode(mode);
    paintPlace();
    paintSums();
  };
};
