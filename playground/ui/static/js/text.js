/** Texts and figures as the page writes them. */

/**
 * Make white space visible; spaces only where a text has nothing else.
 * @param {string} text
 */
export const visible = (text) => {
  const marked = text.replaceAll("\n", "↵").replaceAll("\t", "⇥");
  return marked.trim() ? marked : marked.replaceAll(" ", "␣");
};

/**
 * Format a probability as per cent; small ones get a digit more, and none looks like zero.
 * @param {number} p
 */
export const probability = (p) => {
  if (p >= 0.0995) return `${Math.round(100 * p)} %`;
  if (p >= 0.001) return `${(100 * p).toFixed(1)} %`;
  return p ? "< 0.1 %" : "0 %";
};

/**
 * Format a number with its digits; thousands get none, and null is a dash.
 * @param {number | null} number
 * @param {number} digits after the point
 */
export const figure = (number, digits) => {
  if (number === null) return "–";
  return number >= 1000 ? Math.round(number).toLocaleString("en") : number.toFixed(digits);
};

/**
 * Format a share from 0 to 1 as whole per cent.
 * @param {number} share
 */
export const percent = (share) => `${Math.round(100 * share)}`;

/**
 * Format a difference of two shares as signed percentage points.
 * @param {number} difference
 */
export const points = (difference) => `${difference > 0 ? "+" : ""}${percent(difference)}`;

/**
 * Format the p of a test, after a comma; empty for a test that was not made.
 * @param {number | null} p
 */
export const testP = (p) => {
  if (p === null) return "";
  return `, p ${p < 0.001 ? "< 0.001" : p.toFixed(3)}`;
};
