/** Nine answers: a row for each prompt form, a column for each variant. Rows and columns fold. */

import { definitions, failure, find, folding, make, makeButton, remark } from "./dom.js";

/** @import { Grid, GridCell, GridRow, Mount } from "./types.js" */

/**
 * Return what two states of a grid share when they differ in their growing texts alone: then what
 * has the focus, or is being clicked, can stay.
 * @param {Grid} grid
 * @param {Iterable<string>} folded
 */
export const layoutKey = ({ rows }, folded) =>
  JSON.stringify([
    rows.map(({ fields, cells }) => [
      fields,
      cells.map(({ badge, error, notes, reasoning }) => [badge, error, notes, Boolean(reasoning)]),
    ]),
    [...folded],
  ]);

/** @type {Mount<Grid>} */
export const mount = ({ element, props, trigger }) => {
  /** @type {Set<string>} */
  const folded = new Set();
  let painted = "";

  /**
   * @param {string} name
   * @param {string} title
   */
  const foldButton = (name, title) => {
    const fold = () => {
      if (!folded.delete(name)) folded.add(name);
      if (props.value) paint(props.value);
      find(element, `[data-fold="${name}"] .grid-fold`).focus();
    };
    const button = makeButton(title, fold, "grid-fold");
    button.setAttribute("aria-expanded", String(!folded.has(name)));
    return button;
  };

  /** @param {Grid} grid */
  const headRow = ({ roles }) => {
    const heads = roles.map(({ role, title }) => {
      const head = make("th", role, foldButton(role, title));
      head.scope = "col";
      head.dataset.fold = role;
      return head;
    });
    return make("tr", "", make("td"), ...heads);
  };

  /**
   * @param {GridCell} cell
   * @param {GridRow} row
   */
  const answerCell = (cell, row) => {
    const { role, title, badge, kind, text, error, notes, reasoning, meta } = cell;
    if (folded.has(role) || folded.has(row.form)) {
      return make("td", `${role} folded`, make("span", "grid-short", badge || "…"));
    }
    const top = make("p", "grid-top", make("span", "grid-role", title));
    const foot = make("p", "grid-foot", make("span", "", meta));
    if (badge) {
      top.append(make("span", `grid-badge ${kind}`, badge));
      const open = makeButton("compare", () => trigger("select", row.fields));
      open.setAttribute("aria-label", `Open the ${row.form} prompt in Compare`);
      foot.append(open);
    }
    const answer = [...folding(reasoning), make("p", "grid-text", text)];
    return make("td", role, top, ...answer, ...failure(error), ...remark(notes), foot);
  };

  /** @param {GridRow} row */
  const formRow = (row) => {
    const { form, lesson, cells } = row;
    const fold = foldButton(form, form[0].toUpperCase() + form.slice(1));
    const name = make("th", "grid-form", fold, make("span", "grid-lesson", lesson));
    name.scope = "row";
    name.dataset.fold = form;
    return make("tr", "", name, ...cells.map((answer) => answerCell(answer, row)));
  };

  /** @param {Grid} grid */
  const grow = ({ rows }) => {
    const cells = [...element.querySelectorAll("tbody td")];
    rows
      .flatMap((row) => row.cells)
      .forEach(({ text, meta, reasoning }, n) => {
        const thought = cells[n].querySelector(".reasoning");
        if (thought) thought.textContent = reasoning;
        const answer = cells[n].querySelector(".grid-text");
        if (answer && answer.textContent !== text) answer.textContent = text;
        const figures = cells[n].querySelector(".grid-foot span");
        if (figures) figures.textContent = meta;
      });
  };

  /** @param {Grid} grid */
  const paint = (grid) => {
    find(element, ".grid").hidden = !grid.rows.length;
    const key = layoutKey(grid, folded);
    if (key === painted) {
      grow(grid);
      return;
    }
    painted = key;
    find(element, "thead").replaceChildren(headRow(grid));
    find(element, "tbody").replaceChildren(...grid.rows.map(formRow));
    find(element, ".grid-legend").replaceChildren(...definitions(grid.legend));
  };
  return paint;
};
