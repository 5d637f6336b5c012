/**
 * The few-shot table: its value is a list of [input, output]. Every edit is in the value at once;
 * the server is not asked.
 */

import { find, make, makeButton } from "./dom.js";

/** @import { Demonstration, Mount } from "./types.js" */

/**
 * Return rows in a random order, each order as likely as any other (Fisher and Yates).
 * @template Row
 * @param {Row[]} rows
 * @param {() => number} [random] uniform in [0, 1)
 */
export const shuffled = (rows, random = Math.random) => {
  const order = [...rows];
  for (let last = order.length - 1; last > 0; last--) {
    const other = Math.floor(random() * (last + 1));
    [order[last], order[other]] = [order[other], order[last]];
  }
  return order;
};

/** @type {Mount<Demonstration[]>} */
export const mount = ({ element, props }) => {
  const box = find(element, ".shots-rows");
  /** @type {Demonstration[]} */
  let rows = [];

  const handOver = () => {
    props.value = rows.map(([input, output]) => [input, output]);
  };

  /**
   * @param {number} n
   * @param {0 | 1} side
   */
  const field = (n, side) => {
    const input = make("input");
    input.type = "text";
    input.value = rows[n][side];
    input.autocomplete = "off";
    input.setAttribute("aria-label", `${side ? "Output" : "Input"} of demonstration ${n + 1}`);
    input.addEventListener("input", () => {
      rows[n][side] = input.value;
      handOver();
    });
    return input;
  };

  const draw = () => {
    box.replaceChildren(
      ...rows.map((_, n) => {
        const removeRow = () => change(rows.filter((_, other) => other !== n));
        const button = makeButton("remove", removeRow, "shots-remove");
        button.setAttribute("aria-label", `Remove demonstration ${n + 1}`);
        return make("div", "shots-row", field(n, 0), field(n, 1), button);
      }),
    );
  };

  /** @param {Demonstration[]} next */
  const change = (next) => {
    rows = next.length ? next : [["", ""]];
    handOver();
    draw();
  };

  find(element, ".shots-add").addEventListener("click", () => {
    change([...rows, ["", ""]]);
    box.lastElementChild?.querySelector("input")?.focus();
  });
  find(element, ".shots-shuffle").addEventListener("click", () => change(shuffled(rows)));
  find(element, ".shots-clear").addEventListener("click", () => change([]));

  return (value) => {
    rows = value.map(([input, output]) => [input, output]);
    draw();
  };
};
