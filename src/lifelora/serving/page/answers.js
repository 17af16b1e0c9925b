// Answers of one system or two as lists with scores, reasons and what changed. Asks nothing.
import { changes, summary } from "./changes.js";
import { bars, make, short } from "./elements.js";

const captions = {
  blend: "Weights of the blend",
  full: "How far C(u) of this user is from I, by layer of the language model (‖C(u) − I‖)",
};
const told = (past) => (past.rating ? `${past.title} (${past.rating})` : past.title);
const ids = (answer) => answer.items.map((one) => one.item);

function behaviours(shown, nearest) {
  const is = (past) => nearest && past.item === nearest.item && past.time === nearest.time;
  return make("ul", { class: "shown" }, ...shown.map((past) =>
    make("li", { class: is(past) ? "nearest" : null }, told(past), is(past) ? make("strong", {}, "nearest") : "")));
}

function why(of, shown, nearest, words) {
  return make("details", { "data-of": of }, make("summary", {}, words),
    make("p", { class: "note" }, `${shown.length} behaviours were shown to the model, the latest last:`), behaviours(shown, nearest));
}

function row(answer, one, move, there, onAdd) {
  const marks = [];
  if (move) marks.push(make("span", { class: `move ${move.kind}` }, make("span", { "aria-hidden": "true" }, `${move.sign} `), move.words));
  if (there) marks.push(make("span", { class: "there" }, there));
  const reason = one.nearest ? `Why: near to ${told(one.nearest)}` : "Why: what was shown for it";
  return make("li", { class: move ? `is-${move.kind}` : null },
    make("span", { class: "rank", "aria-hidden": "true" }, String(one.rank)),
    make("div", { class: "what" },
      make("div", { class: "title" }, one.title),
      marks.length ? make("div", { class: "marks" }, ...marks) : "",
      one.nearest || one.shown ? why(`${answer.asked} ${one.item}`, one.shown ?? answer.shown, one.nearest, reason) : ""),
    make("span", { class: "score" }, make("span", { class: "hidden" }, "score "), short(one.score)),
    make("button", { type: "button", class: "quiet", "aria-label": `Add ${one.title} to the history`, title: "Add to the history", onclick: () => onAdd(one) }, "+"));
}

function listed(answer, before, other, onAdd) {
  const changed = changes(before && ids(before), ids(answer));
  const places = new Map(other ? other.items.map((one) => [one.item, one.rank]) : []);
  const there = (item) => {
    if (!other) return null;
    return places.has(item) ? `${other.system}: place ${places.get(item)}` : "only here";
  };
  const gone = (before?.items ?? []).filter((one) => changed.left.includes(one.item));
  const weights = answer.weights;
  const same = before?.weights && weights && before.weights.names.join() === weights.names.join();
  const about = [answer.fallback ? `${answer.system} answers in the place of ${answer.asked}: ${answer.why}.` : "", answer.note];
  return make("article", { "aria-label": `By ${answer.system}` },
    make("h3", {}, answer.system),
    ...about.filter(Boolean).map((text) => make("p", { class: "note" }, text)),
    make("ol", { class: "ranked" }, ...answer.items.map((one) => row(answer, one, changed.moves.get(one.item), there(one.item), onAdd))),
    gone.length ? make("p", { class: "note" }, `Left the list: ${gone.map((one) => one.title).join("; ")}.`) : "",
    answer.shown.length && !answer.items.some((one) => one.nearest) ? why(answer.asked, answer.shown, null, "Why: what was shown to the model") : "",
    weights ? make("figure", {},
      make("figcaption", {}, captions[weights.of] ?? `What C(u) of this user is made of (${weights.of})`),
      bars(weights.of === "full" ? "Sizes" : "Weights", weights.names, weights.values, same ? before.weights.values : null)) : "");
}

// Show answers beside one another; with those before, what changed, and what was open stays open. What is said of it is returned.
export function show(place, answers, before, onAdd) {
  const same = before && before.length === answers.length && answers.every((one, n) => one.asked === before[n].asked);
  const other = (n) => (answers.length > 1 ? answers[1 - n] : null);
  const open = new Set(same ? [...place.querySelectorAll("details[open]")].map((one) => one.dataset.of) : []);
  place.replaceChildren(...answers.map((one, n) => listed(one, same ? before[n] : null, other(n), onAdd)));
  for (const one of place.querySelectorAll("details")) one.open = open.has(one.dataset.of);
  place.classList.toggle("two", answers.length > 1);
  const shared = answers.length > 1 ? ids(answers[0]).filter((id) => ids(answers[1]).includes(id)).length : 0;
  const overlap = answers.length > 1 ? ` ${shared} items stand in both lists.` : "";
  if (same) return answers.map((one, n) => `${one.system}: ${summary(changes(ids(before[n]), ids(one)))}.`).join(" ") + overlap;
  return `${answers[0].items.length} items by ${answers.map((one) => one.system).join(" and ")}.${overlap}`;
}
