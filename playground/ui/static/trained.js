// Paints how the variants were trained: rows as tokens with their loss mask, the facts, the curve.

// A token, and under it the label of its position: the next token, if the loss is taken there.
const tokens = (row) => {
  const made = make("p", "mask");
  row.tokens.forEach((text, n) => {
    const label = n + 1 < row.tokens.length && n + 1 >= row.first ? row.tokens[n + 1] : null;
    const pair = make("span", "mask-token");
    pair.append(make("span", "mask-text", visible(text)));
    pair.append(make("span", label === null ? "mask-label none" : "mask-label", label === null ? "–" : visible(label)));
    made.append(pair);
  });
  const taken = Math.max(0, row.tokens.length - row.first);
  const said = make("p", "mask-count", `${row.tokens.length} tokens, loss on ${taken} labels`);
  return [made, said];
};

const svg = (tag, attributes) => {
  const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
  Object.entries(attributes).forEach(([name, value]) => made.setAttribute(name, value));
  return made;
};

const curve = (points, top) => {
  const box = svg("svg", { viewBox: "0 0 100 40", preserveAspectRatio: "none", "aria-hidden": "true" });
  const line = points.map((loss, n) => `${(100 * n) / (points.length - 1)},${40 - (40 * loss) / top}`);
  box.append(svg("polyline", { points: line.join(" "), "vector-effect": "non-scaling-stroke" }));
  return box;
};

const section = (one) => {
  const made = make("section", `kind ${one.role}`);
  made.append(make("h4", "", one.title), make("p", "trained-explain", one.explains));
  made.append(...tokens(one));
  return made;
};

const facts = (one) => {
  const made = make("section", `kind ${one.role}`);
  made.append(make("h4", "", one.title));
  const list = make("dl");
  one.facts.forEach(([name, value]) => list.append(make("dt", "", name), make("dd", "", value)));
  made.append(list);
  if (one.curve.length > 1) {
    const top = Math.max(...one.curve);
    const figure = make("figure");
    figure.append(curve(one.curve, top));
    const first = one.curve[0].toFixed(2);
    const last = one.curve.at(-1).toFixed(2);
    figure.append(make("figcaption", "", `Training loss, nats per label, over ${one.steps} steps: ${first} → ${last}; the axis goes from 0 to ${top.toFixed(1)}`));
    made.append(figure);
  }
  if (one.examples.length) {
    const rows = make("details");
    rows.append(make("summary", "", "Rows it was trained on"));
    one.examples.forEach((row) => rows.append(...tokens(row)));
    made.append(rows);
  }
  if (one.sources.length) {
    const sources = make("details");
    const list = make("ul");
    sources.append(make("summary", "", "Data and licences"), list);
    one.sources.forEach((line) => list.append(make("li", "", line)));
    made.append(sources);
  }
  return made;
};

const paint = () => {
  const value = props.value;
  if (!value || !find(".trained")) return;
  find(".trained").hidden = !value.rows.length;
  find(".trained-rows").replaceChildren(...value.rows.map(section));
  find(".trained-made").replaceChildren(...value.made.map(facts));
};
watch("value", paint);
paint();
