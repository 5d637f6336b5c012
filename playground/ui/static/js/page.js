/** Keys, light and dark, and the menu of trios: what belongs to no component. */

/**
 * Return "dark" or "light" where one is wanted: by the address, or else by what was chosen before.
 * @param {string} query of the address
 * @param {string | null} chosen
 */
export const wantedTheme = (query, chosen) => {
  const theme = new URLSearchParams(query).get("__theme") ?? chosen;
  return theme === "dark" || theme === "light" ? theme : null;
};

const CHOSEN = "triptych-theme";

/** Return the theme that was chosen before: null for none, or where the page may keep nothing. */
export const chosenTheme = () => {
  try {
    return localStorage.getItem(CHOSEN);
  } catch {
    return null; // browsers deny the storage to a page in another site's frame
  }
};

/**
 * Keep a theme for the next visit, where the page may.
 * @param {string} theme
 */
export const keepTheme = (theme) => {
  try {
    localStorage.setItem(CHOSEN, theme);
  } catch {
    // It holds for this visit.
  }
};

/**
 * Press the first of some buttons that is laid out: those of tabs that are not open are not.
 * @param {string[]} ids each tab has its own
 */
const press = (ids) => {
  for (const id of ids) {
    const button = document.querySelector(`button#${id}`);
    if (button instanceof HTMLElement && button.offsetParent) {
      button.click();
      return;
    }
  }
};

/**
 * Close open menus of trios; return whether there were any.
 * @param {(menu: HTMLDetailsElement) => boolean} which
 */
const closeMenus = (which) => {
  let closed = false;
  for (const menu of document.querySelectorAll(".trio-choice[open]")) {
    if (!(menu instanceof HTMLDetailsElement && which(menu))) continue;
    menu.open = false;
    closed = true;
  }
  return closed;
};

/** @param {KeyboardEvent} event */
const onKey = (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    // A field hands its value over when it loses the focus.
    const field = document.activeElement;
    if (field instanceof HTMLElement) {
      field.blur();
      field.focus();
    }
    setTimeout(() => press(["compare", "grid-run", "lens-run", "evaluate-run"]), 50);
  }
  // What Esc closes first is the menu: a run goes on until it is pressed again.
  if (event.key === "Escape" && !closeMenus(() => true)) {
    press(["stop", "grid-stop", "lens-stop", "evaluate-stop"]);
  }
};

const labelToggles = () => {
  const other = document.body.classList.contains("dark") ? "light" : "dark";
  for (const button of document.querySelectorAll(".theme-toggle")) button.textContent = other;
};

/** Start what the page does by itself, once Gradio has laid it out. */
export const start = () => {
  const theme = wantedTheme(location.search, chosenTheme());
  if (theme) document.body.classList.toggle("dark", theme === "dark");
  labelToggles();
  document.documentElement.lang = "en";
  // Another trio is another page: leaving this one stops what it runs. The theme goes along.
  for (const link of document.querySelectorAll(".trio-choice a")) {
    if (link instanceof HTMLAnchorElement) link.search = location.search;
  }
  document.addEventListener("keydown", onKey);
  document.addEventListener("click", ({ target }) => {
    closeMenus((menu) => !(target instanceof Node && menu.contains(target)));
    if (!(target instanceof Element && target.closest(".theme-toggle"))) return;
    const dark = document.body.classList.toggle("dark");
    keepTheme(dark ? "dark" : "light");
    labelToggles();
  });
};
