/** One line of text of some kind: status, notice, loading. */

import { find } from "./dom.js";

/** @import { Mount, StatusLine } from "./types.js" */

/** @type {Mount<StatusLine>} */
export const mount =
  ({ element }) =>
  ({ kind, text }) => {
    const line = find(element, ".line");
    line.dataset.kind = kind;
    if (line.textContent !== text) line.textContent = text; // screen readers say it once
  };
