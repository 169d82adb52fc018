// The results: demonstrations in one or two columns, the candidates, the prompt, and the same requests in code.

import { offerToAsk } from "./ask.js";
import { showCandidates } from "./candidates.js";
import { curlLines, pythonLines } from "./code.js";
import { served } from "./form.js";
import { showPrompt } from "./prompt.js";
import { at, badge, code, counted, keyOf, make, say, similarityText, sumOf, targetLine, values } from "./view.js";

const RANKING = "What the list is ordered by: the similarity, and how likely the input has the same label";
const MODES = { bm25: "BM25", hybrid: "Hybrid" };

/** Show the responses to the form's requests; `dense` has an answer, the others may be null or have problems. */
export function show(requests, dense, beside, prompt) {
  at("retrieval").hidden = at("code").hidden = false;
  const { demonstrations } = dense.answer;
  const { task } = requests.retrieve;
  const built = prompt?.answer;
  const wide = !task;
  const notes = built ? promptNotes(demonstrations, built, requests.prompt) : new Map();
  const full = served.info.metric === "cosine" ? 1 : highest(demonstrations);
  list("dense", demonstrations, demonstrations.length ? "" : "No demonstration matches.", (item) => ({ full, wide, ...notes.get(keyOf(item)) }));
  at("label-counts").replaceChildren(...labelCounts(demonstrations, wide));
  const out = [...notes.values()].filter((note) => note.out).length;
  at("shortfalls").replaceChildren(...shortfalls(requests.retrieve.k, demonstrations.length, out).map((text) => make("li", {}, text)));
  at("timing").textContent = timingText(dense.timing);
  showBeside(requests.beside, demonstrations, beside, wide);
  showCandidates((built ?? dense.answer).decisions ?? [], { wide, kept: built ? "in the prompt" : "chosen" });
  showPrompt(requests.prompt, served.tasks.get(task), demonstrations, prompt);
  offerToAsk(served.info.upstream && built);
  const lines = [{ path: "v1/retrieve", body: requests.retrieve }];
  if (beside?.answer) lines.push({ path: "v1/retrieve", body: requests.beside });
  if (requests.prompt) lines.push({ path: "v1/prompt", body: requests.prompt });
  at("curl").textContent = at("copy-curl").value = curlLines(lines);
  at("python").textContent = at("copy-python").value = pythonLines(lines);
  const inPrompt = built ? `, ${built.demonstrations.length} of them in the prompt of ${counted(built.tokens, "token")}` : "";
  say("status", `${counted(demonstrations.length, "demonstration")}${inPrompt}.`);
}

/** Return for each demonstration, by key, a note on whether the prompt shows it; `out` if not. */
function promptNotes(demonstrations, prompt, { budget, reserve = 0 }) {
  const tokens = new Map(prompt.demonstrations.map((item) => [keyOf(item), item.tokens]));
  let room = budget - reserve - prompt.tokens + sumOf(prompt.demonstrations, "tokens");
  const notes = demonstrations.map((item) => {
    const size = tokens.get(keyOf(item));
    room -= size ?? 0;
    if (size !== undefined) return [keyOf(item), { note: `in the prompt, ${counted(size, "token")}` }];
    const reason = room ? `does not fit the ${counted(room, "token")} left` : "no tokens left";
    return [keyOf(item), { out: true, note: `left out: ${reason}` }];
  });
  return new Map(notes);
}

const highest = (items) => Math.max(...items.map((item) => item.similarity), 0) || 1;

function list(id, items, end, detailsOf) {
  const cards = items.map((item) => card(item, detailsOf(item)));
  at(id).replaceChildren(...cards, ...(end ? [make("li", { className: "none soft" }, end)] : []));
}

/**
 * Return a demonstration as a list item. `full` is the similarity of a full bar, `note` the outcome, `out` whether the
 * prompt leaves it out, `wide` whether the list has several tasks.
 */
function card(item, { full, note, out, wide }) {
  const task = served.tasks.get(item.task);
  const bar = make("span", { className: "bar", ariaHidden: "true" }, make("span"));
  bar.firstChild.style.width = `${100 * Math.min(1, Math.max(0, item.similarity / full))}%`;
  const number = make("span", { className: "similarity", title: `similarity ${item.similarity}: how near the input is` }, similarityText(item.similarity));
  const rank = make("span", { className: "rank soft" }, String(item.rank));
  const isLabel = task?.labels.includes(item.target);
  const head = make("div", { className: "line" }, rank, ...(isLabel ? [badge(task, item.target)] : []), bar, number);
  const element = make("li", { className: out ? "card out" : "card" }, head, values(item.input));
  if (!isLabel) element.append(targetLine(item.target));
  const foot = make("p", { className: "foot soft" }, code(item.id));
  if (wide) foot.append(make("span", {}, item.task));
  if (item.ranking_score !== undefined) {
    foot.append(make("span", { title: RANKING }, `ranking score ${similarityText(item.ranking_score)}`));
  }
  if (note) foot.append(make("span", { className: "note" }, note));
  element.append(foot);
  return element;
}

/** Return badges with the count of each label, or of each task if there are several. */
function labelCounts(demonstrations, wide) {
  const task = served.tasks.get(demonstrations[0]?.task);
  if (!wide && !task?.labels.length) return [];
  const groups = [...Map.groupBy(demonstrations, (item) => (wide ? item.task : item.target))];
  groups.sort(([, a], [, b]) => b.length - a.length);
  return groups.map(([name, items]) => badge(wide ? undefined : task, name, ` × ${items.length}`));
}

function shortfalls(k, count, out) {
  const lines = [];
  if (out) lines.push(`${out} of ${count} left out of the prompt to keep the budget.`);
  if (count < k) lines.push(`${k} requested, ${count} returned; “Candidates” below lists the others and why each was dropped.`);
  return lines;
}

function timingText({ total, ...stages }) {
  if (total === undefined) return "";
  const parts = Object.entries(stages).map(([stage, milliseconds]) => `${stage} ${milliseconds.toFixed(1)}`);
  return `${total.toFixed(1)} ms in the service: ${parts.join(", ")}`;
}

/** Show another mode's results beside the retriever's. */
function showBeside(request, demonstrations, response, wide) {
  const { answer, problem } = response ?? {};
  at("beside-note").hidden = !problem;
  at("beside-column").hidden = !answer;
  if (problem) at("beside-note").textContent = `No results for ${MODES[request.mode]}: ${problem.detail}.`;
  if (!answer) return;
  const ranks = new Map(demonstrations.map((item) => [keyOf(item), item.rank]));
  const others = answer.demonstrations;
  const common = others.filter((item) => ranks.has(keyOf(item))).length;
  const overlap = make("small", {}, `${common} of ${others.length} are also among the retriever's`);
  at("beside-title").replaceChildren(`${MODES[request.mode]} `, overlap);
  const isShort = request.mode === "bm25" && others.length < request.k;
  const end = isShort ? `No ${others.length ? "other " : ""}demonstration shares a word with the input.` : "";
  list("beside", others, end, (item) => {
    const rank = ranks.get(keyOf(item));
    return { full: highest(others), wide, note: rank ? `retriever's rank ${rank}` : "only here" };
  });
}
