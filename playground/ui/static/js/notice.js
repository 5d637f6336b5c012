/** What to notice is said of an example's prompt, and of no other. */

/** @import { Notice } from "./types.js" */

/**
 * Return the notice while the fields hold the prompt that it is about, else an empty line. Text that
 * is pasted is no `input` to Gradio: so the fields are compared.
 * @param {string[]} names of fields
 * @param {[Notice, ...unknown[]]} values the notice, then the values of the fields
 */
export const keepNotice = (names, [notice, ...values]) => {
  const fields = notice.of ?? {};
  const same = names.every(
    (name, n) => !(name in fields) || JSON.stringify(fields[name]) === JSON.stringify(values[n]),
  );
  return same ? notice : { kind: "", text: "" };
};
