// What is asked of the service, and the key that it is asked with.

export const base = new URL(".", document.baseURI).href.replace(/\/$/, "");

const STORED = "udr-api-key";
let inMemory = null;

/** The API key; a browser that keeps nothing for pages keeps it no longer than the page. */
export const key = {
  get() {
    try {
      return sessionStorage.getItem(STORED) ?? inMemory;
    } catch {
      return inMemory;
    }
  },
  set(value) {
    inMemory = value;
    try {
      if (value === null) sessionStorage.removeItem(STORED);
      else sessionStorage.setItem(STORED, value);
    } catch {
      // Kept in memory.
    }
  },
};

/** Say whether a header can carry a key. */
export const isKey = (text) => /^[!-~]+$/.test(text);

/**
 * Ask, and return `{answer, timing}`, or `{problem}`: a problem of RFC 9457, the service's own or one in its shape.
 * Throws only where `signal` says that nobody waits for the answer any longer.
 */
export async function ask(path, body, signal) {
  const headers = body === undefined ? {} : { "Content-Type": "application/json" };
  // Not as Authorization: a proxy may want that header for itself.
  if (key.get() !== null) headers["X-Api-Key"] = key.get();
  const method = body === undefined ? "GET" : "POST";
  try {
    const response = await fetch(path, { method, headers, body: JSON.stringify(body), signal, cache: "no-store" });
    const said = await read(response);
    if (response.ok && said !== null) return { answer: said, timing: timing(response.headers.get("Server-Timing")) };
    const known = typeof said?.detail === "string" && typeof said.title === "string";
    return { problem: known ? said : unknown(response.status) };
  } catch (error) {
    if (signal?.aborted) throw error;
    const detail = `${base} cannot be reached; does the service still run?`;
    return { problem: { status: 0, type: "", title: "No answer", detail } };
  }
}

async function read(response) {
  try {
    return await response.json();
  } catch (error) {
    if (error instanceof SyntaxError) return null;
    throw error;
  }
}

function unknown(status) {
  const detail = "what answered does not speak as udr does; is there something between this page and the service?";
  return { status, type: "", title: `HTTP ${status}`, detail };
}

/** Return the milliseconds of each stage, by name. */
function timing(header) {
  const found = (header ?? "").matchAll(/(\w+);dur=([\d.]+)/g);
  return Object.fromEntries([...found].map(([, stage, milliseconds]) => [stage, Number(milliseconds)]));
}
