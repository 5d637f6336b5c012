// Paints one column. Model text reaches the page through textContent alone: markup, scripts and
// templates in it are letters. Knows nothing of how the values came to be.
const RUNNING = ["queued", "reading", "writing"];
let shownSent = "";
let shownWeights = "";

const paintSent = (sent) => {
  const key = JSON.stringify(sent);
  if (key === shownSent) return;
  shownSent = key;
  find(".pane-sent").hidden = !sent;
  if (!sent) return;
  find(".pane-count").textContent = sent.count ? `${sent.count} tokens · ${sent.digest}` : "";
  const shown = sent.tokens.length ? [chips(sent.tokens), table(sent.tokens)] : [make("p", "tokens", sent.text)];
  find(".pane-tokens").replaceChildren(...shown);
  find(".pane-stops").textContent = sent.stops.length
    ? `Ends at the end-of-text token, the length limit, or the text “${sent.stops.join("”, “")}”.`
    : "Ends at the end-of-text token or the length limit.";
};

const paintWeights = (rows) => {
  const key = JSON.stringify(rows);
  if (key === shownWeights) return;
  shownWeights = key;
  find(".pane-weights").hidden = !rows;
  if (!rows) return;
  const cells = rows.flatMap(([name, value]) => [make("dt", "", name), make("dd", "", value)]);
  find(".pane-weights dl").replaceChildren(...cells);
};

const paint = () => {
  const value = props.value;
  if (!value || !find(".pane")) return;
  const running = RUNNING.includes(value.state);
  find(".pane").dataset.state = value.state;
  find(".pane").setAttribute("aria-busy", String(running));
  if (find(".pane-text").textContent !== value.text) find(".pane-text").textContent = value.text;
  find(".pane-meta").textContent = value.meta;
  find(".pane-error").hidden = !value.error;
  find(".pane-error").textContent = value.error;
  find(".pane-same").hidden = !value.same;
  find(".pane-same").textContent = value.same;
  find(".pane-stop").hidden = !running;
  find(".pane-copy").hidden = !value.text;
  paintSent(value.sent);
  paintWeights(value.weights);
};

element.addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (!button) return;
  if (button.matches(".pane-stop")) trigger("stop");
  if (button.matches(".pane-copy")) {
    navigator.clipboard?.writeText(props.value.text).then(() => {
      button.textContent = "copied";
      setTimeout(() => (button.textContent = "copy"), 1200);
    });
  }
  if (button.matches(".pane-enlarge")) {
    const column = element.closest(".variant");
    const large = column.classList.toggle("large");
    button.setAttribute("aria-pressed", String(large));
    button.textContent = large ? "shrink" : "enlarge";
  }
});
const place = element.closest(".variant")?.querySelector(".column-title")?.textContent ?? "";
find(".pane").setAttribute("aria-label", `${place} answer`);
find(".pane-text").setAttribute("aria-label", `${place} answer text`);
watch("value", paint);
paint();
