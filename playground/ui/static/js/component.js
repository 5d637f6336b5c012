/** What Gradio calls for each component: it paints every value that the server sends. */

/** @import { Component, Mount } from "./types.js" */

/**
 * Mount a component, and paint its value now and whenever it changes; no value paints nothing.
 * @template Value
 * @param {Mount<Value>} mount
 * @param {Component<Value>} component
 */
export const start = (mount, component) => {
  const { props, watch } = component;
  const paint = mount(component);
  const repaint = () => {
    if (props.value) paint(props.value);
  };
  watch("value", repaint);
  repaint();
};
