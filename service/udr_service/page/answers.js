// The answers, shown: demonstrations in one column or two, the prompt, and the lines that ask for the same.

import { at, served } from "./form.js";
import { curlLines, pythonLines } from "./lines.js";
import * as view from "./view.js";

const { counted, make } = view;
const BESIDE = { bm25: "BM25", hybrid: "Both, fused" };

/** What the prompt's copy button copies. */
export const copied = { prompt: "" };

/** Show the answers to what was asked; the first has one, the others may have problems. */
export function show(asked, dense, beside, prompt) {
  at("found").hidden = at("code").hidden = false;
  const found = dense.answer.demonstrations;
  const wide = !asked.query.task;
  const limit = asked.prompt && asked.prompt.budget - asked.prompt.reserve;
  const fates = view.fates(found, prompt?.answer, asked.least, limit);
  const fate = (one) => view.fate(fates, one);
  const full = served.info.metric === "cosine" ? 1 : most(found);
  list("dense", found, found.length ? "" : "No demonstration is left.", (one) => ({ task: served.tasks.get(one.task), full, wide, ...fate(one) }));
  const kept = found.filter((one) => fate(one).out !== "cut");
  at("votes").replaceChildren(...view.votes(kept, served.tasks, wide));
  at("dropped").replaceChildren(...reasons(asked, found, fate).map((words) => make("li", {}, words)));
  at("timing").textContent = timing(dense.timing);
  showBeside(asked, found, beside, wide);
  showPrompt(asked, found, prompt);
  const requests = [{ path: "v1/retrieve", body: asked.bounded }];
  if (beside?.answer) requests.push({ path: "v1/retrieve", body: { ...asked.query, mode: asked.mode } });
  if (asked.prompt) requests.push({ path: "v1/prompt", body: asked.prompt });
  at("curl").textContent = curlLines(requests);
  at("python").textContent = pythonLines(requests);
  const built = prompt?.answer;
  const shown = built ? `, ${built.demonstrations.length} of them in the prompt of ${counted(built.tokens, "token")}` : "";
  at("status").textContent = `${counted(kept.length, "demonstration")}${shown}.`;
}

const most = (some) => Math.max(...some.map((one) => one.similarity), 0) || 1;

function list(id, some, end, of) {
  const cards = some.map((one) => view.card(one, of(one)));
  at(id).replaceChildren(...cards, ...(end ? [make("li", { className: "none" }, end)] : []));
}

function reasons({ query, least }, found, fate) {
  const dropped = (why) => found.filter((one) => fate(one).out === why).length;
  const cut = dropped("cut");
  const budget = dropped("budget");
  const said = [];
  if (cut) said.push(`${cut} of ${found.length} left out: less similar than ${least}.`);
  if (budget) said.push(`${budget} of ${found.length} left out of the prompt: the budget has no room for them.`);
  if (found.length < query.k) {
    said.push(`${query.k} were asked for, ${found.length} are there: copies of the input never come back.`);
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

function showPrompt(asked, found, prompt) {
  const { answer, problem } = prompt ?? {};
  at("prompt-section").hidden = !prompt;
  at("prompt-body").hidden = at("copy-prompt").hidden = !answer;
  at("prompt-note").textContent = problem ? `No prompt. ${problem.title}: ${problem.detail}.` : "";
  if (!answer) return;
  const { budget, reserve, task } = asked.prompt;
  copied.prompt = answer.prompt ?? JSON.stringify(answer.messages, null, 2);
  at("tokens").replaceChildren(...view.tokenWords(answer, budget, reserve));
  at("gauge").replaceChildren(...view.gauge(answer, budget, reserve));
  at("prompt").replaceChildren(...view.promptBody(answer, served.tasks.get(task), found));
}
