/** What the Lens tab says of tokens: pure functions of one variant's reading. */

import { probability, visible } from "./text.js";

/** @import { ForkRequest, Lens, LensTokens, LensVariant, LikelyToken } from "./types.js" */

/** Id of a token whose server tells its text alone. */
export const UNKNOWN_ID = -1;
/** Nats from which the colour is full. */
const FULL_LOSS = 8;
/** The server clamps ranks to it before it subtracts them. */
const MAX_RANK = 50;
/** Tokens that are quoted where a position is named. */
const QUOTED = 6;

/** Ways to colour tokens. */
export const MODES = [
  {
    name: "loss",
    title: "Loss",
    explains:
      "The stronger the colour, the less was the token expected; full from 8 nats (a chance of 1 in 3,000).",
  },
  {
    name: "p",
    title: "Probability against the base",
    explains:
      "Coloured where this variant gave the token more probability than the base did, grey where less.",
  },
  {
    name: "rank",
    title: "Rank against the base",
    explains:
      "Coloured where the token stood higher in this variant's list than in the base's, grey where lower; ranks beyond 50 are as good as equal.",
  },
];

/**
 * @param {number} number
 * @param {number} low
 * @param {number} high
 */
const clamp = (number, low, high) => Math.max(low, Math.min(high, number));

/**
 * Return how strongly a token is coloured, from -1 (grey) to 1; 0 where nothing is known.
 * @param {LensTokens} tokens
 * @param {number} n
 * @param {string} mode name in `MODES`
 */
export const colourStrength = (tokens, n, mode) => {
  if (mode === "loss") return clamp((tokens.loss[n] ?? 0) / FULL_LOSS, 0, 1);
  if (mode === "p") return clamp(tokens.p_gain[n] ?? 0, -1, 1);
  return clamp((tokens.rank_gain[n] ?? 0) / (MAX_RANK - 1), -1, 1);
};

/**
 * Return a token's figures as a sentence.
 * @param {LensTokens} tokens
 * @param {number} n
 */
export const describeToken = (tokens, n) => {
  const [loss, rank, gain] = [tokens.loss[n], tokens.rank[n], tokens.p_gain[n]];
  if (loss === null) return n ? "what it cost is not told" : "nothing comes before it";
  const place = rank === null ? "" : `, rank ${rank.toLocaleString("en")}`;
  const sign = (gain ?? 0) >= 0 ? "+" : "−";
  const against = gain === null ? "" : `; ${sign}${probability(Math.abs(gain))} against the base`;
  return `${loss.toFixed(2)} nats, p ${probability(Math.exp(-loss))}${place}${against}`;
};

/**
 * Return the last position after which something is known.
 * @param {LensVariant} variant
 */
export const lastPosition = ({ next }) => next.p.length - 1;

/**
 * Return a variant's token at a place, the nearest where it has none there.
 * @param {LensVariant} variant
 * @param {number} place tokens after the prompt's end, which all variants share; -1 is the prompt's
 *   last token
 */
export const positionAt = (variant, place) =>
  clamp(variant.prompt_tokens + place, 0, lastPosition(variant));

/**
 * Return the place that is shown before the reader chooses one: the end of the prompts of an answer,
 * or else the end of what all have read.
 * @param {Pick<Lens, "answer_of" | "variants">} lens
 */
export const firstPlace = ({ answer_of, variants }) =>
  answer_of
    ? -1
    : Math.min(...variants.map((variant) => lastPosition(variant) - variant.prompt_tokens));

/**
 * Return the position that a key moves to, which may be none; null for a key that moves nowhere.
 * @param {string} key as in KeyboardEvent
 * @param {number} position
 * @param {number} last
 */
export const movedBy = (key, position, last) => {
  if (key === "ArrowRight" || key === "ArrowDown") return position + 1;
  if (key === "ArrowLeft" || key === "ArrowUp") return position - 1;
  if (key === "Home") return 0;
  return key === "End" ? last : null;
};

/**
 * Return the likeliest tokens after a position, the likeliest first.
 * @param {LensVariant} variant
 * @param {number} n
 * @returns {LikelyToken[]}
 */
export const likeliestAfter = ({ next }, n) =>
  next.p[n].map((p, k) => ({
    text: next.text[n][k],
    id: next.id[n][k],
    p,
    sampled: next.sampled[n][k],
  }));

/**
 * Tell whether a token is the one that came after a position. Without an id its text decides.
 * @param {LensVariant} variant
 * @param {number} n
 * @param {LikelyToken} likely
 */
export const cameNext = ({ tokens }, n, { id, text }) =>
  id === UNKNOWN_ID ? text === tokens.text[n + 1] : id === tokens.id[n + 1];

/**
 * Return the first token that can be replaced: a template's tokens are as they are.
 * @param {LensVariant} variant
 * @param {string} format "same" where all variants read the same bytes, without a template
 */
export const firstFree = ({ tokens, prompt_tokens }, format) =>
  format === "same" ? tokens.special.indexOf(false) : prompt_tokens;

/**
 * Return what the server is asked when all are to go on from a token.
 * @param {Pick<Lens, "format" | "text">} lens
 * @param {LensVariant} variant
 * @param {number} n position before the token
 * @param {LikelyToken} likely
 * @returns {ForkRequest}
 */
export const forkRequest = ({ format, text }, variant, n, likely) => ({
  ids: variant.tokens.id.slice(firstFree(variant, format), n + 1),
  id: likely.id,
  instead: cameNext(variant, n, likely) ? "" : (variant.tokens.text[n + 1] ?? ""),
  text,
  format,
});

/**
 * Quote the text that ends at a position.
 * @param {LensVariant} variant
 * @param {number} n
 */
export const quoteBefore = ({ tokens }, n) => {
  const from = Math.max(0, n + 1 - QUOTED);
  const texts = tokens.text.slice(from, n + 1).filter((_, k) => !tokens.special[from + k]);
  return `“${visible(texts.join(""))}”`;
};

/**
 * Say what a word would cost after the text; empty where that was not asked.
 * @param {Pick<Lens, "word" | "cost">} lens
 */
export const costOf = ({ word, cost }) => {
  if (!cost.length) return "";
  const losses = cost.map(
    ({ title, loss }) => `${title} ${loss.toFixed(2)} nats (p ${probability(Math.exp(-loss))})`,
  );
  return `“${word.trim()}” would cost ${losses.join(", ")}.`;
};
