/** One column of Compare. Knows nothing of how its values came to be. */

import { chips, definitions, find, make, tokenTable } from "./dom.js";

/** @import { Mount, Pane, SentPrompt } from "./types.js" */

const RUNNING = ["queued", "reading", "writing"];

/**
 * Say what ends an answer.
 * @param {string[]} stops
 */
export const endings = (stops) =>
  stops.length
    ? `Ends at the end-of-text token, the length limit, or the text “${stops.join("”, “")}”.`
    : "Ends at the end-of-text token or the length limit.";

/**
 * Put a text on the clipboard; return whether it is there. A page without https has no clipboard,
 * and one in a frame may have no leave to write to it.
 * @param {Pick<Clipboard, "writeText"> | undefined} clipboard
 * @param {string} text
 */
export const copyTo = async (clipboard, text) => {
  if (!clipboard) return false;
  try {
    await clipboard.writeText(text);
    return true;
  } catch {
    return false;
  }
};

/**
 * Call with a value that is not equal to the last one: an answer that grows has the same prompt.
 * @template Value
 * @param {(value: Value) => void} paint
 * @returns {(value: Value) => void}
 */
export const whenChanged = (paint) => {
  let painted = "";
  return (value) => {
    const key = JSON.stringify(value);
    if (key === painted) return;
    painted = key;
    paint(value);
  };
};

/** @type {Mount<Pane>} */
export const mount = ({ element, trigger }) => {
  const pane = find(element, ".pane");
  const text = find(element, ".pane-text");

  const paintSent = whenChanged((/** @type {Pane["sent"]} */ packed) => {
    find(element, ".pane-sent").hidden = !packed;
    if (!packed) return;
    /** @type {SentPrompt} */
    const sent = JSON.parse(packed);
    const { count, digest, tokens } = sent;
    find(element, ".pane-count").textContent = count ? `${count} tokens · ${digest}` : "";
    find(element, ".pane-tokens").replaceChildren(
      ...(tokens.length ? [chips(tokens), tokenTable(tokens)] : [make("p", "tokens", sent.text)]),
    );
    find(element, ".pane-stops").textContent = endings(sent.stops);
  });

  const paintWeights = whenChanged((/** @type {Pane["weights"]} */ weights) => {
    find(element, ".pane-weights").hidden = !weights;
    find(element, ".pane-weights dl").replaceChildren(...definitions(weights ?? []));
  });

  /**
   * @param {string} selector
   * @param {string} note hidden where it is empty
   */
  const paintNote = (selector, note) => {
    find(element, selector).hidden = !note;
    find(element, selector).textContent = note;
  };

  find(element, ".pane-stop").addEventListener("click", () => trigger("stop"));
  const copy = find(element, ".pane-copy");
  copy.addEventListener("click", async () => {
    if (!(await copyTo(navigator.clipboard, text.textContent ?? ""))) return;
    copy.textContent = "copied";
    setTimeout(() => {
      copy.textContent = "copy";
    }, 1200);
  });
  const enlarge = find(element, ".pane-enlarge");
  enlarge.addEventListener("click", () => {
    const large = element.closest(".variant")?.classList.toggle("large") ?? false;
    enlarge.setAttribute("aria-pressed", String(large));
    enlarge.textContent = large ? "shrink" : "enlarge";
  });
  const title = element.closest(".variant")?.querySelector(".column-title")?.textContent ?? "";
  pane.setAttribute("aria-label", `${title} answer`);
  text.setAttribute("aria-label", `${title} answer text`);

  return (value) => {
    const running = RUNNING.includes(value.state);
    pane.dataset.state = value.state;
    pane.setAttribute("aria-busy", String(running));
    if (text.textContent !== value.text) text.textContent = value.text;
    find(element, ".pane-meta").textContent = value.meta;
    find(element, ".pane-reasoning").hidden = !value.reasoning;
    find(element, ".reasoning").textContent = value.reasoning;
    paintNote(".pane-error", value.error);
    paintNote(".pane-notes", value.notes);
    paintNote(".pane-same", value.same);
    find(element, ".pane-stop").hidden = !running;
    find(element, ".pane-copy").hidden = !value.text;
    paintSent(value.sent);
    paintWeights(value.weights);
  };
};
