/** A link that opens the page with the fields as they are. Read by playground/prompting/links.py. */

/** @import { Demonstration, PromptFields, StatusLine } from "./types.js" */

/**
 * Return the page's address with the fields in its query. What is as usual is not named, nor what
 * the form has no place for. What else the address names (a theme, what hosts add) stays.
 * @param {string} address
 * @param {PromptFields} usual value of each field that a link can name
 * @param {PromptFields & { form: string, table: Demonstration[], shots: number }} fields
 */
export const linkTo = (address, usual, fields) => {
  const { form, table, shots } = fields;
  /** @type {Record<string, boolean>} */
  const fits = {
    input_label: form !== "instruction",
    cue: form !== "instruction",
    instruction: form !== "zero-shot",
  };
  const link = new URL(address);
  link.hash = "";
  const names = Object.keys(usual);
  for (const name of [...names, "example_input", "example_output"]) link.searchParams.delete(name);
  for (const name of names) {
    if (fields[name] !== usual[name] && (fits[name] ?? true)) {
      link.searchParams.append(name, String(fields[name] ?? ""));
    }
  }
  if (form === "few-shot") {
    const rows = table.filter((row) => row.some((cell) => cell.trim()));
    for (const [input, output] of rows.slice(0, shots)) {
      link.searchParams.append("example_input", input);
      link.searchParams.append("example_output", output);
    }
  }
  return link.href;
};

/**
 * Put the link into the address bar and on the clipboard, and say so.
 * @param {string[]} names of fields
 * @param {PromptFields} usual
 * @param {unknown[]} values of the fields
 * @returns {Promise<StatusLine>}
 */
export const copyLink = async (names, usual, values) => {
  const fields = Object.fromEntries(names.map((name, n) => [name, values[n]]));
  const link = linkTo(location.href, usual, /** @type {Parameters<typeof linkTo>[2]} */ (fields));
  history.replaceState(history.state, "", link);
  try {
    await navigator.clipboard.writeText(link);
  } catch {
    // A frame, or a page without https, has no leave to write to the clipboard.
    return { kind: "done", text: `The link to this prompt: ${link}` };
  }
  return { kind: "done", text: "The link to this prompt is copied." };
};
