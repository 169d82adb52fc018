// The form: where to search, with which input, and what is wrong with it.

import { building, choice, offerOptions, said } from "./options.js";
import { at, badge, make, valueText } from "./view.js";
import { isWanted } from "./why.js";

// Where a problem names neither a part of the body nor, at its beginning, a control: how it begins, and what it is about.
const ABOUT = [
  [/^the prompt /, "budget"],
  [/^unknown (task|family) /, "scope"],
  [/^(task|field) /, "input"],
];
const MOST_LABELS = 12;
const typed = new Map();
/** What is served: `info` as the service says it, and the tasks by name. */
export const served = { info: null, tasks: new Map() };
let wanted = 8;

const sizeOf = (tasks) => tasks.reduce((sum, task) => sum + task.demonstrations, 0);
/** The scope that is chosen: a task, a family or all, as a request names it. */
export const chosen = () => JSON.parse(at("scope").value);

const boxes = () => [...at("fields").querySelectorAll("textarea")];
const remembered = (name) => `${at("scope").value} ${name}`;
export const isEmpty = () => boxes().every((box) => !box.value.trim());

/** Return the tasks that a scope searches. */
export function inScope({ task, family }) {
  const all = [...served.tasks.values()];
  return all.filter((one) => (task ?? one.name) === one.name && (family ?? one.family) === one.family);
}

/** Offer what is served. */
export function offer(info, tasks) {
  Object.assign(served, { info, tasks: new Map(tasks.map((task) => [task.name, task])) });
  const option = (scope, name) => {
    const size = sizeOf(inScope(scope)).toLocaleString("en");
    return make("option", { value: JSON.stringify(scope) }, `${name} (${size})`);
  };
  const families = Object.keys(info.families).filter((family) => inScope({ family }).length);
  const groups = families.map((family) => {
    const group = make("optgroup", { label: family }, ...inScope({ family }).map(({ name }) => option({ task: name }, name)));
    group.append(option({ family }, `all of ${family}`));
    return group;
  });
  at("scope").replaceChildren(...groups, option({ scope: "all" }, "everything"));
  at("budget").max = info.limits.max_budget;
  at("k").addEventListener("input", () => (wanted = /^[1-9]\d*$/.test(at("k").value) ? Number(at("k").value) : wanted));
  at("fields").addEventListener("input", ({ target }) => typed.set(remembered(target.name), target.value));
  showScope();
}

/** Show what belongs to the scope that is chosen. */
export function showScope() {
  const { info, tasks } = served;
  const scope = chosen();
  const task = tasks.get(scope.task);
  const some = inScope(scope);
  at("instruction").textContent = task?.instruction ?? info.families[scope.family] ?? "All tasks, whatever they ask.";
  const names = some.map((one) => one.name).join(", ");
  const labels = task?.labels.slice(0, MOST_LABELS).map((label) => badge(task, label)) ?? [];
  const more = task?.labels.length > MOST_LABELS ? [`and ${task.labels.length - MOST_LABELS} more`] : [];
  at("about").replaceChildren(task ? task.kind.replace("_", " ") : names, ...labels, ...more);
  at("k").max = Math.min(sizeOf(some), info.limits.max_k);
  at("k").value = Math.min(wanted, at("k").max);
  offerOptions(some, task);
  showFields(task?.fields ?? ["text"]);
}

function showFields(names) {
  const before = boxes();
  // What is in the only box stays there when there is again only one.
  const carried = before.length === 1 && names.length === 1 ? before[0].value : "";
  const made = names.flatMap((name, number) => {
    const value = typed.get(remembered(name)) || carried;
    const box = make("textarea", { id: `field-${number}`, name, rows: 2, value, dir: "auto", spellcheck: false });
    box.setAttribute("aria-describedby", "input-error");
    return [make("label", { htmlFor: box.id }, name), box];
  });
  at("fields").replaceChildren(...made);
}

/** Put a demonstration's input into the boxes. */
export function fill(one) {
  const task = served.tasks.get(one.task);
  const fields = boxes();
  if (chosen().task) for (const box of fields) box.value = valueText(one.input[box.name]);
  else fields[0].value = worded(one, task);
  for (const box of fields) typed.set(remembered(box.name), box.value);
  at("gold").replaceChildren("From the pool: ", make("code", {}, make("bdi", {}, one.id)), ". Its own answer: ");
  at("gold").append(task.labels.includes(one.target) ? badge(task, one.target) : make("bdi", {}, one.target));
}

/** Return a demonstration's input as its template words it, so that the service knows it again, and leaves it out. */
function worded(one, task) {
  const [before, after] = task.output.split("{target}");
  const output = `\n${before}${task.verbalizer[one.target] ?? one.target}${after}`;
  return one.text.endsWith(output) ? one.text.slice(0, -output.length) : Object.values(one.input).map(valueText).join("\n");
}

/** Return the requests that the form stands for, and what they have in common. */
export function asked() {
  const scope = chosen();
  const fields = Object.fromEntries(boxes().map((box) => [box.name, box.value]));
  const copies = said("keep_copies") ? { keep_copies: true } : {};
  const query = { ...scope, input: scope.task ? fields : boxes()[0].value, k: said("k") ?? "", ...copies };
  const selected = { ...query, ...choice(), ...(isWanted() ? { explain: true } : {}) };
  const prompt = { ...selected, budget: said("budget") ?? "", ...building() };
  return { query, chosen: selected, prompt: scope.task && prompt, mode: at("beside").value };
}

/** Return what a problem says, each time with the control that it is about; nothing where it is about none. */
export function placed({ errors, detail }) {
  const findings = (errors ?? []).map((one) => [one.pointer.split("/")[1], one.detail]);
  const named = detail.match(/^(?:the )?(\w+) /)?.[1];
  const about = at(`${named}-error`) ? named : ABOUT.find(([begins]) => begins.test(detail))?.[1];
  return (findings.length ? findings : [[about, detail]]).filter(([name]) => at(`${name}-error`));
}

/** Say beside controls what is wrong with them, and nothing beside the others; `go` moves the focus to the first. */
export function mark(findings, go) {
  const marked = new Map(findings);
  for (const error of document.querySelectorAll("#form .error")) {
    const name = error.id.replace("-error", "");
    const words = marked.get(name);
    error.textContent = words ?? "";
    const controls = name === "input" ? boxes() : [at(name)];
    for (const control of controls) control.ariaInvalid = words === undefined ? null : "true";
    const folded = error.closest("details");
    if (words !== undefined && folded) folded.open = true;
    if (words !== undefined && go) controls[0].focus();
    go &&= words === undefined;
  }
}
