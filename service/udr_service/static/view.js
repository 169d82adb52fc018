// Building blocks of the page. Text from the service becomes text nodes, never HTML.

const TONES = 20;
const LONG = 1200;

export const at = (id) => document.getElementById(id);

/** Return a new element with these properties and children; a string becomes text. */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** Write a state in a live region, which a screen reader reads out if the text has changed. */
export function say(id, text, isError = false) {
  const region = at(id);
  if (region.textContent !== text) region.textContent = text;
  region.classList.toggle("error", isError);
}

/** Return text as code that keeps its own direction. */
export const code = (text) => make("code", {}, make("bdi", {}, text));

export const grouped = (number) => number.toLocaleString("en");

/** Return "1 demonstration" or "2,000 demonstrations". */
export const counted = (count, noun) => `${grouped(count)} ${noun}${count === 1 ? "" : "s"}`;

/** Return the sum of the items' values of a property. */
export const sumOf = (items, property) => items.reduce((sum, item) => sum + item[property], 0);

/** Return a field's value as the prompt shows it. */
export function valueText(value) {
  if (Array.isArray(value)) return value.map(valueText).join(", ");
  // An object is one of metadata, or a number as it was written.
  return typeof value === "object" && value !== null ? JSON.stringify(value) : String(value ?? "");
}

/** Return a text as nodes: of a long one its start, and a button that shows the rest. */
function longText(text) {
  if (text.length <= LONG) return [text];
  const rest = make("button", { type: "button", className: "plain rest" }, `Show all ${grouped(text.length)} characters`);
  rest.addEventListener("click", () => {
    const parent = Object.assign(rest.parentElement, { tabIndex: -1 });
    parent.replaceChildren(text);
    parent.focus();
  });
  // Not half of a character.
  return [`${text.slice(0, LONG).replace(/[\ud800-\udbff]$/, "")}… `, rest];
}

/** Return the key of a demonstration, unique in the index. */
export const keyOf = ({ task, id }) => `${task}/${id}`;

/** Return a label as a badge, coloured by its position among the task's labels. */
export function badge(task, label, ...more) {
  const position = task?.labels.indexOf(label) ?? -1;
  return make("span", { className: position < 0 ? "badge" : `badge tone-${position % TONES}` }, make("bdi", {}, label), ...more);
}

/** Return a similarity with three decimals, or three digits if it is small. */
export function similarityText(similarity) {
  const size = Math.abs(similarity);
  return size > 0 && size < 0.1 ? similarity.toPrecision(3) : similarity.toFixed(3);
}

/** Return a demonstration's input as a list of its fields. */
export function values(input) {
  const entries = Object.entries(input);
  const named = entries.length > 1;
  const rows = entries.flatMap(([name, value]) => [
    make("dt", { className: named ? "" : "unseen" }, name),
    make("dd", { dir: "auto" }, ...longText(valueText(value))),
  ]);
  return make("dl", { className: named ? "values named" : "values" }, ...rows);
}

/** Return a target that is no label as a line. */
export function targetLine(target) {
  const arrow = make("span", { className: "soft" }, make("span", { className: "unseen" }, "answer "), "→ ");
  return make("p", { className: "target" }, arrow, make("bdi", {}, ...longText(target)));
}

/** Return a problem in words. */
export const textOf = (problem) => `${problem.title}: ${problem.detail}`;
