// The page: who asks, what they did, and what is recommended. It asks the service through calls.js.
import { show } from "./answers.js";
import * as calls from "./calls.js";
import { make } from "./elements.js";

const $ = (id) => document.getElementById(id);
const LATEST = 6;
const state = { run: null, user: null, told: [], events: [], answers: null, all: false };

const isTold = () => document.querySelector("input[name=whose]:checked").value === "told";

function trouble(error) {
  $("problem").textContent = error.message;
  $("problem").hidden = false;
  if (error.status === 401) askForKey(error.message);
}

function askForKey() {
  $("key-why").textContent = calls.key.get()
    ? "This service does not know that key. Give another one."
    : "This service asks for a key. It stays in this tab, and is gone when the tab is closed.";
  $("problem").hidden = true;
  $("key").hidden = false;
  $("key-input").focus();
}

// One thing at a time: what is pressed meanwhile waits for nothing and does nothing.
let busy = false;
async function work(what) {
  if (busy) return;
  busy = true;
  $("problem").hidden = true;
  document.body.setAttribute("aria-busy", "true");
  try {
    await what();
  } catch (error) {
    trouble(error);
  } finally {
    busy = false;
    document.body.removeAttribute("aria-busy");
  }
}

// A service that loads its run says so, and is asked again.
async function loaded() {
  for (;;) {
    try {
      return await calls.run();
    } catch (error) {
      if (error.status !== 503) throw error;
      $("about").textContent = "The service is loading its run …";
      await new Promise((done) => setTimeout(done, 1000));
    }
  }
}

async function begin() {
  state.run = await loaded();
  const { recipe, about, systems, best, ratings, users, items, report } = state.run;
  $("key").hidden = true;
  $("forget-key").hidden = !calls.key.get();
  $("about").textContent = `${recipe}${about ? `: ${about}` : ""} · ${users.toLocaleString("en")} users, ${items.toLocaleString("en")} items`;
  document.title = `${recipe} · lifelora`;
  $("report").hidden = !report;
  const options = () => systems.map((one) => make("option", { value: one.name, title: one.reads }, one.name + (one.name === best ? " (best)" : "")));
  $("system-1").replaceChildren(...options());
  $("system-2").replaceChildren(make("option", { value: "" }, "none"), ...options());
  if (best) $("system-1").value = best;
  $("rating-field").hidden = !ratings.length;
  $("rating").replaceChildren(...[...ratings].reverse().map((one) => make("option", { value: one.value }, one.name)));
  await offered();
}

// Users whose ids have what is written; what was written over meanwhile, or chosen from, is not shown any more.
let search = 0;
async function offered() {
  const words = $("user").value.trim();
  const own = ++search;
  const users = await calls.users(words);
  if (own !== search) return;
  const there = users.length === 1 ? "1 user found:" : `${users.length} users found:`;
  const some = users.length < 8 ? there : "The first 8 users; write more of the id to see others:";
  $("users-note").textContent = !words ? "Some users:" : users.length ? some : "No user has this in the id.";
  $("users").replaceChildren(...users.map((user) => make("li", {},
    make("button", { type: "button", class: "chip", onclick: () => work(() => chosen(user)) }, make("span", { class: "hidden" }, "Choose "), user))));
}

function offerNone() {
  clearTimeout(writing);
  search += 1;
  $("users").replaceChildren();
  $("users-note").textContent = "";
}

async function chosen(user) {
  $("user").value = user;
  await asked();
  changeSeen();
}

let writing;
function written() {
  clearTimeout(writing);
  writing = setTimeout(() => offered().catch(trouble), 150);
}

// From a field to the buttons that were found for it and back by arrows; Escape goes back, too.
function arrows(field, list) {
  const to = (event, one) => {
    if (!one) return;
    event.preventDefault();
    one.focus();
  };
  const buttons = () => [...$(list).querySelectorAll("button")];
  $(field).addEventListener("keydown", (event) => event.key === "ArrowDown" && to(event, buttons()[0]));
  $(list).addEventListener("keydown", (event) => {
    const place = buttons().indexOf(document.activeElement);
    if (event.key === "ArrowDown" || event.key === "ArrowRight") to(event, buttons()[place + 1]);
    else if (event.key === "ArrowUp" || event.key === "ArrowLeft") to(event, buttons()[place - 1] ?? $(field));
    else if (event.key === "Escape") to(event, $(field));
  });
}

function when(time) {
  return time === null || time === undefined ? "" : new Date(time * 1000).toISOString().slice(0, 10);
}

function drawEvents() {
  const told = isTold();
  const events = told ? state.told : state.events;
  const latest = [...events].reverse();
  const shown = state.all ? latest : latest.slice(0, LATEST);
  $("past-note").textContent = events.length
    ? `${events.length} event${events.length === 1 ? "" : "s"}, the latest first.`
    : told ? "Nothing yet: find an item above and add it." : state.user === null ? "No user is chosen yet." : "This user has no events.";
  $("events").replaceChildren(...shown.map((one, n) => make("li", { value: events.length - n, class: one.isNew ? "is-new" : null },
    make("span", { class: "what" },
      make("span", { class: "title" }, one.title ?? one.item),
      make("span", { class: "note" }, [one.rating, when(one.time), one.used === false ? `not used: ${one.why}` : ""].filter(Boolean).join(" · "))),
    told ? make("button", {
      type: "button", class: "quiet", "aria-label": `Remove ${one.title} from the history`, title: "Remove", onclick: () => work(() => removed(one)),
    }, "×") : "")));
  $("more").hidden = latest.length <= LATEST;
  $("more").textContent = state.all ? "Show the latest events only" : `Show all ${latest.length} events`;
}

async function recommend({ changed = "" } = {}) {
  const systems = [...new Set([$("system-1").value, $("system-2").value].filter(Boolean))];
  const n = Math.min(50, Math.max(1, Math.round(Number($("count").value)) || 10));
  const history = state.told.map(({ item, value }) => (value === null ? { item } : { item, rating: value }));
  $("news").textContent = changed ? `${changed} Asking again …` : "Asking …";
  try {
    if (!isTold()) state.events = await calls.history(state.user).then((events) => marked(events));
    const ask = (system) => (isTold() ? calls.recommendTold(history, system, n) : calls.recommend(state.user, system, n));
    const answers = await Promise.all(systems.map(ask));
    const news = show($("answers"), answers, changed ? state.answers : null, (one) => work(() => added(one)));
    $("news").textContent = changed ? `${changed} ${news}` : news;
    state.answers = answers;
    if (changed) changeSeen();
  } catch (error) {
    $("news").textContent = "";
    if (!isTold() && error.status === 404) state.user = null; // nobody is chosen, so nothing can be added
    throw error;
  } finally {
    drawEvents();
  }
}

// What was pressed is gone or far away: the change is gone to, and so is who uses the keyboard.
function changeSeen() {
  $("found").replaceChildren();
  $("found-note").textContent = "";
  const top = $("lists").getBoundingClientRect().top;
  $("lists").focus({ preventScroll: true });
  if (top < 0 || top > innerHeight / 2) $("lists").scrollIntoView();
}

// What was not there the last time is marked.
function marked(events) {
  const before = new Set(state.events.map((one) => `${one.item} ${one.time}`));
  return events.map((one) => ({ ...one, isNew: before.size > 0 && !before.has(`${one.item} ${one.time}`) }));
}

function empty() {
  state.answers = null;
  $("answers").replaceChildren(make("p", { class: "note" }, "Choose a user, or add items to a history of your own."));
  $("news").textContent = "";
}

async function asked() {
  if (isTold()) {
    if (!state.told.length) throw new Error("Add an item to the history first: find one by its title.");
  } else {
    const user = $("user").value.trim();
    if (!user) throw new Error("Give a user's id.");
    if (user !== state.user) {
      Object.assign(state, { user, events: [], all: false });
      empty(); // the lists of who was chosen before would add to this one
    }
    offerNone();
  }
  await recommend();
}

async function added(item) {
  const ratings = state.run.ratings;
  const chosen = ratings.length ? ratings.find((one) => String(one.value) === $("rating").value) : null;
  const said = `Added ${item.title}${chosen ? `, ${chosen.name}` : ""}.`;
  if (isTold()) {
    state.told = state.told.map((one) => ({ ...one, isNew: false }));
    state.told.push({ item: item.item, title: item.title, rating: chosen?.name ?? "", value: chosen?.value ?? null, isNew: true });
    await recommend({ changed: said });
    return;
  }
  if (state.user === null) throw new Error("Choose a user first, or take a history of your own.");
  const last = Math.max(0, ...state.events.map((one) => one.time ?? 0));
  const event = { user: state.user, item: item.item, time: Math.max(Math.floor(Date.now() / 1000), last + 1), id: crypto.randomUUID?.() ?? `page-${Date.now()}-${Math.random()}` };
  if (chosen) event.rating = chosen.value;
  const became = await calls.addEvent(event);
  await recommend({ changed: became.used ? said : `${said} The models do not use it: ${became.why}.` });
}

async function removed(event) {
  state.told = state.told.filter((one) => one !== event);
  if (state.told.length) await recommend({ changed: `Removed ${event.title}.` });
  else empty();
  drawEvents();
}

async function found() {
  const words = $("find").value.trim();
  if (!words) throw new Error("Write a part of a title, or an item's id.");
  const items = await calls.items(words);
  $("found-note").textContent = items.length ? `${items.length} item${items.length === 1 ? "" : "s"} found.` : "No item has these words in its title.";
  $("found").replaceChildren(...items.map((one) => make("li", {},
    make("button", { type: "button", class: "item", onclick: () => work(() => added(one)) }, make("span", { class: "hidden" }, "Add "), one.title, make("span", { class: "note" }, one.item)))));
}

function whose() {
  $("user-field").hidden = $("users-field").hidden = isTold();
  Object.assign(state, { all: false });
  empty();
  drawEvents();
}

function on(id, what) {
  $(id).addEventListener("submit", (event) => {
    event.preventDefault();
    work(what);
  });
}

on("who-form", asked);
$("user").addEventListener("input", written);
arrows("user", "users");
arrows("find", "found");
on("find-form", found);
on("key-form", async () => {
  calls.key.set($("key-input").value.trim());
  $("key-input").value = "";
  await begin();
  $("user").focus();
});
$("forget-key").addEventListener("click", () => {
  calls.key.forget();
  location.reload();
});
$("more").addEventListener("click", () => {
  state.all = !state.all;
  drawEvents();
});
for (const one of document.querySelectorAll("input[name=whose]")) one.addEventListener("change", whose);
for (const id of ["system-1", "system-2"]) $(id).addEventListener("change", () => state.answers && work(() => recommend()));
whose();
work(begin);
