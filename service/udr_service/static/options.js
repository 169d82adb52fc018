// The options: how to choose demonstrations, and how to build a prompt of them.

import { at, make } from "./view.js";

const SELECTION = [
  "min_similarity", "max_similarity", "max_copy", "distinct", "diversity", "coverage", "candidates", "balance", "fill",
];
const BUILDING = ["reserve", "format", "order", "seed", "layout", "truncate", "list_options"];

/**
 * Return a control's value: undefined if it is the service's default or the control is hidden, and "" for text that
 * is not a number, which the service refuses.
 */
export function valueOf(id) {
  const control = at(id);
  if (control.closest("[hidden]")) return undefined;
  if (control.type === "checkbox") return control.checked || undefined;
  if (control.localName === "select") return control.selectedIndex > 0 ? control.value : undefined;
  if (control.value === "") return control.validity.badInput ? "" : undefined;
  return control.value === control.placeholder ? undefined : Number(control.value);
}

/** Return the controls' values by id, without undefined ones. */
const valuesOf = (ids) => Object.fromEntries(ids.map((id) => [id, valueOf(id)]).filter(([, value]) => value !== undefined));

export const selectionOptions = () => valuesOf(SELECTION);
export const buildingOptions = () => valuesOf(BUILDING);

const showIf = (id, condition) => (at(id).closest("label").hidden = !condition);

/** Offer the options that apply to these tasks. Only a single `task` gets a prompt. */
export function offerOptions(tasks, task) {
  const hasLabels = ({ kind }) => kind === "classification";
  // A comparison with words, and coverage of them, need BM25 in each task searched.
  for (const id of ["mode", "coverage"]) showIf(id, tasks.every(({ bm25 }) => bm25));
  showIf("balance", tasks.every(hasLabels));
  showIf("list_options", task && hasLabels(task));
  showIf("without_head", task && hasLabels(task));
  const field = at("truncate").value;
  at("truncate").replaceChildren(...["", ...(task?.fields ?? [])].map((value) => make("option", { value }, value || "nothing")));
  at("truncate").value = task?.fields.includes(field) ? field : "";
  at("prompt-controls").hidden = !task;
  updateOptions();
}

/** Show the options that apply to the values of others, and list the values of folded ones beside their heading. */
export function updateOptions() {
  showIf("seed", at("order").value === "shuffle");
  showIf("layout", at("format").value === "messages");
  for (const folded of document.querySelectorAll("details.more")) {
    const changed = [...folded.querySelectorAll("input, select")].filter(({ id }) => valueOf(id) !== undefined);
    const texts = changed.map((control) => {
      const value = control.type === "checkbox" ? "" : (control.selectedOptions?.[0].text ?? control.value);
      return `${control.labels[0].firstChild.data.trim()} ${value}`.trim();
    });
    folded.querySelector("small").textContent = texts.join(", ");
  }
}
