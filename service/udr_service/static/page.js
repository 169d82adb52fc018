// The page: what is asked when, and what happens then.

import { show } from "./answers.js";
import { asked, chosen, fill, inScope, isEmpty, mark, offer, placed, served, showScope } from "./form.js";
import { showOptions } from "./options.js";
import { copied } from "./prompt.js";
import { ask, isKey, key } from "./service.js";
import { at, counted } from "./view.js";

const SECTIONS = ["found", "prompt-section", "code"];
let asking = null;
let unlocked = load;

async function load() {
  const [said, listed] = await Promise.all([ask("v1/info"), ask("v1/tasks")]);
  const problem = said.problem ?? listed.problem;
  at("load-error").hidden = !problem || problem.status === 401;
  if (problem) {
    at("load-error").textContent = `${problem.title}: ${problem.detail}`;
    if (problem.status === 401) needKey(problem, load);
    // It is loading, or full.
    else if ([429, 503].includes(problem.status)) setTimeout(load, 2000);
    return;
  }
  const info = said.answer;
  at("served").textContent = `${counted(info.tasks.length, "task")}, ${counted(info.demonstrations, "demonstration")}`;
  at("versions").textContent =
    `udr ${info.version} · index ${info.index_version} · encoder ${info.model}, ${info.dimension} dimensions, ` +
    `${info.metric} · tokens counted as by ${info.tokenizer}`;
  at("main").hidden = false;
  at("forget").hidden = key.get() === null;
  offer(info, listed.answer.tasks);
}

/** Ask, and show what comes; `byHand` moves the focus to what is wrong. */
async function run(byHand) {
  asking?.abort();
  if (isEmpty()) {
    mark([["input", "Type an input, or take an example."]], byHand);
    return;
  }
  const mine = (asking = new AbortController());
  const wanted = asked();
  const send = (path, body) => (body ? ask(path, body, mine.signal) : null);
  at("results").ariaBusy = "true";
  try {
    const answers = await Promise.all([
      send("v1/retrieve", wanted.chosen),
      send("v1/retrieve", wanted.mode && { ...wanted.query, mode: wanted.mode }),
      send("v1/prompt", wanted.prompt),
    ]);
    if (asking === mine) take(wanted, answers, byHand);
  } catch (error) {
    if (!mine.signal.aborted) throw error;
  } finally {
    if (asking === mine) at("results").ariaBusy = "false";
  }
}

function take(wanted, [dense, beside, prompt], byHand) {
  const { problem } = dense;
  const first = problem ?? prompt?.problem;
  mark(first ? placed(first) : [], byHand);
  at("status").classList.toggle("error", Boolean(problem));
  if (problem) empty(`${problem.title}: ${problem.detail}`);
  else show(wanted, dense, beside, prompt);
  const { top } = at("results").getBoundingClientRect();
  // On a phone, the answers are below the form.
  if (!problem && byHand && top > 0.8 * innerHeight) at("results").scrollIntoView();
  if (problem?.status === 401) needKey(problem, () => run(true));
}

/** Fill in the input of a demonstration that is near to some word of its task; then ask. */
async function example() {
  const pick = (some) => some[Math.floor(Math.random() * some.length)];
  const task = pick(inScope(chosen()));
  const words = `${task.instruction} ${task.labels.join(" ")}`.match(/\p{L}{3,}/gu) ?? [task.name];
  const input = Object.fromEntries(task.fields.map((field) => [field, pick(words)]));
  const k = Math.min(task.demonstrations, served.info.limits.max_k, 64);
  const { answer, problem } = await ask("v1/retrieve", { task: task.name, input, k });
  if (problem?.status === 401) needKey(problem, example);
  if (!answer?.demonstrations.length) {
    at("status").textContent = problem ? `${problem.title}: ${problem.detail}` : `No example in ${task.name}.`;
    return;
  }
  fill(pick(answer.demonstrations));
  await run(false);
}

function needKey(problem, next) {
  unlocked = next;
  at("key-form").hidden = false;
  at("key-error").textContent = `${problem.title}: ${problem.detail}.`;
  at("key").focus();
}

function takeKey(event) {
  event.preventDefault();
  const text = at("key").value.trim();
  if (!isKey(text)) {
    at("key-error").textContent = "A key has letters, digits and signs of ASCII, and no blanks.";
    at("key").focus();
    return;
  }
  key.set(text);
  at("key").value = "";
  at("key-form").hidden = true;
  at("forget").hidden = false;
  unlocked();
}

function forget() {
  key.set(null);
  at("forget").hidden = true;
  empty("The key is forgotten.");
}

/** Take all answers away, and say why. */
function empty(words) {
  asking?.abort();
  for (const id of SECTIONS) at(id).hidden = true;
  at("status").textContent = words;
}

/** Copy a text; where a page may not, as over plain HTTP, the old way. */
async function copy(button, text) {
  try {
    await navigator.clipboard.writeText(text);
  } catch {
    const box = document.createElement("textarea");
    box.value = text;
    box.className = "unseen";
    document.body.append(box);
    box.select();
    document.execCommand("copy");
    box.remove();
    button.focus();
  }
  button.textContent = "Copied";
  setTimeout(() => (button.textContent = "Copy"), 1500);
}

function changed() {
  at("gold").replaceChildren();
  if (!at("found").hidden) at("status").textContent = "The input has changed since; ask again.";
}

at("form").addEventListener("submit", (event) => {
  event.preventDefault();
  run(true);
});
at("form").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && (event.ctrlKey || event.metaKey)) {
    event.preventDefault();
    run(true);
  }
});
at("form").addEventListener("change", ({ target }) => {
  if (target.id === "scope") {
    showScope();
    at("gold").replaceChildren();
    mark([]);
    if (isEmpty()) empty("Type an input, or take an example.");
  }
  if (target.localName === "textarea") return;
  showOptions();
  if (!isEmpty()) run(false);
});
at("fields").addEventListener("input", changed);
at("why").addEventListener("toggle", () => run(false));
at("example").addEventListener("click", example);
at("forget").addEventListener("click", forget);
at("key-form").addEventListener("submit", takeKey);
at("copy-prompt").addEventListener("click", ({ target }) => copy(target, copied.prompt));
at("copy-curl").addEventListener("click", ({ target }) => copy(target, at("curl").textContent));
at("copy-python").addEventListener("click", ({ target }) => copy(target, at("python").textContent));
load();
