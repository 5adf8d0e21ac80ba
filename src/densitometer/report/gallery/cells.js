// What the cells of the study hold, by `content` of page.py.

import { $ } from "./elements.js";

export const data = JSON.parse($("data").textContent);
const byName = (list) => Object.fromEntries(list.map((item) => [item.name, item]));
export const rows = byName(data.rows), targets = byName(data.targets);

export const key = ({ target, row, seed }) => `${target}/${row}/${seed}`;
export const cellOf = (place) => data.cells[key(place)] ?? { state: "not run", done: false };
export const truthOf = (place) => cellOf({ ...place, row: "truth" });

const decoded = new Map();
export function numbers(text, Kind) {
  if (!decoded.has(text)) decoded.set(text, new Kind(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer));
  return decoded.get(text);
}

export const titleOf = ({ row, target }) => `${rows[row].label} on ${targets[target].prose}`;

export function spoken(place) {
  const cell = cellOf(place), name = titleOf(place);
  if (!cell.done) return `${name}: ${cell.state}`;
  const said = headlines(cell).map((h) => `${h.label} ${h.text ?? h.absence}${h.within ? ", within its floor" : ""}${h.alarm ? ", an impossible value" : ""}`);
  return [name, ...(cell.diverged ? [cell.state] : []), ...said].join("; ");
}

export function headlines(cell) {
  return data.headlines.map(([metric, label]) => {
    const [, text, , , within, alarm] = cell.card.find((line) => line[0] === metric) ?? [];
    return { label, text, within, alarm, absence: data.metrics[metric].name === "kl" ? "no density" : "not measured" };
  });
}
