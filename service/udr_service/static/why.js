// Why: what became of each candidate, and at which stage.

import { at, counted, make, similarityText } from "./view.js";

// A candidate that is left out, by the stage that did it.
const OUT = {
  exclude: "excluded",
  copies: "copy of the input",
  max_similarity: "too similar",
  min_similarity: "not similar enough",
  distinct: "near copy of another",
  choice: "not chosen",
  budget: "over the budget",
};

/** Say whether it is to be explained why: where the reader has opened it. */
export const isWanted = () => at("why").open;

/** Show what became of each candidate; `kept` is what became of those that are, `wide` whether tasks differ. */
export function showWhy(decisions, { kept, wide }) {
  const outcome = (one) => (one.kept ? kept : (OUT[one.stage] ?? "left out"));
  const counts = [...Map.groupBy(decisions, outcome)].map(([name, some]) => `${name} ${some.length.toLocaleString("en")}`);
  at("why-counts").textContent = counts.length ? `${counted(decisions.length, "candidate")}: ${counts.join(", ")}.` : "";
  at("why-table").hidden = !decisions.length;
  at("why-rows").replaceChildren(...decisions.map((one) => row(one, outcome(one), wide)));
}

function row(one, outcome, wide) {
  const name = make("th", { scope: "row", role: "rowheader" }, make("code", {}, make("bdi", {}, one.id)));
  if (wide) name.append(" ", make("span", { className: "soft" }, one.task));
  const sign = make("span", { className: "sign", ariaHidden: "true" }, one.kept ? "✓" : "–");
  const cell = (className, ...children) => make("td", { className, role: "cell" }, ...children);
  const number = cell("number", similarityText(one));
  number.title = `similarity ${one.similarity}`;
  const cells = [cell("outcome", sign, outcome), name, number, cell("stage", make("code", {}, one.stage)), cell("reason", one.reason)];
  return make("tr", { role: "row", className: one.kept ? "kept" : one.stage === "budget" ? "budget" : "left" }, ...cells);
}
