// The few-shot table: value is a list of [input, output]. Every edit is in the value at once; the
// server is not asked.
const rowsBox = () => element.querySelector(".shots-rows");
let rows = [];

const field = (row, side) => {
  const made = document.createElement("input");
  made.type = "text";
  made.value = rows[row][side];
  made.autocomplete = "off";
  made.setAttribute("aria-label", `${side ? "Output" : "Input"} of demonstration ${row + 1}`);
  made.addEventListener("input", () => {
    rows[row][side] = made.value;
    hand();
  });
  return made;
};

const hand = () => (props.value = rows.map((row) => [...row]));

const draw = () => {
  rowsBox().replaceChildren(
    ...rows.map((_, n) => {
      const line = document.createElement("div");
      const remove = document.createElement("button");
      line.className = "shots-row";
      remove.type = "button";
      remove.className = "shots-remove";
      remove.textContent = "remove";
      remove.setAttribute("aria-label", `Remove demonstration ${n + 1}`);
      remove.addEventListener("click", () => change(rows.filter((_, other) => other !== n)));
      line.append(field(n, 0), field(n, 1), remove);
      return line;
    }),
  );
};

const change = (next) => {
  rows = next.length ? next : [["", ""]];
  hand();
  draw();
};

const shuffled = () => {
  const next = [...rows];
  for (let n = next.length - 1; n > 0; n--) {
    const other = Math.floor(Math.random() * (n + 1));
    [next[n], next[other]] = [next[other], next[n]];
  }
  return next;
};

const take = () => {
  rows = (props.value ?? []).map((row) => [...row]);
  draw();
};

element.addEventListener("click", (event) => {
  if (event.target.matches(".shots-add")) {
    change([...rows, ["", ""]]);
    rowsBox().lastElementChild.querySelector("input").focus();
  }
  if (event.target.matches(".shots-shuffle")) change(shuffled());
  if (event.target.matches(".shots-clear")) change([]);
});
watch("value", take);
take();
