// The table of candidates: the outcome for each, and why.

import { at, code, counted, grouped, make, similarityText } from "./view.js";

// The outcome for a candidate that a stage dropped.
const DROPPED = {
  exclude: "excluded",
  copies: "copy of the input",
  max_similarity: "too similar",
  min_similarity: "not similar enough",
  distinct: "near copy of another",
  choice: "not chosen",
  budget: "over the budget",
};

/** Show the outcome for each candidate; `kept` is the outcome for those kept, `wide` whether tasks differ. */
export function showCandidates(decisions, { kept, wide }) {
  const outcome = (decision) => (decision.kept ? kept : (DROPPED[decision.stage] ?? "dropped"));
  const counts = [...Map.groupBy(decisions, outcome)].map(([name, group]) => `${name} ${grouped(group.length)}`);
  at("candidate-counts").textContent = counts.length ? `${counted(decisions.length, "candidate")}: ${counts.join(", ")}.` : "";
  at("candidate-table").hidden = !decisions.length;
  at("candidate-rows").replaceChildren(...decisions.map((decision) => row(decision, outcome(decision), wide)));
}

function row({ id, task, similarity, stage, kept, reason }, outcome, wide) {
  const cell = (className, ...children) => make("td", { className, role: "cell" }, ...children);
  const name = make("th", { scope: "row", role: "rowheader" }, code(id));
  if (wide) name.append(" ", make("span", { className: "soft" }, task));
  const number = cell("number", similarityText(similarity));
  number.title = `similarity ${similarity}`;
  const sign = make("span", { className: "sign", ariaHidden: "true" }, kept ? "✓" : "–");
  const className = kept ? "kept" : stage === "budget" ? "budget" : "";
  const cells = [cell("outcome", sign, outcome), name, number, cell("stage", make("code", {}, stage)), cell("reason", reason)];
  return make("tr", { role: "row", className }, ...cells);
}
