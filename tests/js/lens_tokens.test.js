import assert from "node:assert/strict";
import { test } from "node:test";
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
} from "../../playground/ui/static/js/lens_tokens.js";

/** A reading of `<bos>To boil an`, of which the first two tokens are the prompt. */
const reading = () => ({
  prompt_tokens: 2,
  tokens: {
    text: ["<bos>", "To", " boil", " an"],
    id: [2, 11, 12, 13],
    special: [true, false, false, false],
    loss: [null, 4, 12, Math.LN2],
    rank: [null, 1, 2000, 2],
    p_gain: [null, 0, -0.25, 0.5],
    rank_gain: [null, 0, -49, 7],
  },
  next: {
    text: [
      ["To", "If"],
      [" go", " be"],
      [" an", " water"],
      [" egg", " apple"],
    ],
    id: [
      [11, 20],
      [21, 22],
      [13, 23],
      [24, 25],
    ],
    p: [
      [0.5, 0.25],
      [0.6, 0.1],
      [0.5, 0.2],
      [0.9, 0.05],
    ],
    sampled: [
      [1, 0],
      [1, 0],
      [0.7, 0.3],
      [1, 0],
    ],
    outside: [0.25, 0.3, 0.3, 0.05],
  },
});

test("the colour is full from 8 nats and empty where the loss is zero or unknown", () => {
  const { tokens } = reading();
  const strengths = tokens.loss.map((_, n) => colourStrength(tokens, n, "loss"));
  assert.deepEqual(strengths, [0, 0.5, 1, Math.LN2 / 8]);
});

test("against the base, colour has the sign of what was gained and ends at a clamped rank", () => {
  const { tokens } = reading();
  const strengths = (mode) => tokens.loss.map((_, n) => colourStrength(tokens, n, mode));
  assert.deepEqual(strengths("p"), [0, 0, -0.25, 0.5]);
  assert.deepEqual(strengths("rank"), [0, 0, -1, 1 / 7]);
});

test("every mode gives every token a strength from -1 to 1", () => {
  const { tokens } = reading();
  tokens.loss[1] = -1e-9; // rounded logits
  tokens.p_gain[1] = 2;
  tokens.rank_gain[1] = -1000;
  for (const { name } of MODES) {
    tokens.loss.forEach((_, n) => {
      assert.ok(Math.abs(colourStrength(tokens, n, name)) <= 1);
    });
  }
  assert.equal(colourStrength(tokens, 1, "loss"), 0);
});

test("a token's sentence leaves out what is not told", () => {
  const { tokens } = reading();
  assert.equal(describeToken(tokens, 0), "nothing comes before it");
  assert.equal(
    describeToken(tokens, 2),
    "12.00 nats, p < 0.1 %, rank 2,000; −25 % against the base",
  );
  assert.equal(describeToken(tokens, 3), "0.69 nats, p 50 %, rank 2; +50 % against the base");
  tokens.rank[3] = tokens.p_gain[3] = null;
  assert.equal(describeToken(tokens, 3), "0.69 nats, p 50 %");
  tokens.loss[3] = null;
  assert.equal(describeToken(tokens, 3), "what it cost is not told");
});

test("a place is one position in each variant, and the nearest where there is none", () => {
  const base = reading();
  const tuned = { ...reading(), prompt_tokens: 3 };
  assert.equal(positionAt(base, -1), 1);
  assert.equal(positionAt(tuned, -1), 2);
  assert.equal(positionAt(base, 99), 3);
  assert.equal(positionAt(base, -99), 0);
  assert.equal(lastPosition(base), 3);
});

test("at first the end of what all have read is shown, or of the prompts of an answer", () => {
  const behind = reading();
  behind.next.p = behind.next.p.slice(0, 3);
  const variants = [reading(), behind];
  assert.equal(firstPlace({ answer_of: "", variants }), 0);
  assert.equal(firstPlace({ answer_of: "Base", variants }), -1);
  for (const variant of variants) assert.equal(positionAt(variant, 0), 2);
});

test("arrows, Home and End move in a text, and other keys do not", () => {
  const moved = (key) => movedBy(key, 5, 9);
  assert.deepEqual(["ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp"].map(moved), [6, 6, 4, 4]);
  assert.deepEqual(["Home", "End", "Tab", "x"].map(moved), [0, 9, null, null]);
});

test("columns become tokens again", () => {
  assert.deepEqual(likeliestAfter(reading(), 2), [
    { text: " an", id: 13, p: 0.5, sampled: 0.7 },
    { text: " water", id: 23, p: 0.2, sampled: 0.3 },
  ]);
});

test("the token that came is known by its id, or by its text where there is no id", () => {
  const variant = reading();
  const [an, water] = likeliestAfter(variant, 2);
  assert.equal(cameNext(variant, 2, an), true);
  assert.equal(cameNext(variant, 2, water), false);
  assert.equal(cameNext(variant, 2, { ...an, text: "other", id: 13 }), true);
  assert.equal(cameNext(variant, 2, { ...an, id: UNKNOWN_ID }), true);
  assert.equal(cameNext(variant, 2, { ...water, id: UNKNOWN_ID }), false);
  assert.equal(cameNext(variant, 3, an), false); // nothing came after the last
});

test("a fork keeps what stands before the token, without what a template wrote", () => {
  const variant = reading();
  const lens = { format: "same", text: "To boil an" };
  const [an, water] = likeliestAfter(variant, 2);
  assert.equal(firstFree(variant, "same"), 1);
  assert.equal(firstFree(variant, "own"), 2);
  assert.deepEqual(forkRequest(lens, variant, 2, water), {
    ids: [11, 12],
    id: 23,
    instead: " an",
    text: "To boil an",
    format: "same",
  });
  assert.deepEqual(forkRequest({ ...lens, format: "own" }, variant, 2, water).ids, [12]);
  assert.equal(forkRequest(lens, variant, 2, an).instead, "");
  assert.equal(forkRequest(lens, variant, 3, an).instead, "");
});

test("a position is named by the text before it, without special tokens", () => {
  const variant = reading();
  assert.equal(quoteBefore(variant, 0), "“”");
  assert.equal(quoteBefore(variant, 3), "“To boil an”");
  const long = {
    ...variant,
    tokens: { ...variant.tokens, text: [..."abcdefgh"], special: Array(8).fill(false) },
  };
  assert.equal(quoteBefore(long, 7), "“cdefgh”");
});

test("a cost is told with its chance", () => {
  assert.equal(costOf({ word: "egg", cost: [] }), "");
  const cost = [
    { title: "Base", loss: Math.log(4) },
    { title: "Task-tuned", loss: Math.log(1e5) },
  ];
  assert.equal(
    costOf({ word: " egg ", cost }),
    "“egg” would cost Base 1.39 nats (p 25 %), Task-tuned 11.51 nats (p < 0.1 %).",
  );
});
