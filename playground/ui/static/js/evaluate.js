/**
 * The table of an evaluation: for each task and form the variants' scores, as numbers and as points
 * with their intervals on one scale.
 */

import { find, make, makeButton } from "./dom.js";
import { paintRadioGroup } from "./radio_group.js";
import { percent, points, testP } from "./text.js";

/** @import { Evaluation, EvaluationRow, Mount, OnlyRight, PairedDifference, Score, Scores, Scoring, TitledRole } from "./types.js" */

/**
 * Return the rows that were scored in a way, each with its scores, under the title of its task.
 * @param {EvaluationRow[]} rows those of one task follow one another
 * @param {string} scoring
 */
export const byTask = (rows, scoring) => {
  /** @type {{ row: EvaluationRow, scores: Scores }[][]} */
  const tasks = [];
  for (const row of rows) {
    const scores = row.scores[scoring];
    if (!scores) continue;
    const last = tasks.at(-1);
    if (last?.[0].row.task === row.task) last.push({ row, scores });
    else tasks.push([{ row, scores }]);
  }
  return tasks;
};

/**
 * Return the chosen way to score, or the first where there is no such way.
 * @param {Scoring[]} scorings one at least
 * @param {string} chosen
 */
export const scoringOf = (scorings, chosen) =>
  scorings.find(({ name }) => name === chosen) ?? scorings[0];

/**
 * Make a picture of scores: a lane for each variant, from 0 to 100 %.
 * @param {TitledRole[]} roles
 * @param {Scores} scores
 */
const strip = (roles, scores) => {
  const box = make("div", "strip");
  box.setAttribute("aria-hidden", "true");
  for (const { role } of roles) {
    const score = scores[role];
    if (!score) continue;
    const range = make("span", "range");
    range.style.left = `${100 * score.low}%`;
    range.style.width = `${100 * (score.high - score.low)}%`;
    const point = make("span", "point");
    point.style.left = `${100 * score.value}%`;
    box.append(make("div", `lane ${role}`, range, point));
  }
  return box;
};

/** @param {TitledRole[]} roles */
const headRow = (roles) => {
  const row = make(
    "tr",
    "",
    make("th", "", "Form"),
    make("th", "wide", "0 – 100 %"),
    ...roles.map(({ role, title }) => make("th", role, title)),
    make("th", "", "n"),
  );
  for (const cell of row.cells) cell.setAttribute("scope", "col");
  return row;
};

/**
 * @param {EvaluationRow} row
 * @param {number} columns
 */
const taskRow = ({ title, held_out }, columns) => {
  const name = make("th", "", title);
  name.colSpan = columns;
  name.scope = "rowgroup";
  const kind = held_out ? "held-out" : "kind seen in tuning";
  if (held_out !== null) name.append(make("span", "badge", kind));
  return make("tr", "task-line", name);
};

/** @param {Score | undefined} score */
const scoreTexts = (score) =>
  score
    ? [
        make("b", "", percent(score.value)),
        make("small", "", ` ${percent(score.low)}–${percent(score.high)}`),
      ]
    : [];

/**
 * @param {{ row: EvaluationRow, scores: Scores }} scored
 * @param {TitledRole[]} roles
 */
const scoreRow = ({ row, scores }, roles) => {
  const form = make("th", "", row.form);
  form.scope = "row";
  const plot = make("td", "wide", strip(roles, scores));
  const cells = roles.map(({ role, title }) => {
    const cell = make("td", `score ${role}`, ...scoreTexts(scores[role]));
    cell.dataset.title = title;
    return cell;
  });
  return make("tr", "score-line", form, plot, ...cells, make("td", "count", String(row.n)));
};

/** @param {PairedDifference} pair */
const pairLine = ({ title, form, ours_title, theirs_title, value, low, high, p }) =>
  make(
    "li",
    "",
    `${title}, ${form}: ${ours_title} less ${theirs_title} `,
    make("strong", "", points(value)),
    make("small", "", ` ${points(low)} to ${points(high)}${testP(p)}`),
  );

/**
 * @param {OnlyRight} item
 * @param {() => void} open
 */
const onlyLine = ({ role, title, task, form, input, gold }, open) =>
  make(
    "li",
    role,
    make("b", "", title),
    make("span", "only-task", ` ${task}, ${form}: `),
    make("q", "", input),
    make("span", "only-gold", ` → ${gold} `),
    makeButton("Open in Compare", open),
  );

/** @param {string} record */
const download = (record) => {
  const link = make("a");
  link.href = URL.createObjectURL(new Blob([record], { type: "application/json" }));
  link.download = "triptych-evaluation.json";
  link.click();
  URL.revokeObjectURL(link.href);
};

/** @type {Mount<Evaluation>} */
export const mount = ({ element, props, trigger }) => {
  let chosen = "generation";
  find(element, ".results-download").addEventListener("click", () => {
    if (props.value) download(props.value.record);
  });

  /** @param {Evaluation} evaluation */
  const paint = (evaluation) => {
    const { rows, roles, scorings, pairs, only, record } = evaluation;
    find(element, ".results").hidden = !rows.length;
    find(element, ".results-download").hidden = !record;
    if (!rows.length) return;
    const scoring = scoringOf(scorings, chosen);
    chosen = scoring.name;
    paintRadioGroup(find(element, ".results-scorings"), scorings, chosen, (name) => {
      chosen = name;
      paint(evaluation);
    });
    find(element, ".results-explain").textContent = scoring.explains;
    find(element, "thead").replaceChildren(headRow(roles));
    find(element, "tbody").replaceChildren(
      ...byTask(rows, chosen).flatMap((scored) => [
        taskRow(scored[0].row, 3 + roles.length),
        ...scored.map((line) => scoreRow(line, roles)),
      ]),
    );
    const compared = pairs.filter((pair) => pair.scoring === chosen);
    find(element, ".results-pairs").hidden = !compared.length;
    find(element, ".results-pairs ul").replaceChildren(...compared.map(pairLine));
    find(element, ".results-only").hidden = !only.length;
    find(element, ".results-only ul").replaceChildren(
      ...only.map((item) => onlyLine(item, () => trigger("select", item.fields))),
    );
  };

  return paint;
};
