// What moved in a list, in signs and in words. Knows lists of ids, and nothing of the page.

export function changes(before, after) {
  const place = new Map((before ?? []).map((id, index) => [id, index + 1]));
  const moves = new Map();
  after.forEach((id, index) => {
    if (!before) return;
    const old = place.get(id);
    const by = old === undefined ? 0 : old - (index + 1);
    if (old === undefined) moves.set(id, { kind: "new", sign: "✦", words: "new here" });
    else if (by > 0) moves.set(id, { kind: "up", sign: "▲", words: `up ${by}, from ${old}` });
    else if (by < 0) moves.set(id, { kind: "down", sign: "▼", words: `down ${-by}, from ${old}` });
    else moves.set(id, { kind: "same", sign: "=", words: "same place" });
  });
  const left = (before ?? []).filter((id) => !after.includes(id));
  return { moves, left };
}

export function summary({ moves, left }) {
  const count = (kind) => [...moves.values()].filter((one) => one.kind === kind).length;
  if (!count("up") && !count("down") && !count("new")) return "the list is the same";
  return [
    [count("up"), "went up"],
    [count("down"), "went down"],
    [count("new"), "came in"],
    [left.length, "left the list"],
    [count("same"), "stayed"],
  ].filter(([number]) => number).map(([number, words]) => `${number} ${words}`).join(", ");
}
