// Paints continuations from forced tokens, the newest first; each can be taken away again.
const kept = [];
const gone = new Set(); // taken away while it was still written

const column = (one) => {
  const made = make("section", `ledger-column ${one.role}`);
  made.append(make("h4", "", one.title), make("p", "grid-text", one.text));
  if (one.error) made.append(make("p", "pane-error", one.error));
  made.append(make("p", "mask-count", one.meta));
  return made;
};

const entry = (one) => {
  const made = make("article", "fork");
  const head = make("header");
  head.append(make("h4", "", one.title), make("span", "fork-begun", one.begun));
  const button = make("button", "", "remove");
  button.type = "button";
  button.setAttribute("aria-label", `Remove ${one.title}`);
  button.addEventListener("click", () => {
    gone.add(one.run);
    kept.splice(kept.indexOf(one), 1);
    list();
  });
  head.append(button);
  const columns = make("div", "ledger-columns");
  columns.append(...one.columns.map(column));
  made.append(head, columns);
  return made;
};

const list = () => {
  find(".forks").hidden = !kept.length;
  find(".forks-list").replaceChildren(...kept.map(entry));
};

const paint = () => {
  const value = props.value;
  if (!value || !find(".forks") || gone.has(value.run)) return;
  const at = kept.findIndex((one) => one.run === value.run);
  if (at < 0) kept.unshift(value);
  else kept[at] = value;
  list();
};
watch("value", paint);
paint();
