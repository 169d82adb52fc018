// The form for the API key. The key stays in the tab.

import { isKey, key } from "./api.js";
import { at, textOf } from "./view.js";

let onKey = () => {};
let focused = null;

/** Show the form for the key, with the problem of a request; once the user has entered one, call `next`, if it is given. */
export function askForKey(problem, next = () => {}) {
  onKey = next;
  focused = document.activeElement;
  at("key-form").hidden = false;
  at("key-error").textContent = `${textOf(problem)}.`;
  at("key").focus();
}

function takeKey(event) {
  event.preventDefault();
  const text = at("key").value.trim();
  if (!isKey(text)) {
    at("key-error").textContent = "A key contains only ASCII letters, digits and punctuation, and no spaces.";
    return at("key").focus();
  }
  key.set(text);
  at("key").value = "";
  at("key-form").hidden = true;
  at("forget").hidden = false;
  // Back to where the user was or, if that can no longer have the focus, to the top of the page.
  at("title").focus();
  focused.focus();
  onKey();
}

at("key-form").addEventListener("submit", takeKey);
at("forget").addEventListener("click", () => {
  key.forget();
  // So that nothing stays on the page of what was read with the key.
  location.reload();
});
