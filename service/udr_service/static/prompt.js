// The prompt: its tokens, remarks on it, and its text, messages or records.

import { at, code, counted, grouped, keyOf, make, sumOf } from "./view.js";

const GAP = "\n\n";
const PARTS = { bare: "instruction and input", shown: "demonstration", free: "free", reserve: "reserved for the answer" };

/** Show the prompt for a request, or why there is none; `demonstrations` are those retrieved for it. */
export function showPrompt(request, task, demonstrations, response) {
  const { answer, problem } = response ?? {};
  at("prompt-section").hidden = !response;
  at("prompt-body").hidden = at("copy-prompt").hidden = !answer;
  at("prompt-error").textContent = problem ? `No prompt. ${problem.title}: ${problem.detail}.` : "";
  if (!answer) return;
  at("copy-prompt").value = answer.prompt ?? JSON.stringify(answer.messages ?? answer.records, null, 2);
  showTokens(answer, request);
  at("remarks").replaceChildren(...remarks(answer));
  at("prompt").replaceChildren(...body(answer, task, demonstrations));
}

/** Show the tokens in words, and as the parts of a bar: the demonstrations in the order shown. */
function showTokens({ tokens, demonstrations }, { budget, reserve = 0 }) {
  const shown = sumOf(demonstrations, "tokens");
  const parts = `${tokens - shown} for instruction and input, ${shown} for ${counted(demonstrations.length, "demonstration")}`;
  const kept = reserve ? `; ${counted(reserve, "token")} of ${grouped(budget)} are reserved for the answer` : "";
  const total = make("strong", {}, counted(tokens, "token"));
  at("tokens").replaceChildren(total, ` of ${grouped(budget - reserve)}: ${parts}${kept}.`);
  const bars = [["bare", tokens - shown], ...demonstrations.map((item) => ["shown", item.tokens])];
  bars.push(["free", budget - reserve - tokens], ["reserve", reserve]);
  const spans = bars.filter(([, size]) => size > 0).map(([className, size]) => {
    const span = make("span", { className, title: `${PARTS[className]}: ${counted(size, "token")}` });
    span.style.flexGrow = size;
    return span;
  });
  at("gauge").replaceChildren(...spans);
}

/** Return how many demonstrations do not fit, how the input was truncated, and which texts in the data the tokenizer reads as special tokens. */
function remarks({ demonstrations, skipped = 0, truncated, special_tokens: special = [] }) {
  const lines = [];
  if (skipped && !demonstrations.length) lines.push(["No demonstration fits the budget. Raise it."]);
  else if (skipped) lines.push([`${counted(skipped, "demonstration")} more did not fit the budget.`]);
  if (truncated) {
    const { field, kept, length } = truncated;
    const count = `${grouped(kept)} of its ${counted(length, "character")}`;
    lines.push(["The input is truncated: of ", code(field), `, the prompt shows the first ${count}.`]);
  }
  for (const [token, places] of Map.groupBy(special, (place) => place.token)) {
    const names = places.flatMap(({ id }) => [", ", id === null ? "the input" : code(id)]).slice(1);
    lines.push(["The tokenizer reads ", code(token), " as a special token. It is left unchanged in ", ...names, "."]);
  }
  return lines.map((parts) => make("li", {}, ...parts));
}

/** Return the prompt as messages, as records, or as one text with marked parts. */
function body(prompt, task, demonstrations) {
  if (prompt.messages) {
    return prompt.messages.map(({ role, content }) =>
      make("div", { className: `message ${role}` }, make("b", {}, role), make("pre", { dir: "auto" }, content)),
    );
  }
  if (prompt.records) return [make("pre", {}, at("copy-prompt").value)];
  const texts = new Map(demonstrations.map((item) => [keyOf(item), item.text]));
  const shown = prompt.demonstrations.map((item) => texts.get(keyOf(item)));
  const text = prompt.prompt;
  const middle = GAP + shown.map((item) => item + GAP).join("");
  // The list of labels may follow the instruction.
  const start = text.startsWith(task.instruction) ? text.indexOf(middle, task.instruction.length) : -1;
  if (start < 0) return [make("pre", { dir: "auto" }, text)];
  const part = (className, content) => make("span", { className }, content);
  const gap = () => part("gap", GAP);
  const parts = shown.flatMap((item) => [part("shown", item), gap()]);
  const query = part("query", text.slice(start + middle.length));
  return [make("pre", { dir: "auto" }, part("instruction", text.slice(0, start)), gap(), ...parts, query)];
}
