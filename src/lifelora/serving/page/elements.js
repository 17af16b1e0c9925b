// Elements made of numbers and texts; every text goes in as text. Knows nothing of what it shows.

export function make(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) made.addEventListener(key.slice(2), value);
    else if (value === true) made.setAttribute(key, "");
    else if (value !== false && value !== null && value !== undefined) made.setAttribute(key, value);
  }
  made.append(...children.filter((one) => one !== null && one !== undefined && one !== ""));
  return made;
}

const SVG = "http://www.w3.org/2000/svg";
const WIDTH = 320;
const NAME = 112;
const NUMBER = 52;
const ROW = 24;
const MANY = 12;

function drawn(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
  if (text !== undefined) made.textContent = text;
  return made;
}

export const short = (number) => {
  if (number === null) return "–";
  return number !== 0 && (Math.abs(number) < 0.001 || Math.abs(number) >= 10000) ? number.toExponential(2) : number.toPrecision(3);
};

// Bars of some numbers, those before as outlines; the same in words for who does not see it.
export function bars(label, names, values, before) {
  const all = [...values, ...(before ?? [])];
  const low = Math.min(0, ...all);
  const reach = Math.max(0, ...all) - low || 1;
  const at = (value) => NAME + ((value - low) / reach) * (WIDTH - NAME - NUMBER);
  const row = names.length > MANY ? 16 : ROW;
  const words = names.map((name, n) => `${name}: ${short(values[n])}${before ? `, before ${short(before[n])}` : ""}`).join("; ");
  const picture = drawn("svg", {
    viewBox: `0 0 ${WIDTH} ${row * names.length}`, class: "bars", role: "img", "aria-label": `${label}. ${words}.`,
  });
  names.forEach((name, n) => {
    const y = n * row;
    const base = y + row / 2 + 4;
    const box = (value) => ({ x: Math.min(at(0), at(value)), width: Math.max(1, Math.abs(at(value) - at(0))) });
    picture.append(drawn("text", { x: 0, y: base }, name));
    picture.append(drawn("rect", { ...box(values[n]), y: y + 4, height: row - 8, rx: 2, class: "now" }));
    if (before) picture.append(drawn("rect", { ...box(before[n]), y: y + 2, height: row - 4, rx: 2, class: "before" }));
    picture.append(drawn("text", { x: WIDTH, y: base, class: "number" }, short(values[n])));
  });
  return picture;
}
