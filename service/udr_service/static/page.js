// The page: when it sends requests, and what it does with the responses.

import { key, send } from "./api.js";
import { contents, fill, isEmpty, mark, messagesOf, offer, readRequests, scope, served, showScope, tasksIn } from "./form.js";
import { askForKey } from "./keys.js";
import { updateOptions } from "./options.js";
import { show } from "./results.js";
import { showRows } from "./rows.js";
import { at, counted, make, say, textOf } from "./view.js";

const NO_INPUT = "Enter an input, or try an example.";
let running = null;

async function load() {
  const [info, tasks] = await Promise.all([send("v1/info"), send("v1/tasks")]);
  const problem = info.problem ?? tasks.problem;
  at("load-error").hidden = !problem || problem.status === 401;
  if (problem) {
    say("load-error", textOf(problem), true);
    if (problem.status === 401) askForKey(problem, load);
    // The service is loading, or its queue is full.
    else if ([429, 503].includes(problem.status)) setTimeout(load, 2000);
    return;
  }
  const { version, index_version, model, dimension, metric, tokenizer, demonstrations } = info.answer;
  at("served").textContent = `${counted(info.answer.tasks.length, "task")}, ${counted(demonstrations, "demonstration")}`;
  at("versions").textContent =
    `udr ${version} · index ${index_version} · encoder ${model}, ${dimension} dimensions, ${metric} · ` +
    `tokens counted by the tokenizer of ${tokenizer}`;
  at("forget").hidden = key.get() === null;
  offer(info.answer, tasks.answer.tasks);
  at("views").hidden = false;
  showView();
  await openWithExample();
}

/** Show the view that the address names: the rows of a task, or else the form and its results. */
function showView() {
  if (!served.info) return;
  const rows = location.hash === "#rows";
  at("main").hidden = rows;
  at("rows").hidden = !rows;
  at("to-main").ariaCurrent = rows ? null : "page";
  at("to-rows").ariaCurrent = rows ? "page" : null;
  if (rows) showRows();
}

/** Answer the first demonstration of the first task, unless the user was faster. */
async function openWithExample() {
  const { task } = scope();
  if (!task) return;
  const { answer } = await send(`v1/tasks/${encodeURIComponent(task)}/demonstrations?limit=1`);
  if (!answer?.demonstrations.length || !isEmpty() || scope().task !== task) return;
  fill(answer.demonstrations[0]);
  await search(false);
}

/** Send the form's requests and show the responses; `byUser` moves the focus to an invalid control. */
async function search(byUser) {
  running?.abort();
  if (isEmpty()) return mark([["input", NO_INPUT]], byUser);
  const controller = (running = new AbortController());
  const requests = readRequests({ explain: at("candidate-details").open });
  const post = (path, body) => body && send(path, body, { signal: controller.signal });
  at("results").ariaBusy = "true";
  try {
    const responses = await Promise.all([
      post("v1/retrieve", requests.retrieve),
      post("v1/retrieve", requests.beside),
      post("v1/prompt", requests.prompt),
    ]);
    if (running === controller) finish(requests, responses, byUser);
  } catch (error) {
    if (!controller.signal.aborted) throw error;
  } finally {
    if (running === controller) at("results").ariaBusy = "false";
  }
}

function finish(requests, [dense, beside, prompt], byUser) {
  const { problem } = dense;
  const first = problem ?? prompt?.problem;
  mark(first ? messagesOf(first) : [], byUser);
  if (problem) clear(textOf(problem), true);
  else show(requests, dense, beside, prompt);
  // On a phone, the results are below the form.
  const { top } = at("results").getBoundingClientRect();
  if (!problem && byUser && top > 0.8 * innerHeight) at("results").scrollIntoView();
  if (problem?.status === 401) askForKey(problem, () => search(true));
}

/** Load the input of a demonstration that is similar to a random word of its task, and search, unless the user was faster. */
async function example() {
  const pick = (items) => items[Math.floor(Math.random() * items.length)];
  const task = pick(tasksIn(scope()));
  const words = `${task.instruction} ${task.labels.join(" ")}`.match(/\p{L}{3,}/gu) ?? [task.name];
  const input = Object.fromEntries(task.fields.map((field) => [field, pick(words)]));
  const k = Math.min(task.demonstrations, served.info.limits.max_k, 64);
  const before = contents();
  const { answer, problem } = await send("v1/retrieve", { task: task.name, input, k });
  if (problem?.status === 401) askForKey(problem, example);
  if (contents() !== before) return;
  if (!answer?.demonstrations.length) {
    return say("status", problem ? textOf(problem) : `No example found in ${task.name}.`, Boolean(problem));
  }
  fill(pick(answer.demonstrations));
  await search(false);
}

/** Remove all results, and say why. */
function clear(reason, isError) {
  running?.abort();
  for (const section of document.querySelectorAll("#results > section")) section.hidden = true;
  say("status", reason, isError);
}

/** Copy the text that a button holds as its value. Over plain HTTP there is no clipboard API: copy it from a temporary box. */
async function copy(button) {
  try {
    await navigator.clipboard.writeText(button.value);
  } catch {
    const box = make("textarea", { value: button.value, className: "unseen" });
    document.body.append(box);
    box.select();
    document.execCommand("copy");
    box.remove();
    button.focus();
  }
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = "Copy"), 1500);
}

at("form").addEventListener("submit", (event) => {
  event.preventDefault();
  search(true);
});
at("form").addEventListener("keydown", (event) => {
  if (event.key !== "Enter" || !(event.ctrlKey || event.metaKey)) return;
  event.preventDefault();
  search(true);
});
at("form").addEventListener("change", ({ target }) => {
  if (target.id === "scope") {
    showScope();
    at("gold").replaceChildren();
    mark([]);
    if (isEmpty()) clear(NO_INPUT);
  }
  if (target.localName === "textarea") return;
  updateOptions();
  if (!isEmpty()) search(false);
});
at("fields").addEventListener("input", () => {
  at("gold").replaceChildren();
  if (!at("retrieval").hidden) say("status", "The input has changed; search again.");
});
at("candidate-details").addEventListener("toggle", () => search(false));
at("example").addEventListener("click", example);
addEventListener("hashchange", showView);
for (const button of document.querySelectorAll(".copy")) button.addEventListener("click", () => copy(button));
load();
