// The rows of a task: listed in pages, in the order of their ids, and filtered.

import { send } from "./api.js";
import { served } from "./form.js";
import { editRow, focusOn, pathOf, report, rowsPath } from "./row.js";
import { at, badge, code, counted, grouped, make, targetLine, textOf, valueText, values } from "./view.js";

const PAGE = 50;
let next = null;
let asked = 0;
let shown = 0;

const selected = () => served.tasks.get(at("rows-task").value);

/** Show the view: the rows of the first task, until another is chosen. */
export function showRows() {
  if (at("rows-task").length) return;
  at("rows-task").replaceChildren(...[...served.tasks.keys()].map((name) => make("option", { value: name }, name)));
  if (selected()) list();
}

/** List the first page of rows, or with `after` the next one below it. */
async function list(after) {
  const number = ++asked;
  // The next page is of the list before.
  if (!after) at("rows-more").hidden = true;
  const query = new URLSearchParams({ limit: PAGE });
  if (served.info.usage !== "off") query.set("counts", "true");
  const filter = at("rows-filter").value.trim();
  if (filter) query.set("filter", filter);
  if (after) query.set("after", after);
  const { answer, problem } = await send(`${rowsPath(selected().name)}?${query}`, undefined, { exact: true });
  if (number !== asked) return;
  at("rows-filter").ariaInvalid = problem?.status === 422 ? "true" : null;
  if (problem) {
    // The rows there are may be of another task or filter.
    if (!after) at("row-list").replaceChildren();
    return report(textOf(problem), problem, () => list(after));
  }
  const cards = answer.demonstrations.map(card);
  shown = cards.length + (after ? shown : 0);
  if (after) at("row-list").append(...cards);
  else at("row-list").replaceChildren(...cards);
  next = answer.next;
  // The button for more goes, once there are none.
  if (next === null && document.activeElement === at("rows-more")) focusCard(cards[0]);
  at("rows-more").hidden = next === null;
  const all = `${grouped(shown)} ${shown === 1 ? "row" : "rows"}`;
  report(next === null ? `${all}, all that there are${filter ? " by this filter" : ""}.` : `The first ${all}.`);
}

const focusCard = (card) => focusOn(card?.querySelector("button"));

/** Return a row, with its counts if they are known, as a list item. */
function card({ retrieved, shown, ...row }) {
  const task = served.tasks.get(row.task);
  const isLabel = task.labels.includes(row.target);
  const edit = make("button", { type: "button", className: "plain", ariaLabel: `Edit ${row.id}` }, "Edit");
  const remove = make("button", { type: "button", className: "plain", ariaLabel: `Delete ${row.id}` }, "Delete");
  const head = make("div", { className: "line" }, code(row.id), ...(isLabel ? [badge(task, row.target)] : []), edit, remove);
  const element = make("li", { className: "card" }, head, values(row.input));
  if (!isLabel) element.append(targetLine(row.target));
  const lists = [["choices", row.choices], ["references", row.references]].filter(([, items]) => items.length);
  const parts = [...lists, ...Object.entries(row.metadata)].map(([name, value]) => make("span", {}, `${name}: ${valueText(value)}`));
  if (shown !== undefined) parts.push(make("span", {}, `retrieved ${counted(retrieved, "time")}, shown in ${counted(shown, "prompt")}`));
  element.append(make("p", { className: "foot soft" }, ...parts));
  // The counts belong to the id, and stay when the row changes.
  const changed = (now) => card({ ...now, retrieved, shown });
  edit.addEventListener("click", () => editRow(task, row.id, edit, (saved) => put(changed(saved), saved, element)));
  remove.addEventListener("click", () => askToDelete(row, element, remove, changed));
  return element;
}

/** Show the card of a row that was saved, in place of its old one or above all others of its task. */
function put(fresh, row, element) {
  if (element) element.replaceWith(fresh);
  else if (row.task === selected().name) at("row-list").prepend(fresh);
  report(`Saved ${row.id}. The next request sees it.`);
  if (at("row-form").hidden) focusCard(fresh);
}

/** Delete a row at the second press, if it is still what the page shows; else show the card that `changed` makes of it. */
async function askToDelete(row, element, button, changed) {
  const { answer, problem, version } = await send(pathOf(row.task, row.id), undefined, { exact: true });
  if (problem) return report(textOf(problem), problem, () => askToDelete(row, element, button, changed));
  if (JSON.stringify(answer) !== JSON.stringify(row)) {
    const fresh = changed(answer);
    element.replaceWith(fresh);
    focusCard(fresh);
    return report(`${row.id} has changed meanwhile; this is how it is now. It was not deleted.`, {});
  }
  const sure = make("button", { type: "button" }, "Delete it for good");
  button.replaceWith(sure);
  sure.focus();
  sure.addEventListener("blur", () => sure.replaceWith(button));
  sure.addEventListener("click", () => deleteRow(row, version, element));
}

async function deleteRow(row, version, element) {
  const { problem } = await send(pathOf(row.task, row.id), undefined, { method: "DELETE", headers: { "If-Match": version } });
  if (problem) return report(`Not deleted. ${textOf(problem)}`, problem, () => deleteRow(row, version, element));
  if (element.contains(document.activeElement)) focusCard(element.nextElementSibling ?? element.previousElementSibling);
  element.remove();
  report(`Deleted ${row.id}. No later request sees it.`);
}

at("rows-form").addEventListener("submit", (event) => {
  event.preventDefault();
  list();
});
at("rows-task").addEventListener("change", () => list());
at("rows-more").addEventListener("click", () => list(next));
at("rows-add").addEventListener("click", () => editRow(selected(), null, at("rows-add"), (saved) => put(card(saved), saved)));
