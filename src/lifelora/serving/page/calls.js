// What the page asks the service, with the key of this tab. Knows no element of the page.

const KEY = "lifelora-key";

export class Problem extends Error {
  constructor(status, detail, fields = []) {
    const told = fields.map((one) => `${one.field}: ${one.what}`).join("; ");
    super(told ? `${detail} ${told}.` : detail);
    this.status = status;
  }
}

export const key = {
  get: () => sessionStorage.getItem(KEY),
  set: (word) => sessionStorage.setItem(KEY, word),
  forget: () => sessionStorage.removeItem(KEY),
};

async function asked(address, body) {
  const headers = {};
  if (key.get()) headers.Authorization = `Bearer ${key.get()}`;
  if (body) headers["Content-Type"] = "application/json";
  let came;
  try {
    came = await fetch(address, { method: body ? "POST" : "GET", headers, body: body && JSON.stringify(body), cache: "no-store" });
  } catch {
    throw new Problem(0, "The service does not answer. Is it running?");
  }
  if (came.ok) return came;
  const told = await came.json().catch(() => ({}));
  throw new Problem(came.status, told.detail ?? `The service answered ${came.status}.`, told.errors);
}

const values = async (address, body) => (await asked(address, body)).json();
const query = (pairs) => new URLSearchParams(pairs).toString();

// An id's slashes may stand in an address as they are; "." and ".." would be taken out of it.
const inPath = (id) => encodeURIComponent(id);

export const run = () => values("/v1/run");
export const users = async (words) => (await values(`/v1/users?${query({ n: 8, ...(words && { q: words }) })}`)).users;
export const items = async (words) => (await values(`/v1/items?${query({ q: words, n: 8 })}`)).items;
export const history = async (user) => (await values(`/v1/users/${inPath(user)}`)).events;
export const recommend = (user, system, n) => values(`/v1/recommend/${inPath(user)}?${query({ system, n, cold: "refuse" })}`);
export const recommendTold = (history, system, n) => values("/v1/recommend", { history, system, n });
export const addEvent = async (event) => (await values("/v1/events", { events: [event] })).events[0];
export const report = async () => (await asked("/v1/report")).text();
