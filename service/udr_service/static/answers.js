// The answers, shown: demonstrations in one column or two, the prompt, and the lines that ask for the same.

import { served } from "./form.js";
import { curlLines, pythonLines } from "./lines.js";
import { showPrompt } from "./prompt.js";
import * as view from "./view.js";
import { showWhy } from "./why.js";

const { at, counted, make } = view;
const BESIDE = { bm25: "BM25", hybrid: "Both, fused" };

/** Show the answers to what was asked; the first has one, the others may have problems. */
export function show(asked, dense, beside, prompt) {
  at("found").hidden = at("code").hidden = false;
  const found = dense.answer.demonstrations;
  const wide = !asked.query.task;
  const built = prompt?.answer;
  const fates = view.fates(found, built, asked.prompt && asked.prompt.budget - (asked.prompt.reserve ?? 0));
  const fate = (one) => view.fate(fates, one);
  const full = served.info.metric === "cosine" ? 1 : most(found);
  list("dense", found, found.length ? "" : "No demonstration is left.", (one) => ({ task: served.tasks.get(one.task), full, wide, ...fate(one) }));
  at("votes").replaceChildren(...view.votes(found, served.tasks, wide));
  at("dropped").replaceChildren(...reasons(asked, found, fate).map((words) => make("li", {}, words)));
  at("timing").textContent = timing(dense.timing);
  showBeside(asked, found, beside, wide);
  showWhy(built?.decisions ?? dense.answer.decisions ?? [], { wide, kept: built ? "in the prompt" : "chosen" });
  showPrompt(asked.prompt, served.tasks.get(asked.query.task), found, prompt);
  const requests = [{ path: "v1/retrieve", body: asked.chosen }];
  if (beside?.answer) requests.push({ path: "v1/retrieve", body: { ...asked.query, mode: asked.mode } });
  if (asked.prompt) requests.push({ path: "v1/prompt", body: asked.prompt });
  at("curl").textContent = curlLines(requests);
  at("python").textContent = pythonLines(requests);
  const shown = built ? `, ${built.demonstrations.length} of them in the prompt of ${counted(built.tokens, "token")}` : "";
  at("status").textContent = `${counted(found.length, "demonstration")}${shown}.`;
}

const most = (some) => Math.max(...some.map((one) => one.similarity), 0) || 1;

function list(id, some, end, of) {
  const cards = some.map((one) => view.card(one, of(one)));
  at(id).replaceChildren(...cards, ...(end ? [make("li", { className: "none" }, end)] : []));
}

function reasons({ query }, found, fate) {
  const out = found.filter((one) => fate(one).out).length;
  const said = [];
  if (out) said.push(`${out} of ${found.length} left out of the prompt: the budget has no room for them.`);
  if (found.length < query.k) {
    said.push(`${query.k} were asked for, ${found.length} are there; “Why” below says what left the others out.`);
  }
  return said;
}

function timing({ total, ...stages }) {
  if (total === undefined) return "";
  const parts = Object.entries(stages).map(([stage, milliseconds]) => `${stage} ${milliseconds.toFixed(1)}`);
  return `${total.toFixed(1)} ms in the service: ${parts.join(", ")}`;
}

function showBeside(asked, found, beside, wide) {
  const { answer, problem } = beside ?? {};
  at("beside-note").hidden = !problem;
  at("beside-note").textContent = problem ? `No column for ${BESIDE[asked.mode]}: ${problem.detail}.` : "";
  at("beside-column").hidden = !answer;
  at("columns").classList.toggle("two", Boolean(answer));
  if (!answer) return;
  const ranks = view.ranks(found);
  const others = answer.demonstrations;
  const same = others.filter((one) => view.rankAmong(ranks, one)).length;
  const common = make("small", {}, `${same} of ${others.length} are the retriever's too`);
  at("beside-title").replaceChildren(`${BESIDE[asked.mode]} `, common);
  const end = `No ${others.length ? "other" : "demonstration"} shares a word with the input.`;
  list("beside-list", others, asked.mode === "bm25" && others.length < asked.query.k ? end : "", (one) => {
    const rank = view.rankAmong(ranks, one);
    const note = rank ? `the retriever's number ${rank}` : "only here";
    return { task: served.tasks.get(one.task), full: most(others), wide, note };
  });
}
