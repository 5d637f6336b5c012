/** Nine answers: a row for each prompt form, a column for each variant. Rows and columns fold. */

import { definitions, find, make, makeButton } from "./dom.js";

/** @import { Component, Grid, GridCell, GridRow } from "./types.js" */

/**
 * Return what two states of a grid share when they differ in their growing texts alone: then what
 * has the focus, or is being clicked, can stay.
 * @param {Grid} grid
 * @param {Iterable<string>} folded
 */
export const layoutKey = ({ rows }, folded) =>
  JSON.stringify([
    rows.map(({ fields, cells }) => [fields, cells.map(({ badge, error }) => [badge, error])]),
    [...folded],
  ]);

/** @param {Component<Grid>} component */
export const mount = ({ element, props, trigger, watch }) => {
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
      paint();
      find(element, `[data-fold="${name}"] .grid-fold`).focus();
    };
    const button = makeButton(title, fold, "grid-fold");
    button.setAttribute("aria-expanded", String(!folded.has(name)));
    return button;
  };

  /** @param {Grid} grid */
  const headRow = ({ roles }) => {
    const row = make("tr");
    row.append(
      make("td"),
      ...roles.map(({ role, title }) => {
        const cell = make("th", role);
        cell.scope = "col";
        cell.dataset.fold = role;
        cell.append(foldButton(role, title));
        return cell;
      }),
    );
    return row;
  };

  /**
   * @param {GridCell} answer
   * @param {GridRow} row
   */
  const answerCell = ({ role, title, badge, kind, text, error, meta }, row) => {
    const cell = make("td", role);
    if (folded.has(role) || folded.has(row.form)) {
      cell.className += " folded";
      cell.append(make("span", "grid-short", badge || "…"));
      return cell;
    }
    const top = make("p", "grid-top");
    top.append(make("span", "grid-role", title));
    if (badge) top.append(make("span", `grid-badge ${kind}`, badge));
    cell.append(top, make("p", "grid-text", text));
    if (error) cell.append(make("p", "pane-error", error));
    const foot = make("p", "grid-foot");
    foot.append(make("span", "", meta));
    if (badge) {
      const open = makeButton("compare", () => trigger("select", row.fields));
      open.setAttribute("aria-label", `Open the ${row.form} prompt in Compare`);
      foot.append(open);
    }
    cell.append(foot);
    return cell;
  };

  /** @param {GridRow} row */
  const formRow = (row) => {
    const { form, lesson, cells } = row;
    const line = make("tr");
    const name = make("th", "grid-form");
    name.scope = "row";
    name.dataset.fold = form;
    name.append(
      foldButton(form, form[0].toUpperCase() + form.slice(1)),
      make("span", "grid-lesson", lesson),
    );
    line.append(name, ...cells.map((answer) => answerCell(answer, row)));
    return line;
  };

  /** @param {Grid} grid */
  const grow = ({ rows }) => {
    const cells = [...element.querySelectorAll("tbody td")];
    rows
      .flatMap((row) => row.cells)
      .forEach(({ text, meta }, n) => {
        const answer = cells[n].querySelector(".grid-text");
        if (answer && answer.textContent !== text) answer.textContent = text;
        const figures = cells[n].querySelector(".grid-foot span");
        if (figures) figures.textContent = meta;
      });
  };

  const paint = () => {
    const grid = props.value;
    if (!grid) return;
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
  watch("value", paint);
  paint();
};
