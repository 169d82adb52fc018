// The form that edits a row or adds one. A row that someone else has changed meanwhile is not overwritten.

import { send } from "./api.js";
import { askForKey } from "./keys.js";
import { at, make, textOf } from "./view.js";

let opened = null;

export const rowsPath = (task) => `v1/tasks/${encodeURIComponent(task)}/demonstrations`;
export const pathOf = (task, id) => `${rowsPath(task)}/${encodeURIComponent(id)}`;

// What is no text is edited as JSON, so that numbers and lists stay what they are.
const written = (value) => (typeof value === "string" ? value : JSON.stringify(value));
const listed = (items) => (items?.length ? JSON.stringify(items) : "");

/** Open the form with a row as it is now, or empty if `id` is null; `done` gets the row once it is saved. */
export async function editRow(task, id, done) {
  const { answer, version, problem } = id === null ? {} : await send(pathOf(task.name, id));
  opened = { task, id, row: answer, version, done };
  at("row-title").textContent = id === null ? `A new row of ${task.name}` : `Edit ${id}`;
  at("row-id").closest("label").hidden = id !== null;
  at("row-id").value = id ?? "";
  const names = [...new Set([...task.fields, ...Object.keys(answer?.input ?? {})])];
  at("row-fields").replaceChildren(
    ...names.map((name) => {
      const box = make("textarea", { name, rows: 1, dir: "auto", spellcheck: false });
      box.value = written(answer?.input[name] ?? "");
      return make("label", {}, name, box);
    }),
  );
  at("row-target").value = answer?.target ?? "";
  show("row-choices", listed(answer?.choices), task.kind === "multiple_choice");
  show("row-references", listed(answer?.references), task.kind === "generation");
  show("row-metadata", answer && Object.keys(answer.metadata).length ? JSON.stringify(answer.metadata, null, 2) : "", true);
  at("row-form").hidden = false;
  tell(problem);
  at("row-form").scrollIntoView({ block: "nearest" });
  (id === null ? at("row-id") : at("row-fields").querySelector("textarea")).focus();
}

function show(id, text, wanted) {
  at(id).value = text;
  at(id).closest("label").hidden = !text && !wanted;
}

/** Show a problem; where the row has changed meanwhile, offer to load it again. */
function tell(problem) {
  const changed = problem?.status === 412;
  const text = changed ? "Not saved: the row was changed or deleted after you opened it." : problem && textOf(problem);
  at("row-error").textContent = text ?? "";
  at("row-again").hidden = !changed;
  if ([401, 403].includes(problem?.status)) askForKey(problem, () => at("row-form").requestSubmit());
}

/** Return the form's row without its id. Throws a SyntaxError that names what is not JSON. */
function read() {
  const { row } = opened;
  const boxes = [...at("row-fields").querySelectorAll("textarea")];
  const before = (name) => row?.input[name] ?? "";
  const input = boxes.map(({ name, value }) => [name, typeof before(name) === "string" ? value : parsed(name, value)]);
  const body = { input: Object.fromEntries(input), target: at("row-target").value };
  for (const name of ["choices", "references", "metadata"]) {
    const text = at(`row-${name}`).value.trim();
    if (text) body[name] = parsed(name, text);
  }
  return body;
}

function parsed(name, text) {
  try {
    return JSON.parse(text);
  } catch (error) {
    throw new SyntaxError(`${name} is not JSON: ${error.message}`);
  }
}

async function save(event) {
  event.preventDefault();
  const { task, id, version, done } = opened;
  const path = pathOf(task.name, id ?? at("row-id").value.trim());
  let body;
  try {
    body = read();
  } catch (error) {
    return tell({ title: "Not saved", detail: error.message });
  }
  if (id === null) {
    if (!at("row-id").value.trim()) return tell({ title: "Not saved", detail: "a row needs an id" });
    // A new row must not replace one of the same id.
    const { answer } = await send(path);
    if (answer) return tell({ title: "Not saved", detail: "there is a row with this id; edit that one" });
  }
  const headers = version ? { "If-Match": version } : {};
  const { answer, problem } = await send(path, body, { method: "PUT", headers });
  if (problem) return tell(problem);
  close();
  done(answer);
}

const close = () => (at("row-form").hidden = true);

at("row-form").addEventListener("submit", save);
at("row-cancel").addEventListener("click", close);
at("row-again").addEventListener("click", () => editRow(opened.task, opened.id, opened.done));
