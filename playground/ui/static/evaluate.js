// Paints the table of an evaluation: for each task and form the variants' scores, as numbers and as
// points with their intervals on one scale. Texts reach the page through textContent alone.
let scoring = "generation";

const percent = (share) => `${Math.round(100 * share)}`;

const strip = (cells) => {
  const made = make("div", "strip");
  made.setAttribute("aria-hidden", "true");
  cells.forEach(([role, cell]) => {
    if (!cell) return;
    const lane = make("div", `lane ${role}`);
    const range = make("span", "range");
    range.style.left = `${100 * cell.low}%`;
    range.style.width = `${100 * (cell.high - cell.low)}%`;
    const point = make("span", "point");
    point.style.left = `${100 * cell.value}%`;
    lane.append(range, point);
    made.append(lane);
  });
  return made;
};

const header = (value) => {
  const line = document.createElement("tr");
  const names = ["Form", "0 – 100 %", ...value.roles.map((role) => role.title), "n"];
  line.replaceChildren(
    ...names.map((name, n) => {
      const cell = make("th", n >= 2 && n < 2 + value.roles.length ? value.roles[n - 2].role : n === 1 ? "wide" : "", name);
      cell.scope = "col";
      return cell;
    }),
  );
  find("thead").replaceChildren(line);
};

const body = (value) => {
  const lines = [];
  let task = "";
  value.rows.forEach((row) => {
    const cells = row.scores[scoring];
    if (!cells) return;
    if (row.task !== task) {
      task = row.task;
      const line = make("tr", "task-line");
      const name = make("th", "", row.title);
      name.colSpan = 3 + value.roles.length;
      name.scope = "rowgroup";
      const kind = row.held_out ? "held-out" : "kind seen in tuning";
      if (row.held_out !== null) name.append(make("span", "badge", kind));
      line.append(name);
      lines.push(line);
    }
    const line = make("tr", "score-line");
    const form = make("th", "", row.form);
    form.scope = "row";
    const plot = make("td", "wide");
    plot.append(strip(value.roles.map(({ role }) => [role, cells[role]])));
    line.append(form, plot);
    value.roles.forEach(({ role, title }) => {
      const cell = make("td", `score ${role}`);
      cell.dataset.title = title;
      if (cells[role]) {
        cell.append(make("b", "", percent(cells[role].value)));
        cell.append(make("small", "", ` ${percent(cells[role].low)}–${percent(cells[role].high)}`));
      }
      line.append(cell);
    });
    line.append(make("td", "count", String(row.n)));
    lines.push(line);
  });
  find("tbody").replaceChildren(...lines);
};

const choices = (value) => {
  const known = value.scorings.map((one) => one.name);
  if (!known.includes(scoring)) scoring = known[0];
  const box = find(".results-scorings");
  const made = value.scorings.map((one) => {
    const button = make("button", "", one.title);
    button.type = "button";
    button.setAttribute("role", "radio");
    button.setAttribute("aria-checked", String(one.name === scoring));
    button.tabIndex = one.name === scoring ? 0 : -1;
    button.addEventListener("click", () => choose(one.name));
    return button;
  });
  const focused = box.contains(document.activeElement);
  box.replaceChildren(...made);
  if (focused) box.querySelector("[aria-checked=true]").focus();
  find(".results-explain").textContent = value.scorings.find((one) => one.name === scoring).explains;
};

const choose = (name) => {
  scoring = name;
  paint();
};

const points = (share) => `${share > 0 ? "+" : ""}${Math.round(100 * share)}`;

const pairs = (value) => {
  const mine = value.pairs.filter((one) => one.scoring === scoring);
  find(".results-pairs").hidden = !mine.length;
  find(".results-pairs ul").replaceChildren(
    ...mine.map((one) => {
      const line = make("li", "", `${one.title}, ${one.form}: ${one.ours_title} less ${one.theirs_title} `);
      line.append(make("strong", "", points(one.value)));
      const p = one.p === null ? "" : `, p ${one.p < 0.001 ? "< 0.001" : one.p.toFixed(3)}`;
      line.append(make("small", "", ` ${points(one.low)} to ${points(one.high)}${p}`));
      return line;
    }),
  );
};

const only = (value) => {
  find(".results-only").hidden = !value.only.length;
  find(".results-only ul").replaceChildren(
    ...value.only.map((one) => {
      const line = make("li", one.role);
      line.append(make("b", "", one.title), make("span", "only-task", ` ${one.task}, ${one.form}: `));
      line.append(make("q", "", one.input), make("span", "only-gold", ` → ${one.gold} `));
      const button = make("button", "", "Open in Compare");
      button.type = "button";
      button.addEventListener("click", () => trigger("select", one.fields));
      line.append(button);
      return line;
    }),
  );
};

const paint = () => {
  const value = props.value;
  if (!value || !find(".results")) return;
  find(".results").hidden = !value.rows.length;
  find(".results-download").hidden = !value.record;
  if (!value.rows.length) return;
  choices(value);
  header(value);
  body(value);
  pairs(value);
  only(value);
};

element.addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (!step || !event.target.closest(".results-scorings")) return;
  event.preventDefault();
  const names = props.value.scorings.map((one) => one.name);
  choose(names[(names.indexOf(scoring) + step + names.length) % names.length]);
});
find(".results-download").addEventListener("click", () => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([props.value.record], { type: "application/json" }));
  link.download = "triptych-evaluation.json";
  link.click();
  URL.revokeObjectURL(link.href);
});
watch("value", paint);
paint();
