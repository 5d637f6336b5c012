/** Buttons of which one is chosen, as a group that arrow keys move in. */

import { makeButton } from "./dom.js";

const STEPS = new Map([
  ["ArrowRight", 1],
  ["ArrowDown", 1],
  ["ArrowLeft", -1],
  ["ArrowUp", -1],
]);

/**
 * Return the name that a key moves to, around the ends; null for a key that moves nowhere.
 * @param {string[]} names
 * @param {string} chosen
 * @param {string} key as in KeyboardEvent
 */
export const neighbour = (names, chosen, key) => {
  const step = STEPS.get(key);
  if (!step) return null;
  return names[(names.indexOf(chosen) + step + names.length) % names.length];
};

/**
 * Fill a group with its buttons; the focus stays in it where it was in it.
 * @param {HTMLElement} group
 * @param {{ name: string, title: string }[]} options
 * @param {string} chosen
 * @param {(name: string) => void} choose paints the group again
 */
export const paintRadioGroup = (group, options, chosen, choose) => {
  const focused = group.contains(document.activeElement);
  const buttons = options.map(({ name, title }) => {
    const button = makeButton(title, () => choose(name));
    button.setAttribute("role", "radio");
    button.setAttribute("aria-checked", String(name === chosen));
    button.tabIndex = name === chosen ? 0 : -1;
    return button;
  });
  group.replaceChildren(...buttons);
  if (focused) buttons.find((button) => button.tabIndex === 0)?.focus();
  group.onkeydown = (event) => {
    const name = neighbour(
      options.map((option) => option.name),
      chosen,
      event.key,
    );
    if (name === null) return;
    event.preventDefault();
    choose(name);
  };
};
