// The form: where to search, the input, and error messages beside the controls.

import { buildingOptions, offerOptions, selectionOptions, valueOf } from "./options.js";
import { at, badge, code, grouped, make, sumOf, valueText } from "./view.js";

// The controls that problems are about, if they name neither a part of the body nor, as their first word, a control.
const ABOUT = [
  [/^the prompt /, "budget"],
  [/^unknown (task|family) /, "scope"],
  [/^(task|field) /, "input"],
];
const MAX_LABELS = 20;
const typed = new Map();
let typedK = 8;

/** What the service serves: the response of `/v1/info`, and the tasks by name. */
export const served = { info: null, tasks: new Map() };

/** Return the selected scope in the words of a request: a task, a family or all. */
export const scope = () => JSON.parse(at("scope").value);

const boxes = () => [...at("fields").querySelectorAll("textarea")];
const memoryKey = (box) => `${at("scope").value} ${box.name}`;
const remember = (box) => typed.set(memoryKey(box), box.value);
export const isEmpty = () => boxes().every((box) => !box.value.trim());

/** Return what the user has chosen and typed, as one text to compare. */
export const contents = () => JSON.stringify([at("scope").value, boxes().map((box) => box.value)]);

/** Return the tasks that a scope searches. */
export function tasksIn({ task, family }) {
  const all = [...served.tasks.values()];
  return all.filter((item) => (task ?? item.name) === item.name && (family ?? item.family) === item.family);
}

/** Offer the service's tasks, families and limits. */
export function offer(info, tasks) {
  const bm25 = new Map(info.tasks.map((task) => [task.name, task.bm25]));
  Object.assign(served, { info, tasks: new Map(tasks.map((task) => [task.name, { ...task, bm25: bm25.get(task.name) }])) });
  const option = (value, name) => {
    const size = grouped(sumOf(tasksIn(value), "demonstrations"));
    return make("option", { value: JSON.stringify(value) }, `${name} (${size})`);
  };
  const families = Object.keys(info.families).filter((family) => tasksIn({ family }).length);
  const groups = families.map((family) => {
    const options = tasksIn({ family }).map(({ name }) => option({ task: name }, name));
    return make("optgroup", { label: family }, ...options, option({ family }, `all of ${family}`));
  });
  at("scope").replaceChildren(...groups, option({ scope: "all" }, "everything"));
  at("budget").max = info.limits.max_budget;
  at("k").addEventListener("input", ({ target }) => (typedK = /^[1-9]\d*$/.test(target.value) ? Number(target.value) : typedK));
  at("fields").addEventListener("input", ({ target }) => remember(target));
  showScope();
}

/** Show what belongs to the selected scope: instruction, labels, fields and options. */
export function showScope() {
  const { info, tasks } = served;
  const selected = scope();
  const task = tasks.get(selected.task);
  const searched = tasksIn(selected);
  at("instruction").textContent = task?.instruction ?? info.families[selected.family] ?? "All tasks together.";
  const labels = task?.labels.slice(0, MAX_LABELS).map((label) => badge(task, label)) ?? [];
  const more = task?.labels.length > MAX_LABELS ? [`and ${task.labels.length - MAX_LABELS} more`] : [];
  at("about").replaceChildren(task?.kind.replace("_", " ") ?? searched.map(({ name }) => name).join(", "), ...labels, ...more);
  at("k").max = Math.min(sumOf(searched, "demonstrations"), info.limits.max_k);
  at("k").value = Math.min(typedK, at("k").max);
  offerOptions(searched, task);
  showFields(task?.fields ?? ["text"]);
}

function showFields(names) {
  const before = boxes();
  // Between scopes of one field each, the text stays.
  const carried = before.length === 1 && names.length === 1 ? before[0].value : "";
  const labels = names.map((name, index) => {
    const box = make("textarea", { id: `field-${index}`, name, rows: 2, dir: "auto", spellcheck: false });
    box.value = typed.get(memoryKey(box)) || carried;
    return make("label", {}, name, box);
  });
  at("fields").replaceChildren(...labels);
}

/** Fill in a demonstration's input, and show where it is from. */
export function fill(demonstration) {
  const { id, target, choices } = demonstration;
  const input = { choices, ...demonstration.input };
  const task = served.tasks.get(demonstration.task);
  for (const box of boxes()) {
    box.value = scope().task ? valueText(input[box.name]) : inputText(demonstration, task);
    remember(box);
  }
  const answer = task.labels.includes(target) ? badge(task, target) : make("bdi", {}, target);
  // The box may show another text of a number than the service has: 4 for 4.0.
  const differs = scope().task && Object.values(input).flat(Infinity).some((value) => typeof value === "number");
  const found = differs ? ". Its input has numbers, so the search may find it." : ", which the search leaves out.";
  at("gold").replaceChildren("A row of the pool, ", code(id), `${found} Its answer: `, answer);
}

/** Return a demonstration's input as its template renders it, so that the service excludes the demonstration. */
function inputText({ text, input, target }, task) {
  const [before, after] = task.output.split("{target}");
  const output = `\n${before}${task.verbalizer[target] ?? target}${after}`;
  return text.endsWith(output) ? text.slice(0, -output.length) : Object.values(input).map(valueText).join("\n");
}

/** Return the bodies of the form's requests: `retrieve`, and `beside` and `prompt` if they apply. */
export function readRequests({ explain }) {
  const selected = scope();
  const fields = Object.fromEntries(boxes().map((box) => [box.name, box.value]));
  const both = { ...(valueOf("keep_copies") && { keep_copies: true }), ...(valueOf("without_head") && { label_head: false }) };
  const query = { ...selected, input: selected.task ? fields : boxes()[0].value, k: valueOf("k") ?? "", ...both };
  const retrieve = { ...query, ...selectionOptions(), ...(explain ? { explain } : {}) };
  const mode = at("mode").closest("[hidden]") ? "" : at("mode").value;
  return {
    retrieve,
    beside: mode ? { ...query, mode } : null,
    prompt: selected.task ? { ...retrieve, budget: valueOf("budget") ?? "", ...buildingOptions() } : null,
  };
}

const isControl = (name) => name === "input" || Boolean(at(name)?.closest("#form label"));

/** Return a problem's messages by control, without those that are about no control. */
export function messagesOf({ errors, detail }) {
  const firstWord = detail.match(/^(?:the )?(\w+) /)?.[1];
  const about = isControl(firstWord) ? firstWord : ABOUT.find(([start]) => start.test(detail))?.[1];
  const messages = errors?.length ? errors.map((error) => [error.pointer.split("/")[1], error.detail]) : [[about, detail]];
  return new Map(messages.filter(([name]) => isControl(name)));
}

/** Show each message below its control, and remove all others; with `focus`, focus the first control. */
export function mark(messages, focus) {
  for (const error of document.querySelectorAll("#form .error")) error.remove();
  for (const control of document.querySelectorAll("#form [aria-invalid]")) control.ariaInvalid = null;
  for (const [name, message] of messages) {
    const controls = name === "input" ? boxes() : [at(name)];
    const error = make("p", { id: `${name}-error`, className: "error", role: "alert" }, message);
    controls.at(-1).closest("label").after(error);
    for (const control of controls) {
      control.ariaInvalid = "true";
      control.setAttribute("aria-describedby", error.id);
    }
    const folded = error.closest("details");
    if (folded) folded.open = true;
  }
  if (focus) document.querySelector("#form [aria-invalid]")?.focus();
}
