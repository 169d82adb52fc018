// The lines that ask from elsewhere what the page asked. They never hold the key.

import { base, key } from "./service.js";

const VARIABLES = { bm25: "by_words", hybrid: "fused" };
// What does not show, or turns text around.
const INVISIBLE = /[\u007f-\u009f\u00ad\u061c\u200b-\u200f\u2028-\u202e\u2060-\u2069\ufeff]/g;

/** Return the commands that send these requests, each `{path, body}`. */
export function curlLines(requests) {
  const sent = key.get() === null ? "" : ` \\\n  -H "X-Api-Key: $UDR_API_KEY"`;
  const lines = requests.map(({ path, body }) => {
    const start = `curl -s ${quoted(`${base}/${path}`)}${sent}`;
    return `${start} \\\n  -H 'Content-Type: application/json' \\\n  -d ${quoted(literal(body))}`;
  });
  return lines.join("\n\n");
}

/** Return the program that sends these requests, each `{path, body}`; their input is the same. */
export function pythonLines(requests) {
  const calls = requests.map(({ path, body }) => {
    const { task, input, ...options } = body;
    const places = task === undefined ? ["input=query"] : [literal(task), "query"];
    const named = Object.entries(options).map(([name, value]) => `${name}=${value === true ? "True" : literal(value)}`);
    const method = path.split("/").at(-1);
    const variable = method === "prompt" ? method : VARIABLES[body.mode] ?? "found";
    return call(`${variable} = client.${method}`, [...places, ...named]);
  });
  const noted = key.get() === null ? "" : "# The key is read from the environment variable UDR_API_KEY.\n";
  const query = `query = ${literal(requests[0].body.input)}`;
  const lines = [`with Client(${literal(base)}) as client:`, ...calls.map((line) => line.replace(/^/gm, "    "))];
  return ["from udr import Client\n", query, `${noted}${lines.join("\n")}`].join("\n");
}

function call(name, places) {
  const line = `${name}(${places.join(", ")})`;
  return line.length <= 96 ? line : `${name}(\n${places.map((place) => `    ${place},\n`).join("")})`;
}

/** Return what JSON and Python both read as this value. */
function literal(value) {
  if (value !== null && typeof value === "object") {
    return `{${Object.entries(value).map(([name, one]) => `${literal(name)}: ${literal(one)}`).join(", ")}}`;
  }
  return JSON.stringify(value).replace(INVISIBLE, (one) => `\\u${one.charCodeAt(0).toString(16).padStart(4, "0")}`);
}

const quoted = (text) => `'${text.replaceAll("'", "'\\''")}'`;
