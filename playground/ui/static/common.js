// What all painted parts are made with. Texts reach the page through textContent alone: markup,
// scripts and templates in them are letters.
const find = (name) => element.querySelector(name);
const make = (tag, name, text) => {
  const made = document.createElement(tag);
  if (name) made.className = name;
  if (text !== undefined) made.textContent = text;
  return made;
};
const visible = (text) => {
  const shown = text.replaceAll("\n", "↵").replaceAll("\t", "⇥");
  return shown.trim() ? shown : shown.replaceAll(" ", "␣");
};
// Tokens as chips: [text, id, special, bytes in hex, whether the base is sent it, too].
const chips = (tokens) => {
  const made = make("p", "tokens");
  made.tabIndex = 0;
  made.replaceChildren(
    ...tokens.map(([text, id, special, bytes, added]) => {
      const shown = special ? text : text.replaceAll("\n", "↵\n").replaceAll("\t", "⇥");
      const chip = make("span", `tok${special ? " special" : ""}${added ? " added" : ""}`, shown);
      chip.title = `id ${id}${bytes ? ` · bytes ${bytes}` : ""}`;
      return chip;
    }),
  );
  return made;
};
const table = (tokens) => {
  const made = make("details", "token-table");
  made.append(make("summary", "", "Token table"));
  made.addEventListener("toggle", () => {
    if (!made.open || made.querySelector("table")) return;
    const box = make("table");
    const line = (name, cells) => {
      const row = make("tr");
      row.append(...cells.map((cell) => make(name, "", cell)));
      return row;
    };
    box.append(line("th", ["place", "id", "text", "bytes"]));
    tokens.forEach(([text, id, special, bytes], n) =>
      box.append(line("td", [String(n), String(id), visible(text), special ? "special" : bytes])),
    );
    made.append(box);
  });
  return made;
};
