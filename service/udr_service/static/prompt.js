// The prompt, shown: its tokens, what is to be known of it, and itself.

import { at, counted, identity, make } from "./view.js";

const GAP = "\n\n";

/** What the prompt's copy button copies. */
export const copied = { prompt: "" };

/** Show the prompt that was asked for, or why there is none; `found` are the demonstrations that it was to show. */
export function showPrompt(asked, task, found, prompt) {
  const { answer, problem } = prompt ?? {};
  at("prompt-section").hidden = !prompt;
  at("prompt-body").hidden = at("copy-prompt").hidden = !answer;
  at("prompt-note").textContent = problem ? `No prompt. ${problem.title}: ${problem.detail}.` : "";
  if (!answer) return;
  const { budget, reserve = 0 } = asked;
  copied.prompt = answer.prompt ?? JSON.stringify(answer.messages ?? answer.records, null, 2);
  at("tokens").replaceChildren(...tokenWords(answer, budget, reserve));
  at("gauge").replaceChildren(...gauge(answer, budget, reserve));
  at("remarks").replaceChildren(...remarks(answer));
  at("prompt").replaceChildren(...body(answer, task, found));
}

function tokenWords(prompt, budget, reserve) {
  const shown = prompt.demonstrations.reduce((sum, one) => sum + one.tokens, 0);
  const parts = `${prompt.tokens - shown} for instruction and input, ${shown} for ${counted(prompt.demonstrations.length, "demonstration")}`;
  const kept = reserve ? `; ${counted(reserve, "token")} of ${budget.toLocaleString("en")} are kept for the answer` : "";
  return [make("strong", {}, counted(prompt.tokens, "token")), ` of ${(budget - reserve).toLocaleString("en")}: ${parts}${kept}.`];
}

/** Return the prompt's tokens as the parts of a bar, the demonstrations in the order shown. */
function gauge(prompt, budget, reserve) {
  const shown = prompt.demonstrations.map((one) => ["shown", one.tokens]);
  const bare = prompt.tokens - shown.reduce((sum, [, tokens]) => sum + tokens, 0);
  const parts = [["bare", bare], ...shown, ["free", budget - reserve - prompt.tokens], ["reserve", reserve]];
  return parts.filter(([, tokens]) => tokens > 0).map(([kind, tokens]) => {
    const part = make("span", { className: kind, title: `${kind}: ${tokens}` });
    part.style.flexGrow = tokens;
    return part;
  });
}

/** Return what was cut from the input, and which texts in the data the tokenizer takes for more than text. */
function remarks({ truncated, special_tokens: special = [] }) {
  const code = (text) => make("code", {}, make("bdi", {}, text));
  const said = [];
  if (truncated) {
    const { field, kept, length } = truncated;
    const count = `${kept.toLocaleString("en")} of its ${counted(length, "character")}`;
    said.push(["The input was cut to fit: of ", code(field), `, the prompt shows the first ${count}.`]);
  }
  for (const [token, places] of Map.groupBy(special, (one) => one.token)) {
    const named = places.flatMap(({ id }) => [", ", id === null ? "the input" : code(id)]).slice(1);
    said.push(["The tokenizer reads ", code(token), " as a special token; it was left as it is in ", ...named, "."]);
  }
  return said.map((parts) => make("li", {}, ...parts));
}

/** Return the prompt: as one text whose parts are marked, as messages, or as records. */
function body(prompt, task, found) {
  if (prompt.messages) {
    return prompt.messages.map(({ role, content }) =>
      make("div", { className: `message ${role}` }, make("b", {}, role), make("pre", { dir: "auto" }, content)),
    );
  }
  if (prompt.records) return [make("pre", {}, copied.prompt)];
  const texts = new Map(found.map((one) => [identity(one), one.text]));
  const shown = prompt.demonstrations.map((one) => texts.get(identity(one)));
  const text = prompt.prompt;
  const between = GAP + shown.map((one) => one + GAP).join("");
  // The options may be listed after the instruction.
  const start = text.startsWith(task.instruction) ? text.indexOf(between, task.instruction.length) : -1;
  // It is the service's text that is shown, whatever we take its parts for.
  if (start < 0) return [make("pre", { dir: "auto" }, text)];
  const part = (className, words) => make("span", { className }, words);
  const gap = () => part("gap", GAP);
  const parts = shown.flatMap((one) => [part("shown", one), gap()]);
  const query = part("query", text.slice(start + between.length));
  return [make("pre", { dir: "auto" }, part("instruction", text.slice(0, start)), gap(), ...parts, query)];
}
