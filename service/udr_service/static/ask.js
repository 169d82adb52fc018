// Asks the language model behind the gateway: it reads the prompt that the page shows.

import { send } from "./api.js";
import { at, say } from "./view.js";

let messages = [];
let running = null;

/** Offer to ask with this prompt, and forget the last answer; offer nothing without a prompt, or if it is records. */
export function offerToAsk(prompt) {
  running?.abort();
  messages = prompt?.messages ?? (prompt?.prompt ? [{ role: "user", content: prompt.prompt }] : []);
  at("ask").hidden = !messages.length;
  at("answer").hidden = true;
  say("answer-note", "");
}

async function ask(event) {
  event.preventDefault();
  running?.abort();
  const controller = (running = new AbortController());
  at("answer").hidden = true;
  say("answer-note", "The model is answering …");
  const started = performance.now();
  try {
    // Without a task, the gateway passes the chat on as it is.
    const body = { model: at("model").value.trim() || at("model").placeholder, messages };
    const { answer, problem } = await send("v1/chat/completions", body, { signal: controller.signal });
    if (running !== controller) return;
    const text = answer?.choices?.[0]?.message?.content;
    at("answer").hidden = typeof text !== "string";
    at("answer").textContent = text ?? "";
    const wrong = problem ? `${problem.title}: ${problem.detail}` : "The upstream's answer has no text.";
    const right = `Answered in ${((performance.now() - started) / 1000).toFixed(1)} s.`;
    say("answer-note", at("answer").hidden ? wrong : right, at("answer").hidden);
  } catch (error) {
    if (!controller.signal.aborted) throw error;
  }
}

at("ask").addEventListener("submit", ask);
