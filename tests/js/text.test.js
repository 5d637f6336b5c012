import assert from "node:assert/strict";
import { test } from "node:test";
import {
  figure,
  percent,
  points,
  probability,
  testP,
  visible,
} from "../../playground/ui/static/js/text.js";

test("white space is marked, and spaces only where there is nothing else", () => {
  assert.equal(visible("a\n\tb"), "a↵⇥b");
  assert.equal(visible(" a b "), " a b ");
  assert.equal(visible("  "), "␣␣");
  assert.equal(visible(" \n"), " ↵"); // a mark is something
  assert.equal(visible(""), "");
});

test("no probability above zero is shown as zero, and none below one half a per cent as one", () => {
  assert.equal(probability(0), "0 %");
  assert.equal(probability(5e-324), "< 0.1 %");
  assert.equal(probability(0.00099999), "< 0.1 %");
  assert.equal(probability(0.001), "0.1 %");
  assert.equal(probability(0.05), "5.0 %");
  assert.equal(probability(1), "100 %");
});

test("one digit more below 10 % never makes 10.0 %", () => {
  assert.equal(probability(0.0994), "9.9 %");
  assert.equal(probability(0.0995), "10 %");
  for (let p = 0; p <= 1; p += 0.0001) assert.notEqual(probability(p), "10.0 %");
});

test("figures have their digits up to a thousand, whole groups beyond, and a dash for nothing", () => {
  assert.equal(figure(0, 1), "0.0");
  assert.equal(figure(2.345, 1), "2.3");
  assert.equal(figure(999.94, 1), "999.9");
  assert.equal(figure(1000, 1), "1,000");
  assert.equal(figure(1234567.8, 2), "1,234,568");
  assert.equal(figure(null, 2), "–");
});

test("a difference has its sign, and none has none", () => {
  assert.equal(points(0.123), "+12");
  assert.equal(points(-0.5), "-50");
  assert.equal(points(0), "0");
  assert.equal(percent(0.125), "13");
});

test("the p of a test has three digits, a floor, and is left out where there was no test", () => {
  assert.equal(testP(0.0009), ", p < 0.001");
  assert.equal(testP(0.001), ", p 0.001");
  assert.equal(testP(1), ", p 1.000");
  assert.equal(testP(null), "");
});
