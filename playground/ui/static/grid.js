// Paints nine answers: a row for each prompt form, a column for each variant. Rows and columns fold.
const folded = new Set();

const fold = (name, title) => {
  const button = make("button", "grid-fold", title);
  button.type = "button";
  button.setAttribute("aria-expanded", String(!folded.has(name)));
  button.addEventListener("click", () => {
    if (!folded.delete(name)) folded.add(name);
    paint();
    find(`[data-fold="${name}"] .grid-fold`)?.focus();
  });
  return button;
};

const head = (value) => {
  const line = make("tr");
  line.append(make("td"));
  value.roles.forEach(({ role, title }) => {
    const cell = make("th", role);
    cell.scope = "col";
    cell.dataset.fold = role;
    cell.append(fold(role, title));
    line.append(cell);
  });
  find("thead").replaceChildren(line);
};

const cell = (one, row) => {
  const made = make("td", one.role);
  if (folded.has(one.role) || folded.has(row.form)) {
    made.className += " folded";
    made.append(make("span", "grid-short", one.badge || "…"));
    return made;
  }
  const top = make("p", "grid-top");
  top.append(make("span", "grid-role", one.title));
  if (one.badge) top.append(make("span", `grid-badge ${one.kind}`, one.badge));
  made.append(top, make("p", "grid-text", one.text));
  if (one.error) made.append(make("p", "pane-error", one.error));
  const foot = make("p", "grid-foot");
  foot.append(make("span", "", one.meta));
  if (one.badge) {
    const open = make("button", "", "compare");
    open.type = "button";
    open.setAttribute("aria-label", `Open the ${row.form} prompt in Compare`);
    open.addEventListener("click", () => trigger("select", row.fields));
    foot.append(open);
  }
  made.append(foot);
  return made;
};

const line = (row) => {
  const made = make("tr");
  const name = make("th", "grid-form");
  name.scope = "row";
  name.dataset.fold = row.form;
  name.append(fold(row.form, row.form[0].toUpperCase() + row.form.slice(1)), make("span", "grid-lesson", row.lesson));
  made.append(name, ...row.cells.map((one) => cell(one, row)));
  return made;
};

// While answers grow only their texts change: what has the focus, or is being clicked, stays.
let built = "";
const grow = (value) => {
  const cells = [...element.querySelectorAll("tbody td")];
  value.rows.flatMap((row) => row.cells).forEach((one, n) => {
    const text = cells[n].querySelector(".grid-text");
    if (text && text.textContent !== one.text) text.textContent = one.text;
    const meta = cells[n].querySelector(".grid-foot span");
    if (meta) meta.textContent = one.meta;
  });
};

const paint = () => {
  const value = props.value;
  if (!value || !find(".grid")) return;
  find(".grid").hidden = !value.rows.length;
  const key = JSON.stringify([value.rows.map((row) => [row.fields, row.cells.map((one) => [one.badge, one.error])]), [...folded]]);
  if (key === built) {
    grow(value);
    return;
  }
  built = key;
  head(value);
  find("tbody").replaceChildren(...value.rows.map(line));
  find(".grid-legend").replaceChildren(
    ...value.legend.flatMap(([name, means]) => [make("dt", "", name), make("dd", "", means)]),
  );
};
watch("value", paint);
paint();
