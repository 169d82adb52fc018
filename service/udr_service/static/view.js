// What is shown. Whatever comes from the service is put in as text, never as HTML.

const TONES = 8;

export const at = (id) => document.getElementById(id);

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

/** Return what no other demonstration is called. */
export const identity = (one) => `${one.task}/${one.id}`;

/** Return the ranks of demonstrations, by task and id. */
export const ranks = (demonstrations) => new Map(demonstrations.map((one) => [identity(one), one.rank]));

/** Return a label as a badge, in the colour of its place among the task's labels. */
export function badge(task, label, ...more) {
  const tone = Math.max(0, task?.labels.indexOf(label) ?? 0) % TONES;
  return make("span", { className: `badge tone-${tone}` }, make("bdi", {}, label), ...more);
}

/** Return a similarity with as many digits as tell it from others. */
export function similarityText({ similarity }) {
  const size = Math.abs(similarity);
  return size > 0 && size < 0.1 ? similarity.toPrecision(3) : similarity.toFixed(3);
}

function similarity(one, full) {
  const bar = make("span", { className: "bar", ariaHidden: "true" }, make("span"));
  bar.firstChild.style.width = `${100 * Math.min(1, Math.max(0, one.similarity / full))}%`;
  return [bar, make("span", { className: "similarity", title: `similarity ${one.similarity}` }, similarityText(one))];
}

function values(one) {
  const names = Object.keys(one.input);
  const shown = names.map((name) => make("dd", { dir: "auto" }, valueText(one.input[name])));
  if (names.length === 1) return make("dl", { className: "values" }, make("dt", { className: "unseen" }, names[0]), ...shown);
  return make("dl", { className: "values named" }, ...names.flatMap((name, place) => [make("dt", {}, name), shown[place]]));
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

/**
 * Return, by task and id, what became of each demonstration that the prompt was asked with.
 * `limit` is how many tokens the prompt may have.
 */
export function fates(demonstrations, prompt, limit) {
  if (!prompt) return new Map();
  const taken = new Map(prompt.demonstrations.map((one) => [identity(one), one]));
  const added = (some) => some.reduce((sum, one) => sum + one.tokens, 0);
  return new Map(
    demonstrations.map((one) => {
      const shown = taken.get(identity(one));
      if (shown) return [identity(one), { out: false, note: `in the prompt, ${counted(shown.tokens, "token")}` }];
      // In the order of the choice, each is tried in the room that those before it left.
      const before = prompt.demonstrations.filter((other) => other.rank < one.rank);
      const room = limit - prompt.tokens + added(prompt.demonstrations) - added(before);
      const note = `left out: does not fit the ${counted(room, "token")} left`;
      return [identity(one), { out: true, note: room ? note : "left out: no token is left" }];
    }),
  );
}

/** Return what became of a demonstration. */
export const fate = (found, one) => found.get(identity(one)) ?? { out: false, note: "" };

/** Return the rank that a demonstration has among others, or undefined. */
export const rankAmong = (others, one) => others.get(identity(one));
