// What is shown. Whatever comes from the service is put in as text, never as HTML.

const TONES = 8;

/** Return a new element with these properties and children; a child that is a string is text. */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** Return "1 demonstration", "2 demonstrations". */
export const counted = (count, what) => `${count.toLocaleString("en")} ${what}${count === 1 ? "" : "s"}`;

/** Return how a field's value reads, as in the prompt. */
export function valueText(value) {
  if (Array.isArray(value)) return value.map(valueText).join(", ");
  return value === null ? "" : String(value);
}

const identity = (one) => `${one.task}/${one.id}`;

/** Return the ranks of demonstrations, by task and id. */
export const ranks = (demonstrations) => new Map(demonstrations.map((one) => [identity(one), one.rank]));

/** Return a label as a badge, in the colour of its place among the task's labels. */
export function badge(task, label, ...more) {
  const tone = Math.max(0, task?.labels.indexOf(label) ?? 0) % TONES;
  return make("span", { className: `badge tone-${tone}` }, make("bdi", {}, label), ...more);
}

function similarity(one, full) {
  const size = Math.abs(one.similarity);
  const shown = size > 0 && size < 0.1 ? one.similarity.toPrecision(3) : one.similarity.toFixed(3);
  const bar = make("span", { className: "bar", ariaHidden: "true" }, make("span"));
  bar.firstChild.style.width = `${100 * Math.min(1, Math.max(0, one.similarity / full))}%`;
  return [bar, make("span", { className: "similarity", title: `similarity ${one.similarity}` }, shown)];
}

function values(one) {
  const names = Object.keys(one.input);
  const shown = names.map((name) => make("dd", { dir: "auto" }, valueText(one.input[name])));
  if (names.length === 1) return make("dl", { className: "values" }, make("dt", { className: "unseen" }, names[0]), ...shown);
  return make("dl", { className: "values named" }, ...names.flatMap((name, at) => [make("dt", {}, name), shown[at]]));
}

/**
 * Return a demonstration as an item of a list.
 * `task` is its task, `full` the similarity of a full bar, `note` what became of it, `out` whether it was left out,
 * and `wide` whether others of the list are of other tasks.
 */
export function card(one, { task, full, note, out, wide }) {
  const isLabel = task?.labels.includes(one.target);
  const head = make("div", { className: "line" }, make("span", { className: "rank" }, String(one.rank)));
  if (isLabel) head.append(badge(task, one.target));
  head.append(...similarity(one, full));
  const item = make("li", { className: out ? "card out" : "card" }, head, values(one));
  if (!isLabel) {
    const arrow = make("span", { className: "arrow" }, make("span", { className: "unseen" }, "answer "), "→ ");
    item.append(make("p", { className: "target" }, arrow, make("bdi", {}, one.target)));
  }
  const foot = make("p", { className: "foot" }, make("code", {}, make("bdi", {}, one.id)));
  if (wide) foot.append(make("span", {}, one.task));
  if (note) foot.append(make("span", { className: "note" }, note));
  item.append(foot);
  return item;
}

/** Return badges with how often each label comes, or each task where there is more than one. */
export function votes(demonstrations, tasks, wide) {
  const task = tasks.get(demonstrations[0]?.task);
  if (!wide && !task?.labels.length) return [];
  const counts = new Map();
  for (const one of demonstrations) {
    const name = wide ? one.task : one.target;
    counts.set(name, (counts.get(name) ?? 0) + 1);
  }
  const most = [...counts].sort(([, a], [, b]) => b - a);
  return most.map(([name, count]) => badge(wide ? undefined : task, name, ` × ${count}`));
}

/** Return, for each demonstration that the prompt was asked with, by task and id, what became of it. */
export function fates(demonstrations, prompt, least, limit) {
  const taken = new Map((prompt?.demonstrations ?? []).map((one) => [identity(one), one]));
  const added = (some) => some.reduce((sum, one) => sum + one.tokens, 0);
  return new Map(
    demonstrations.map((one) => {
      const shown = taken.get(identity(one));
      if (least !== undefined && one.similarity < least) {
        return [identity(one), { out: "cut", note: `left out: less similar than ${least}` }];
      }
      if (!prompt) return [identity(one), { out: null, note: "" }];
      if (shown) return [identity(one), { out: null, note: `in the prompt, ${counted(shown.tokens, "token")}` }];
      // From the nearest on, each is tried in the room that those before it left.
      const nearer = prompt.demonstrations.filter((other) => other.rank < one.rank);
      const room = limit - prompt.tokens + added(prompt.demonstrations) - added(nearer);
      const note = `left out: does not fit the ${counted(room, "token")} left`;
      return [identity(one), { out: "budget", note: room ? note : "left out: no token is left" }];
    }),
  );
}

/** Return what became of a demonstration. */
export const fate = (found, one) => found.get(identity(one)) ?? { out: null, note: "" };

/** Return the rank that a demonstration has among others, or undefined. */
export const rankAmong = (others, one) => others.get(identity(one));

/** Return the prompt's tokens in words. */
export function tokenWords(prompt, budget, reserve) {
  const shown = prompt.demonstrations.reduce((sum, one) => sum + one.tokens, 0);
  const parts = `${prompt.tokens - shown} for instruction and input, ${shown} for ${counted(prompt.demonstrations.length, "demonstration")}`;
  const kept = reserve ? `; ${counted(reserve, "token")} of ${budget.toLocaleString("en")} are kept for the answer` : "";
  return [make("strong", {}, counted(prompt.tokens, "token")), ` of ${(budget - reserve).toLocaleString("en")}: ${parts}${kept}.`];
}

/** Return the prompt's tokens as the parts of a bar, the nearest demonstration last. */
export function gauge(prompt, budget, reserve) {
  const shown = prompt.demonstrations.map((one) => ["shown", one.tokens]);
  const bare = prompt.tokens - shown.reduce((sum, [, tokens]) => sum + tokens, 0);
  const parts = [["bare", bare], ...shown, ["free", budget - reserve - prompt.tokens], ["reserve", reserve]];
  return parts.filter(([, tokens]) => tokens > 0).map(([kind, tokens]) => {
    const part = make("span", { className: kind, title: `${kind}: ${tokens}` });
    part.style.flexGrow = tokens;
    return part;
  });
}

/** Return the prompt: as one text whose parts are marked, or as messages. */
export function promptBody(prompt, task, demonstrations) {
  if (prompt.messages) {
    return prompt.messages.map(({ role, content }) =>
      make("div", { className: `message ${role}` }, make("b", {}, role), make("pre", { dir: "auto" }, content)),
    );
  }
  const texts = new Map(demonstrations.map((one) => [identity(one), one.text]));
  const shown = prompt.demonstrations.map((one) => texts.get(identity(one)));
  const gap = "\n\n";
  const lead = [task.instruction, ...shown, ""].join(gap);
  // It is the service's text that is shown, whatever we take its parts for.
  if (!prompt.prompt.startsWith(lead)) return [make("pre", { dir: "auto" }, prompt.prompt)];
  const part = (className, text) => make("span", { className }, text);
  const before = shown.flatMap((text) => [part("shown", text), part("gap", gap)]);
  const query = part("query", prompt.prompt.slice(lead.length));
  return [make("pre", { dir: "auto" }, part("instruction", task.instruction), part("gap", gap), ...before, query)];
}
