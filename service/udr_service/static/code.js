// The page's requests as curl commands and as a Python program. They never contain the key.

import { base, key } from "./api.js";

// Characters that are invisible or reverse text.
const INVISIBLE = /[\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/** Return the commands that send these requests, each `{path, body}`. */
export function curlLines(requests) {
  const authorization = key.get() === null ? "" : ` \\\n  -H "X-Api-Key: $UDR_API_KEY"`;
  const commands = requests.map(({ path, body }) => {
    const start = `curl -s ${quoted(`${base}/${path}`)}${authorization}`;
    return `${start} \\\n  -H 'Content-Type: application/json' \\\n  -d ${quoted(literal(body))}`;
  });
  return commands.join("\n\n");
}

/** Return the program that sends these requests, each `{path, body}`; they share one input. */
export function pythonLines(requests) {
  const calls = requests.map(({ path, body }) => {
    const { task, input, ...options } = body;
    const positional = task === undefined ? ["input=query"] : [literal(task), "query"];
    const named = Object.entries(options).map(([name, value]) => `${name}=${typeof value === "boolean" ? (value ? "True" : "False") : literal(value)}`);
    const method = path.split("/").at(-1);
    const variable = body.mode ?? (method === "prompt" ? "prompt" : "retrieval");
    return call(`${variable} = client.${method}`, [...positional, ...named]);
  });
  const note = key.get() === null ? "" : "# The client reads the key from the environment variable UDR_API_KEY.\n";
  const body = calls.map((line) => line.replace(/^/gm, "    ")).join("\n");
  return `from udr import Client\n\nquery = ${literal(requests[0].body.input)}\n${note}with Client(${literal(base)}) as client:\n${body}`;
}

function call(name, parameters) {
  const line = `${name}(${parameters.join(", ")})`;
  return line.length <= 96 ? line : `${name}(\n${parameters.map((parameter) => `    ${parameter},\n`).join("")})`;
}

/** Return a literal that JSON and Python both read as this value. */
function literal(value) {
  if (value !== null && typeof value === "object") {
    return `{${Object.entries(value).map(([name, item]) => `${literal(name)}: ${literal(item)}`).join(", ")}}`;
  }
  return JSON.stringify(value).replace(INVISIBLE, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
