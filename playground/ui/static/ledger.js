// Paints what is about to be sent: findings, and for each variant its tokens and a table of them.
const finding = (one) => {
  const made = make("li", one.level);
  made.append(make("b", "", `${one.level === "error" ? "Error" : "Warning"}, ${one.who}: `));
  made.append(`${one.text} `, make("span", "ledger-cure", one.cure));
  return made;
};

const column = (one) => {
  const made = make("section", `ledger-column ${one.role}`);
  const head = make("h4", "", one.title);
  head.append(make("small", "", ` ${one.sent.count} tokens · ${one.sent.digest}`));
  made.append(head, chips(one.sent.tokens), table(one.sent.tokens));
  return made;
};

const paint = () => {
  const value = props.value;
  if (!value || !find(".ledger")) return;
  find(".ledger").hidden = !value.columns.length;
  find(".ledger-findings").replaceChildren(...value.findings.map(finding));
  find(".ledger-counts").textContent = value.columns.map((one) => one.sent.count).join(", ") + " tokens";
  find(".ledger-columns").replaceChildren(...value.columns.map(column));
};
watch("value", paint);
paint();
