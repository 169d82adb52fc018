// The form that edits a row or adds one. A row that someone else has changed meanwhile is not overwritten.

import { parseExact, send } from "./api.js";
import { askForKey } from "./keys.js";
import { at, make, say, textOf } from "./view.js";

// The form's task, id, row and version, from its opening to its closing.
let opened = null;
let asked = 0;

export const rowsPath = (task) => `v1/tasks/${encodeURIComponent(task)}/demonstrations`;
export const pathOf = (task, id) => `${rowsPath(task)}/${encodeURIComponent(id)}`;

// What is no text is edited as JSON, so that numbers and lists stay what they are.
const written = (value) => (typeof value === "string" ? value : JSON.stringify(value));
const listed = (items) => (items?.length ? JSON.stringify(items) : "");

/** Focus an element, or the status if the page no longer has the element. */
export const focusOn = (element) => (element?.isConnected ? element : at("rows-status")).focus();

/**
 * Open the form with a row as it is now, or empty if `id` is null. `opener` gets the focus if the user cancels, `done` the row
 * once it is saved.
 */
export async function editRow(task, id, opener, done) {
  if (!JSON.rawJSON) return report("This browser would change numbers of rows, such as 4.0 to 4. Use a newer one to edit.", {});
  const number = ++asked;
  const { answer, version, problem } = id === null ? {} : await send(pathOf(task.name, id), undefined, { exact: true });
  if (number !== asked) return;
  // A form without the row would replace it with blanks.
  if (problem) return report(textOf(problem), problem, () => editRow(task, id, opener, done));
  opened = { task, id, row: answer, version, opener, done };
  at("row-title").textContent = id === null ? `A new row of ${task.name}` : `Edit ${id}`;
  at("row-id").closest("label").hidden = id !== null;
  at("row-id").value = id ?? "";
  // Choices are no field, unless the row has one of that name; the template shows those of the row.
  const fields = task.kind === "multiple_choice" ? task.fields.filter((name) => name !== "choices") : task.fields;
  const names = [...new Set([...fields, ...Object.keys(answer?.input ?? {})])];
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
  tell();
  at("row-form").scrollIntoView({ block: "nearest" });
  (id === null ? at("row-id") : at("row-fields").querySelector("textarea")).focus();
}

function show(id, text, wanted) {
  at(id).value = text;
  at(id).closest("label").hidden = !text && !wanted;
}

/** Say below the form how a request went; ask for a key if that is what was lacking, then call `again`. */
export function report(text, problem, again) {
  say("rows-status", text, Boolean(problem));
  if (problem) at("rows-status").scrollIntoView({ block: "nearest" });
  if ([401, 403].includes(problem?.status)) askForKey(problem, again);
}

/** Show a problem in the form, or none; where the row has changed meanwhile, offer to load it again. */
function tell(problem) {
  const changed = problem?.status === 412;
  const text = changed ? "Not saved: the row was changed or deleted after you opened it." : problem && textOf(problem);
  at("row-error").textContent = text ?? "";
  at("row-again").hidden = !changed;
  const form = opened;
  if ([401, 403].includes(problem?.status)) askForKey(problem, () => form === opened && at("row-form").requestSubmit());
}

/** Return the form's row without its id. Throws a SyntaxError that names what is not JSON. */
function read() {
  const { row } = opened;
  const boxes = [...at("row-fields").querySelectorAll("textarea")];
  const input = boxes.map(({ name, value }) => [name, edited(row?.input[name], name, value)]);
  const body = { input: Object.fromEntries(input), target: at("row-target").value };
  for (const name of ["choices", "references", "metadata"]) {
    const text = at(`row-${name}`).value.trim();
    if (text) body[name] = parsed(name, text);
  }
  return body;
}

/** Return a field's value by its box: null if it was null and the box is empty, text if it was text, else JSON. */
function edited(before, name, text) {
  if (before === null && !text) return null;
  return typeof (before ?? "") === "string" ? text : parsed(name, text);
}

function parsed(name, text) {
  try {
    return parseExact(text);
  } catch (error) {
    throw new SyntaxError(`${name} is not JSON: ${error.message}`);
  }
}

/** Write the form's row; return the row as `answer`, or a `problem`. */
async function write({ task, id, version }) {
  const name = id ?? at("row-id").value.trim();
  if (!name) return { problem: { title: "Not saved", detail: "a row needs an id" } };
  const path = pathOf(task.name, name);
  let body;
  try {
    body = read();
  } catch (error) {
    return { problem: { title: "Not saved", detail: error.message } };
  }
  // A new row must not replace one of the same id.
  const headers = id === null ? { "If-None-Match": "*" } : { "If-Match": version };
  const sent = await send(path, body, { method: "PUT", headers, exact: true });
  if (id === null && sent.problem?.status === 412) {
    return { problem: { title: "Not saved", detail: "there is a row with this id; edit that one" } };
  }
  return sent;
}

async function save(event) {
  event.preventDefault();
  const form = opened;
  if (form.saving) return;
  form.saving = true;
  const { answer, problem } = await write(form);
  form.saving = false;
  // Meanwhile the user may have closed the form, or opened another row in it.
  if (problem) return form === opened ? tell(problem) : report(`${form.id ?? "The new row"}: ${textOf(problem)}`, problem);
  if (form === opened) close();
  form.done(answer);
}

function close() {
  asked++;
  opened = null;
  at("row-form").hidden = true;
}

at("row-form").addEventListener("submit", save);
at("row-cancel").addEventListener("click", () => {
  const { opener } = opened;
  close();
  focusOn(opener);
});
at("row-again").addEventListener("click", () => editRow(opened.task, opened.id, opened.opener, opened.done));
