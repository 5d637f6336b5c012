/** The pure parts of single components. */

import assert from "node:assert/strict";
import { test } from "node:test";
import { start } from "../../playground/ui/static/js/component.js";
import { byTask, scoringOf } from "../../playground/ui/static/js/evaluate.js";
import { withFork } from "../../playground/ui/static/js/forks.js";
import { layoutKey } from "../../playground/ui/static/js/grid.js";
import { keepNotice } from "../../playground/ui/static/js/notice.js";
import { chosenTheme, keepTheme, wantedTheme } from "../../playground/ui/static/js/page.js";
import { copyTo, endings, whenChanged } from "../../playground/ui/static/js/pane.js";
import { cells } from "../../playground/ui/static/js/rounding.js";
import { shuffled } from "../../playground/ui/static/js/table.js";
import { curvePoints, labelAt } from "../../playground/ui/static/js/trained.js";

test("a component paints the value it begins with and each that comes, but not that there is none", () => {
  const painted = [];
  const component = { props: { value: null }, watch: (_, changed) => changes.push(changed) };
  const changes = [];
  start(() => (value) => painted.push(value), component);
  assert.deepEqual(painted, []);
  for (const value of [[], "", { a: 1 }]) {
    component.props.value = value;
    changes[0]();
  }
  assert.deepEqual(painted, [[], { a: 1 }]);
  start(() => (value) => painted.push(value), component);
  assert.deepEqual(painted, [[], { a: 1 }, { a: 1 }]);
});

test("a shuffle keeps every row and leaves the table as it was", () => {
  const rows = [1, 2, 3, 4, 5];
  const order = shuffled(rows, () => 0);
  assert.deepEqual(order, [2, 3, 4, 5, 1]);
  assert.deepEqual(rows, [1, 2, 3, 4, 5]);
  assert.deepEqual(shuffled([]), []);
  assert.deepEqual(shuffled([1]), [1]);
});

test("each of the 24 orders of four rows comes from as many draws", () => {
  const orders = new Map();
  for (let a = 0; a < 4; a++) {
    for (let b = 0; b < 3; b++) {
      for (let c = 0; c < 2; c++) {
        const draws = [a / 4, b / 3, c / 2];
        const order = shuffled(["a", "b", "c", "d"], () => draws.shift()).join("");
        orders.set(order, (orders.get(order) ?? 0) + 1);
      }
    }
  }
  assert.equal(orders.size, 24);
});

test("a notice stays while the fields hold its prompt, however a table was made", () => {
  const notice = { kind: "notice", text: "Look", of: { form: "few-shot", table: [["a", "b"]] } };
  const names = ["form", "input", "table"];
  const kept = (...values) => keepNotice(names, [notice, ...values]).text;
  assert.equal(kept("few-shot", "anything", [["a", "b"]]), "Look");
  assert.equal(kept("few-shot", "", [["a", "c"]]), "");
  assert.equal(kept("zero-shot", "", [["a", "b"]]), "");
  const line = { kind: "", text: "" };
  assert.deepEqual(keepNotice(names, [line, "few-shot", "", []]), line);
});

test("the address decides light or dark, then what was chosen before, then the system", () => {
  assert.equal(wantedTheme("?__theme=dark&x=1", "light"), "dark");
  assert.equal(wantedTheme("?x=1", "light"), "light");
  assert.equal(wantedTheme("", null), null);
  assert.equal(wantedTheme("?__theme=system", "dark"), null);
});

test("a theme is kept for the next visit, and is none where the storage is denied", (t) => {
  const kept = new Map();
  let allowed = true;
  Object.defineProperty(globalThis, "localStorage", {
    configurable: true,
    get: () => {
      if (!allowed) throw new Error("SecurityError");
      return {
        getItem: (name) => kept.get(name) ?? null,
        setItem: (name, value) => kept.set(name, value),
      };
    },
  });
  t.after(() => {
    delete globalThis.localStorage;
  });
  assert.equal(chosenTheme(), null);
  keepTheme("dark");
  assert.equal(chosenTheme(), "dark");
  allowed = false;
  keepTheme("light");
  assert.equal(chosenTheme(), null);
  allowed = true;
  assert.equal(chosenTheme(), "dark");
});

test("an answer is copied, unless the page has no clipboard or no leave to write to it", async () => {
  const written = [];
  const clipboard = { writeText: async (text) => written.push(text) };
  assert.equal(await copyTo(clipboard, "Why?"), true);
  assert.deepEqual(written, ["Why?"]);
  assert.equal(await copyTo(undefined, "Why?"), false);
  assert.equal(await copyTo({ writeText: () => Promise.reject(new Error("denied")) }, "x"), false);
});

test("what ends an answer names its stop texts", () => {
  assert.equal(endings([]), "Ends at the end-of-text token or the length limit.");
  assert.match(endings(["\\nInput:", "##"]), /the text “\\nInput:”, “##”\.$/);
});

test("what is equal to the last value is not painted again, and nothing is a value", () => {
  const painted = [];
  const paint = whenChanged((value) => painted.push(value));
  for (const value of [null, null, { a: 1 }, { a: 1 }, null]) paint(value);
  assert.deepEqual(painted, [null, { a: 1 }, null]);
});

test("a grid is laid out again when an answer ends or fails, or a row folds, and not as it grows", () => {
  const grid = (cell) => ({
    rows: [
      {
        fields: {},
        cells: [{ text: "", badge: "", error: "", notes: "", reasoning: "", ...cell }],
      },
    ],
  });
  const key = layoutKey(grid({}), []);
  assert.equal(layoutKey(grid({ text: "more" }), []), key);
  assert.notEqual(layoutKey(grid({ badge: "looped" }), []), key);
  assert.notEqual(layoutKey(grid({ error: "gone" }), []), key);
  assert.notEqual(layoutKey(grid({ notes: "known" }), []), key);
  assert.notEqual(layoutKey(grid({}), ["base"]), key);
  const thinking = layoutKey(grid({ reasoning: "Well" }), []);
  assert.notEqual(thinking, key);
  assert.equal(layoutKey(grid({ reasoning: "Well, then" }), []), thinking);
});

test("a new fork comes first, and a growing one keeps its place", () => {
  const [first, second] = [{ run: 1 }, { run: 2 }];
  const forks = withFork(withFork([], first), second);
  assert.deepEqual(forks, [second, first]);
  const grown = { run: 1, title: "grown" };
  assert.deepEqual(withFork(forks, grown), [second, grown]);
});

test("rows of an evaluation stand under their task, if they were scored that way", () => {
  const row = (task, form, ...ways) => ({
    task,
    form,
    scores: Object.fromEntries(ways.map((way) => [way, {}])),
  });
  const rows = [
    row("a", "zero", "says"),
    row("a", "few", "says", "ended"),
    row("b", "few", "says"),
  ];
  const forms = (way) =>
    byTask(rows, way).map((task) => task.map(({ row }) => `${row.task} ${row.form}`));
  assert.deepEqual(forms("says"), [["a zero", "a few"], ["b few"]]);
  assert.deepEqual(forms("ended"), [["a few"]]);
  assert.deepEqual(forms("never"), []);
});

test("a way to score that is not there any more gives way to the first", () => {
  const scorings = [{ name: "generation" }, { name: "ended" }];
  assert.equal(scoringOf(scorings, "ended"), scorings[1]);
  assert.equal(scoringOf(scorings, "rouge-l"), scorings[0]);
});

test("the base was not tuned, and answers that part nowhere say so", () => {
  const base = { title: "Base", kl: 0.0123, tuning: null, same: 0.996, parts: null };
  assert.deepEqual(cells(base), ["Base", "0.012", "–", "100 %", "nowhere"]);
  assert.deepEqual(cells({ ...base, tuning: 1, parts: 0 }).slice(2), ["1.000", "100 %", "token 1"]);
});

test("the label of a position is the next token, and as many are taken as follow the prompt", () => {
  const row = { tokens: ["<bos>", "a", "b", "<eos>"], first: 2 };
  assert.deepEqual(
    row.tokens.map((_, n) => labelAt(row, n)),
    [null, "b", "<eos>", null],
  );
  const all = { ...row, first: 0 };
  assert.deepEqual(
    all.tokens.map((_, n) => labelAt(all, n)),
    ["a", "b", "<eos>", null],
  );
});

test("a curve spans the box's width, its top is the highest loss and its foot is zero", () => {
  assert.equal(curvePoints([4, 2, 0]), "0,0 50,20 100,40");
});
