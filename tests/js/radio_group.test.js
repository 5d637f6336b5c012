import assert from "node:assert/strict";
import { test } from "node:test";
import { neighbour } from "../../playground/ui/static/js/radio_group.js";

const NAMES = ["loss", "p", "rank"];

test("arrows go around a group in both directions", () => {
  assert.equal(neighbour(NAMES, "loss", "ArrowRight"), "p");
  assert.equal(neighbour(NAMES, "rank", "ArrowDown"), "loss");
  assert.equal(neighbour(NAMES, "loss", "ArrowLeft"), "rank");
  assert.equal(neighbour(NAMES, "p", "ArrowUp"), "loss");
});

test("as many steps as there are names lead back to each of them", () => {
  for (const key of ["ArrowRight", "ArrowLeft"]) {
    for (const name of NAMES) {
      assert.equal(
        NAMES.reduce((chosen) => neighbour(NAMES, chosen, key), name),
        name,
      );
    }
  }
});

test("a group of one stays where it is, and other keys move nowhere", () => {
  assert.equal(neighbour(["loss"], "loss", "ArrowLeft"), "loss");
  for (const key of ["Tab", "Enter", " ", "Home", "toString"]) {
    assert.equal(neighbour(NAMES, "p", key), null);
  }
});
