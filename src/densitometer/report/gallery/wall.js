// The wall of cells, families by targets. A cell that is chosen is an event `chosen` of the wall.

import { cellOf, data, headlines, spoken } from "./cells.js";
import { ownColour } from "./colours.js";
import { drawDensity, drawSamples, shape } from "./drawing.js";
import { $, breakable, make } from "./elements.js";

export const shown = { seed: data.seeds[0], view: "samples" };
let focus = [0, 0];
const wallCells = []; // [row][column] -> button
const near = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    target.near = isIntersecting;
    if (isIntersecting) target.draw();
    else target.width = target.height = 0; // a wall of a thousand canvases would not fit into memory
  }
}, { rootMargin: "400px" });

export function buildWall() {
  near.disconnect();
  wallCells.length = 0;
  const head = make("tr", {}, make("th", { className: "corner", scope: "col", textContent: "family" }), ...data.targets.map((t) => make("th", { scope: "col" }, ...breakable(t.label), make("small", { textContent: t.note ?? "" }))));
  const body = make("tbody");
  data.rows.forEach((row, index) => {
    if (row.reference && !data.rows[index - 1]?.reference) {
      body.append(make("tr", { className: "between", role: "row" }, make("th", { colSpan: data.targets.length + 1, scope: "rowgroup", textContent: "For comparison" })));
    }
    const name = make("th", { scope: "row" }, ...breakable(row.label), make("small", { textContent: row.summary }));
    name.dataset.row = row.name;
    name.style.setProperty("--own", ownColour(row.name));
    const line = data.targets.map((target, column) => {
      const button = wallButton({ target: target.name, row: row.name, seed: shown.seed }, [index, column]);
      (wallCells[index] ??= [])[column] = button;
      return make("td", { role: "gridcell" }, button);
    });
    body.append(make("tr", { role: "row" }, name, ...line));
  });
  $("wall").replaceChildren(make("thead", {}, head), body);
  wallCells[focus[0]][focus[1]].tabIndex = 0;
}

function wallButton(place, at) {
  const cell = cellOf(place), button = make("button", { type: "button", className: "cell", tabIndex: -1, "aria-label": spoken(place) });
  const missing = !cell.done ? cell.state : shown.view === "density" && !cell.density ? "no density" : shown.view === "samples" && !cell.samples ? "no samples" : "";
  if (missing) {
    const said = make("span", { className: "absent", textContent: missing });
    said.style.aspectRatio = shape(place);
    button.append(said);
  } else {
    const canvas = make("canvas");
    canvas.style.aspectRatio = shape(place);
    canvas.draw = () => (shown.view === "samples" ? drawSamples(canvas, place) : drawDensity(canvas, place));
    near.observe(canvas);
    button.append(canvas);
  }
  if (cell.done) {
    const lines = headlines(cell).map((h, i) => {
      const mark = `${h.alarm ? " !" : ""}${h.within ? " ✓" : ""}`;
      const said = h.text ? [make("span", { className: "label", textContent: h.label }), ` ${h.text}${mark}`] : [h.absence];
      return make("span", { className: `${h.alarm ? "alarm" : ""} ${i ? "second" : ""}` }, ...said);
    });
    if (cell.diverged) lines.push(make("span", { className: "alarm", textContent: cell.state }));
    button.append(make("span", { className: "numbers" }, ...lines));
  }
  button.addEventListener("click", () => $("wall").dispatchEvent(new CustomEvent("chosen", { detail: place })));
  button.addEventListener("focus", () => focusOn(at));
  return button;
}

function focusOn(at) {
  // Tab reaches one cell of the wall: the last that had the focus.
  wallCells[focus[0]][focus[1]].tabIndex = -1;
  focus = at;
  wallCells[at[0]][at[1]].tabIndex = 0;
}

$("wall").addEventListener("keydown", (event) => {
  const [row, column] = focus, lastRow = wallCells.length - 1, lastColumn = wallCells[0].length - 1;
  const to = {
    ArrowUp: [row - 1, column], ArrowDown: [row + 1, column], ArrowLeft: [row, column - 1], ArrowRight: [row, column + 1],
    Home: [event.ctrlKey ? 0 : row, 0], End: [event.ctrlKey ? lastRow : row, lastColumn],
  }[event.key];
  if (!to) return;
  event.preventDefault();
  wallCells[Math.max(0, Math.min(lastRow, to[0]))][Math.max(0, Math.min(lastColumn, to[1]))].focus();
});

export const rememberCell = ({ row, target }) => focusOn([data.rows.findIndex((r) => r.name === row), data.targets.findIndex((t) => t.name === target)]);

export const returnToWall = () => wallCells[focus[0]][focus[1]].focus();
