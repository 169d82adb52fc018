// Building blocks of the page. Text from the service becomes text nodes, never HTML.

const TONES = 8;

export const at = (id) => document.getElementById(id);

/** Return a new element with these properties and children; a string becomes text. */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** Return text as code that keeps its own direction. */
export const code = (text) => make("code", {}, make("bdi", {}, text));

export const grouped = (number) => number.toLocaleString("en");

/** Return "1 demonstration" or "2,000 demonstrations". */
export const counted = (count, noun) => `${grouped(count)} ${noun}${count === 1 ? "" : "s"}`;

/** Return the sum of the items' values of a property. */
export const sumOf = (items, property) => items.reduce((sum, item) => sum + item[property], 0);

/** Return a field's value as the prompt shows it. */
export const valueText = (value) => (Array.isArray(value) ? value.map(valueText).join(", ") : String(value ?? ""));

/** Return the key of a demonstration, unique in the index. */
export const keyOf = ({ task, id }) => `${task}/${id}`;

/** Return a label as a badge, coloured by its position among the task's labels. */
export function badge(task, label, ...more) {
  const tone = Math.max(0, task?.labels.indexOf(label) ?? 0) % TONES;
  return make("span", { className: `badge tone-${tone}` }, make("bdi", {}, label), ...more);
}

/** Return a similarity with three decimals, or three digits if it is small. */
export function similarityText(similarity) {
  const size = Math.abs(similarity);
  return size > 0 && size < 0.1 ? similarity.toPrecision(3) : similarity.toFixed(3);
}
