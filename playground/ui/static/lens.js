// Paints three readings of a text: tokens coloured by what they cost, what was expected after one of
// them, and the sums. All that is shown was computed before: choosing a token asks the server nothing.
const DEEP = 8; // nats from which the colour is full
const SLICE = 200; // tokens that are laid out in one frame
const RANKS = 50; // clamped by the server, too
const UNKNOWN = -1; // the id of a token whose server tells its text alone
const TEXT = 0, ID = 1, SPECIAL = 2, NATS = 3, RANK = 4, MORE_P = 5, MORE_RANK = 6;
const MODES = [
  ["loss", "Loss", "The stronger the colour, the less was the token expected; full from 8 nats (a chance of 1 in 3,000)."],
  ["p", "Probability against the base", "Coloured where this variant gave the token more probability than the base did, grey where less."],
  ["rank", "Rank against the base", "Coloured where the token stood higher in this variant's list than in the base's, grey where lower; ranks beyond 50 are as good as equal."],
];
let mode = "loss";
let place = null; // tokens after the prompt's end, which all variants share; -1 is the prompt's last
let strips = [];
let moved = false;
let shown = null;

const percent = (p) => (p >= 0.0995 ? `${Math.round(100 * p)} %` : p >= 0.001 ? `${(100 * p).toFixed(1)} %` : p ? "< 0.1 %" : "0 %");
const at = (one) => {
  const known = one.after.length - 1;
  return Math.max(0, Math.min(known, one.prompt + place));
};
const strength = (token) => {
  if (mode === "loss") return token[NATS] === null ? 0 : Math.min(1, token[NATS] / DEEP);
  const more = mode === "p" ? token[MORE_P] : token[MORE_RANK] === null ? null : token[MORE_RANK] / (RANKS - 1);
  return more === null ? 0 : Math.max(-1, Math.min(1, more));
};
const explained = (token, n) => {
  if (token[NATS] === null) return n ? "what it cost is not told" : "nothing comes before it";
  const against = token[MORE_P] === null ? "" : `; ${token[MORE_P] >= 0 ? "+" : "−"}${percent(Math.abs(token[MORE_P]))} against the base`;
  const rank = token[RANK] === null ? "" : `, rank ${token[RANK].toLocaleString("en")}`;
  return `${token[NATS].toFixed(2)} nats, p ${percent(Math.exp(-token[NATS]))}${rank}${against}`;
};

const colour = (chip, token) => {
  const amount = strength(token);
  chip.style.setProperty("--amount", `${Math.round(46 * Math.abs(amount))}%`);
  chip.classList.toggle("less", amount < 0);
};

// One strip is one thing to reach by keyboard: arrows move in it.
const strip = (one) => {
  const made = make("section", `lens-text ${one.role}`);
  const box = make("p", "lens-tokens");
  box.tabIndex = 0;
  box.setAttribute("role", "slider");
  box.setAttribute("aria-label", `Position in the text of ${one.title}`);
  const tokens = [];
  const chipOf = (token, n) => {
    const chip = make("span", `lens-token${token[SPECIAL] ? " special" : ""}${n >= one.prompt ? " answer" : ""}`, token[SPECIAL] ? token[TEXT] : token[TEXT].replaceAll("\n", "↵\n"));
    chip.dataset.n = n;
    chip.title = explained(token, n);
    chip.classList.toggle("chosen", n === at(one));
    colour(chip, token);
    return chip;
  };
  // Some thousand tokens at once would hold the page up.
  const lay = () => {
    const from = tokens.length;
    tokens.push(...one.tokens.slice(from, from + SLICE).map((token, n) => chipOf(token, from + n)));
    box.append(...tokens.slice(from));
    if (tokens.length < one.tokens.length) requestAnimationFrame(lay);
  };
  lay();
  const head = make("h4", "", one.title);
  if (one.parts_at !== null) {
    head.append(make("small", "", ` would have parted at “${visible(one.tokens[one.parts_at][TEXT])}” and said “${visible(one.says)}”`));
  }
  made.append(head, box);
  const move = (n) => {
    place = Math.max(0, Math.min(one.after.length - 1, n)) - one.prompt;
    moved = true;
    choose();
  };
  box.addEventListener("click", (event) => {
    const chip = event.target.closest(".lens-token");
    if (chip) move(Number(chip.dataset.n));
  });
  box.addEventListener("keydown", (event) => {
    const ways = { ArrowRight: at(one) + 1, ArrowDown: at(one) + 1, ArrowLeft: at(one) - 1, ArrowUp: at(one) - 1, Home: 0, End: one.after.length - 1 };
    if (!(event.key in ways)) return;
    event.preventDefault();
    move(ways[event.key]);
  });
  return { one, made, box, tokens };
};

const bars = (one, top, same) => {
  const n = at(one);
  const made = make("section", `ledger-column ${one.role}`);
  made.append(make("h4", "", one.title));
  const list = make("ul", "bars");
  const next = one.tokens[n + 1];
  const cameNext = (id, text) => (next && id === UNKNOWN ? text === next[TEXT] : id === next?.[ID]);
  const first = same ? one.tokens.findIndex((token) => !token[SPECIAL]) : one.prompt;
  one.after[n].forEach(([text, id, p, sampled]) => {
    const came = cameNext(id, text);
    const line = make("li", came ? "came" : "");
    const button = make("button", "bar");
    button.type = "button";
    const track = make("span", "bar-track");
    const bar = make("span", "bar-p");
    bar.style.width = `${(100 * p) / top}%`;
    const mark = make("span", "bar-sampled");
    mark.style.left = `${Math.min(100, (100 * sampled) / top)}%`;
    track.append(bar);
    if (sampled) track.append(mark);
    button.append(make("span", "bar-text", visible(text)), track, make("span", "bar-figure", percent(p)));
    const left = id === UNKNOWN ? "" : `, ${percent(sampled)} after the sampler`;
    button.setAttribute("aria-label", `“${text}” ${percent(p)}${left}${came ? ", the one that came" : ""}: go on from it`);
    button.disabled = id === UNKNOWN || n + 1 < first;
    button.title = id === UNKNOWN ? "A server cannot be made to go on from a token." : button.disabled ? "What the template wrote cannot be changed." : `id ${id} · ${percent(sampled)} after the sampler · click to go on from it`;
    button.addEventListener("click", () =>
      trigger("select", {
        ids: one.tokens.slice(first, n + 1).map((token) => token[ID]),
        id,
        instead: next && !came ? next[TEXT] : "",
        text: value.text,
        format: value.format,
      }),
    );
    line.append(button);
    list.append(line);
  });
  made.append(list, make("p", "mask-count", `all other tokens together ${percent(one.outside[n])}`));
  return made;
};

const choose = () => {
  strips.forEach(({ one, box, tokens }) => {
    const n = at(one);
    box.querySelector(".chosen")?.classList.remove("chosen");
    tokens[n]?.classList.add("chosen");
    box.setAttribute("aria-valuemin", "0");
    box.setAttribute("aria-valuemax", String(one.after.length - 1));
    box.setAttribute("aria-valuenow", String(n));
    box.setAttribute("aria-valuetext", `${one.tokens[n][TEXT]}: ${explained(one.tokens[n], n)}`);
  });
  const likely = value.variants.flatMap((one) => one.after[at(one)]);
  const top = Math.max(0.01, ...likely.map(([, , p]) => p));
  const same = value.format === "same";
  const said = value.variants.map((one) => `“${visible(one.tokens.slice(Math.max(0, at(one) - 5), at(one) + 1).filter((t) => !t[SPECIAL]).map((t) => t[TEXT]).join(""))}”`);
  find(".lens-after").textContent = `After ${same ? said[0] : [...new Set(said)].join(", ")}. All bars on one scale, to ${percent(top)}; the mark is the probability after the sampler.`;
  find(".lens-next").replaceChildren(...value.variants.map((one) => bars(one, top, same)));
};

const paintModes = () => {
  const box = find(".lens-modes");
  const focused = box.contains(document.activeElement);
  box.replaceChildren(
    ...MODES.map(([name, title]) => {
      const button = make("button", "", title);
      button.type = "button";
      button.setAttribute("role", "radio");
      button.setAttribute("aria-checked", String(name === mode));
      button.tabIndex = name === mode ? 0 : -1;
      button.addEventListener("click", () => turn(name));
      return button;
    }),
  );
  if (focused) box.querySelector("[aria-checked=true]").focus();
  find(".lens-explain").textContent = MODES.find(([name]) => name === mode)[2];
};

const turn = (name) => {
  mode = name;
  paintModes();
  strips.forEach(({ one, tokens }) => tokens.forEach((chip, n) => colour(chip, one.tokens[n])));
};

const figure = (number, digits) => (number === null ? "–" : number >= 1000 ? Math.round(number).toLocaleString("en") : number.toFixed(digits));
const sums = (value) => {
  const line = (tag, cells, role = "") => {
    const row = make("tr", role);
    row.append(...cells.map((text, n) => make(n ? tag : "th", "", text)));
    return row;
  };
  find(".lens-sums thead").replaceChildren(line("th", ["", "tokens", "nats", "nats a token", "perplexity", "bits a byte"]));
  find(".lens-sums tbody").replaceChildren(
    ...value.variants.flatMap((one) =>
      one.sums.map(([name, count, nats, each, perplexity, bits]) =>
        line("td", [`${one.title}, ${name}`, count.toLocaleString("en"), figure(nats, 1), figure(each, 2), figure(perplexity, 1), figure(bits, 2)], one.role),
      ),
    ),
  );
};

let value = {};
let painted = "";
const paint = () => {
  if (!props.value || props.value === painted || !find(".lens")) return;
  value = JSON.parse(props.value);
  painted = props.value; // Gradio sends the last value twice
  const ready = value.variants?.length && value.variants.every((one) => one.after.length);
  find(".lens").hidden = !ready;
  if (!ready) return;
  find(".lens-of").textContent = value.of ? `The answer of ${value.of}, read by all three after their own prompts.` : "";
  find(".lens-cost").textContent = value.cost.length
    ? `“${value.word.trim()}” would cost ${value.cost.map((one) => `${one.title} ${one.nats.toFixed(2)} nats (p ${percent(Math.exp(-one.nats))})`).join(", ")}.`
    : "";
  if (value.run !== shown) {
    shown = value.run;
    place = null;
    moved = false;
  }
  // Until the reader chooses: the end of what is read, or the end of the prompts of an answer.
  if (!moved) place = value.of ? -1 : Math.min(...value.variants.map((one) => one.after.length - one.prompt)) - 1;
  const focused = strips.findIndex(({ box }) => box === document.activeElement);
  strips = value.variants.map(strip);
  find(".lens-texts").replaceChildren(...strips.map(({ made }) => made));
  strips[focused]?.box.focus();
  turn(mode);
  choose();
  sums(value);
};

element.addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowDown: 1, ArrowLeft: -1, ArrowUp: -1 }[event.key];
  if (!step || !event.target.closest(".lens-modes")) return;
  event.preventDefault();
  const names = MODES.map(([name]) => name);
  turn(names[(names.indexOf(mode) + step + names.length) % names.length]);
});
watch("value", paint);
paint();
