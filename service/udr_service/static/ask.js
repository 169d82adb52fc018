// Asks the language model behind the gateway: it reads the prompt that the page shows.

import { send } from "./api.js";
import { at } from "./view.js";

let messages = [];
let running = null;

/** Offer to ask with this prompt, and forget the last answer; offer nothing without a prompt, or if it is records. */
export function offerToAsk(prompt) {
  running?.abort();
  messages = prompt?.messages ?? (prompt?.prompt ? [{ role: "user", content: prompt.prompt }] : []);
  at("ask").hidden = !messages.length;
  at("answer").hidden = true;
  at("answer-note").textContent = "";
}

async function ask(event) {
  event.preventDefault();
  running?.abort();
  const controller = (running = new AbortController());
  const note = at("answer-note");
  at("answer").hidden = true;
  note.classList.remove("error");
  note.textContent = "The model is answering …";
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
    note.classList.toggle("error", at("answer").hidden);
    note.textContent = at("answer").hidden ? wrong : `Answered in ${((performance.now() - started) / 1000).toFixed(1)} s.`;
  } catch (error) {
    if (!controller.signal.aborted) throw error;
  }
}

at("ask").addEventListener("submit", ask);
