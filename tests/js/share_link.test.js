import assert from "node:assert/strict";
import { test } from "node:test";
import { linkTo } from "../../playground/ui/static/js/share_link.js";

const USUAL = {
  form: "instruction",
  instruction: "",
  input: "",
  input_label: "Input",
  cue: "Output",
  top_k: 0,
};
const FIELDS = {
  ...USUAL,
  table: [
    ["sun", "sol"],
    ["", " "],
    ["moon", "luna"],
  ],
  shots: 8,
};
const PAGE = "http://127.0.0.1:7860/";

const query = (fields, address = PAGE) =>
  new URL(linkTo(address, USUAL, { ...FIELDS, ...fields })).search;

test("a page as it is at first has a link without a query", () => {
  assert.equal(linkTo(PAGE, USUAL, FIELDS), PAGE);
});

test("what is not as usual is named, an emptied field, too", () => {
  assert.equal(
    query({ instruction: "Tell & ask=?\n#1", top_k: 5 }),
    "?instruction=Tell+%26+ask%3D%3F%0A%231&top_k=5",
  );
  assert.equal(query({ form: "zero-shot", cue: "", top_k: null }), "?form=zero-shot&cue=&top_k=");
});

test("what the form has no place for is not named", () => {
  assert.equal(query({ cue: "Answer", input_label: "Text" }), "");
  assert.equal(query({ form: "zero-shot", instruction: "x" }), "?form=zero-shot");
});

test("demonstrations are named in their order, without empty rows, as many as are shown", () => {
  const all =
    "?form=few-shot&example_input=sun&example_output=sol&example_input=moon&example_output=luna";
  assert.equal(query({ form: "few-shot" }), all);
  assert.equal(
    query({ form: "few-shot", shots: 1 }),
    "?form=few-shot&example_input=sun&example_output=sol",
  );
  assert.equal(query({ form: "few-shot", shots: 0 }), "?form=few-shot");
  assert.equal(query({ form: "zero-shot" }), "?form=zero-shot");
});

test("an older link in the address is replaced, and what others put there stays", () => {
  const address = `${PAGE}trio-x?__theme=dark&instruction=old&example_input=a&example_output=b#lens`;
  assert.equal(
    linkTo(address, USUAL, { ...FIELDS, instruction: "new" }),
    `${PAGE}trio-x?__theme=dark&instruction=new`,
  );
  assert.equal(linkTo(linkTo(address, USUAL, FIELDS), USUAL, FIELDS), `${PAGE}trio-x?__theme=dark`);
});
