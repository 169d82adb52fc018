// Requests to the service, and the API key that they carry.

export const base = new URL(".", document.baseURI).href.replace(/\/$/, "");

const STORED = "udr-api-key";

/** Return storage that lasts as long as the tab or, if the browser blocks storage, as long as the page. */
function openStorage() {
  try {
    return sessionStorage;
  } catch {
    const items = new Map();
    const getItem = (name) => items.get(name) ?? null;
    return { getItem, setItem: (name, value) => items.set(name, value), removeItem: (name) => items.delete(name) };
  }
}

const storage = openStorage();

export const key = {
  get: () => storage.getItem(STORED),
  set: (value) => storage.setItem(STORED, value),
  forget: () => storage.removeItem(STORED),
};

/** Return whether a header can carry this key. */
export const isKey = (text) => /^[!-~]+$/.test(text);

/** Parse JSON, and keep each number that JavaScript would write otherwise, such as 4.0 or 12345678901234567, as it is written. */
export function parseExact(text) {
  const exact = (_, value, { source }) => (typeof value === "number" && String(value) !== source ? JSON.rawJSON(source) : value);
  return JSON.parse(text, JSON.rawJSON && exact);
}

/**
 * Send a request; return `{answer, timing, version, status}`, or `{problem}` in the shape of RFC 9457.
 * Without a body it is a GET, with one a POST. With `exact`, numbers of the answer are those of `parseExact`. `version` is the
 * ETag. Throws only if `signal` aborts it.
 */
export async function send(path, body, { signal, method = body === undefined ? "GET" : "POST", headers = {}, exact } = {}) {
  if (body !== undefined) headers["Content-Type"] = "application/json";
  // Not in Authorization, which a proxy may need for itself.
  if (key.get() !== null) headers["X-Api-Key"] = key.get();
  try {
    const response = await fetch(path, { method, headers, body: JSON.stringify(body), signal, cache: "no-store" });
    const content = await (exact ? response.text().then(parseExact) : response.json()).catch((error) => {
      // A body that is not JSON.
      if (error instanceof SyntaxError) return null;
      throw error;
    });
    const { status } = response;
    if (status === 204 || (response.ok && content !== null)) {
      return { answer: content, status, version: response.headers.get("ETag"), timing: timing(response.headers.get("Server-Timing")) };
    }
    if (typeof content?.detail === "string" && typeof content.title === "string") return { problem: content };
    // The gateway's errors, and those of its upstream.
    const { message } = content?.error ?? {};
    if (typeof message === "string") return { problem: { status, title: `HTTP ${status}`, detail: message } };
    const detail = "the response is not from udr; is there a proxy in front of the service?";
    return { problem: { status, title: `HTTP ${status}`, detail } };
  } catch (error) {
    if (signal?.aborted) throw error;
    return { problem: { status: 0, title: "No response", detail: `cannot reach ${base}; is the service running?` } };
  }
}

/** Return the milliseconds of each stage, by name. */
function timing(header) {
  const stages = (header ?? "").matchAll(/(\w+);dur=([\d.]+)/g);
  return Object.fromEntries([...stages].map(([, stage, milliseconds]) => [stage, Number(milliseconds)]));
}
