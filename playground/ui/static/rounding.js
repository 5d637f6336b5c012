// Paints what 4 bits change of each variant, beside what tuning changes.
const row = (tag, cells, role = "") => {
  const made = make("tr", role);
  made.append(...cells.map((text, n) => make(n ? tag : "th", "", text)));
  return made;
};

const column = (one) => {
  const made = make("section", `ledger-column ${one.role}`);
  made.append(make("h4", "", one.title), make("p", "mask-count", "in 4 bits"), make("p", "grid-text", one.text));
  made.append(make("p", "mask-count", "unquantised"), make("p", "grid-text", one.whole));
  return made;
};

const paint = () => {
  const value = props.value;
  if (!value || !find(".rounding")) return;
  find(".rounding").hidden = !value.length;
  find("thead").replaceChildren(row("th", ["", "by rounding", "by tuning", "same likeliest", "answers part at"]));
  find("tbody").replaceChildren(
    ...value.map((one) =>
      row("td", [
        one.title,
        one.kl.toFixed(3),
        one.tuning === null ? "–" : one.tuning.toFixed(3),
        `${Math.round(100 * one.same)} %`,
        one.parts === null ? "nowhere" : `token ${one.parts + 1}`,
      ], one.role),
    ),
  );
  find(".ledger-columns").replaceChildren(...value.map(column));
};
watch("value", paint);
paint();
