// The options: how demonstrations are chosen, and how a prompt is built of them, as the controls say it.

import { at, make } from "./view.js";

const CHOICE = ["min_similarity", "max_similarity", "distinct", "diversity", "candidates", "balance"];
const BUILDING = ["reserve", "format", "order", "seed", "layout", "truncate", "list_options"];
const FOLDED = ["more-choice", "more-building"];

/**
 * Return what a control says: undefined where that is what the service does anyhow, or where the control does not
 * apply, and "", which the service refuses, for what is no number.
 */
export function said(id) {
  const control = at(id);
  if (control.closest("[hidden]")) return undefined;
  if (control.type === "checkbox") return control.checked || undefined;
  if (control.localName === "select") return control.selectedIndex > 0 ? control.value : undefined;
  if (control.value === "") return control.validity.badInput ? "" : undefined;
  return control.value === control.placeholder ? undefined : Number(control.value);
}

/** Return an object of what these controls say, without those that say nothing. */
function saidBy(ids) {
  return Object.fromEntries(ids.map((id) => [id, said(id)]).filter(([, value]) => value !== undefined));
}

export const choice = () => saidBy(CHOICE);
export const building = () => saidBy(BUILDING);

/** Offer the options that apply to these tasks; `task` is the only one, where a prompt is built. */
export function offerOptions(tasks, task) {
  const labelled = (one) => one.kind === "classification";
  at("balance-control").hidden = !tasks.every(labelled);
  at("list_options-control").hidden = !task || !labelled(task);
  const before = at("truncate").value;
  at("truncate").replaceChildren(...["", ...(task?.fields ?? [])].map((value) => make("option", { value }, value || "nothing")));
  at("truncate").value = task?.fields.includes(before) ? before : "";
  at("prompt-controls").hidden = !task;
  showOptions();
}

/** Show the options that apply to what others say, and, beside those that are folded away, what they say. */
export function showOptions() {
  at("seed-control").hidden = at("order").value !== "shuffle";
  at("layout-control").hidden = at("format").value !== "messages";
  for (const id of FOLDED) {
    const controls = [...at(id).querySelectorAll("input, select")];
    const words = controls.map((control) => {
      const value = said(control.id);
      const shown = control.selectedOptions?.[0].text ?? value;
      return value === undefined ? "" : [control.labels[0].firstChild.data.trim(), value === true ? "" : shown].join(" ").trim();
    });
    at(`${id}-said`).textContent = words.filter(Boolean).join(", ");
  }
}
