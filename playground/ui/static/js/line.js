/** One line of text of some kind: status, notice, loading. */

import { find } from "./dom.js";

/** @import { Component, StatusLine } from "./types.js" */

/** @param {Component<StatusLine>} component */
export const mount = ({ element, props, watch }) => {
  const paint = () => {
    const { kind, text } = props.value || { kind: "", text: "" };
    const line = find(element, ".line");
    line.dataset.kind = kind;
    if (line.textContent !== text) line.textContent = text; // screen readers say it once
  };
  watch("value", paint);
  paint();
};
