// The page of the gallery: its theme, its choices, and what it opens with.

import { data, key } from "./cells.js";
import { colour, darkness, isDark, ownColour } from "./colours.js";
import { $, make, say } from "./elements.js";
import { drawOpened, fillOpened, open } from "./opened.js";
import { opened } from "./panes.js";
import { buildWall, shown } from "./wall.js";

function recolour() {
  $("theme").textContent = isDark() ? "Light" : "Dark";
  $("theme").setAttribute("aria-label", `Switch to the ${isDark() ? "light" : "dark"} theme`);
  legend();
  document.querySelectorAll("#wall tbody tr").forEach((line) => {
    const name = line.firstChild.dataset.row;
    if (name) line.firstChild.style.setProperty("--own", ownColour(name));
  });
  document.querySelectorAll("#wall canvas").forEach((canvas) => canvas.near && canvas.draw());
  if (opened.places.length) fillOpened();
}

function legend() {
  const swatch = make("span", { className: "swatch" });
  swatch.style.background = colour("under");
  const words = shown.view === "samples" ? [swatch, " truth; in colour the model’s samples. "] : [`Log-densities, a colour scale a target; what is more than ${data.range} nats below its top has the colour of the paper. `];
  $("legend").replaceChildren(...words, "✓: no further from the truth than true samples are.");
}

$("tools").addEventListener("change", (event) => {
  if (event.target.name === "view") shown.view = event.target.value;
  if (event.target.id === "seed") {
    shown.seed = Number(event.target.value);
    say(`Seed ${shown.seed}.`);
  }
  buildWall();
  legend();
});
$("tools").addEventListener("submit", (event) => event.preventDefault());
$("theme").addEventListener("click", () => {
  document.documentElement.dataset.theme = isDark() ? "light" : "dark";
  try { localStorage.setItem("densitometer-theme", document.documentElement.dataset.theme); } catch { /* not where storage is shut */ }
  recolour();
});
addEventListener("beforeprint", () => document.querySelectorAll("#wall canvas").forEach((canvas) => canvas.draw()));
darkness.addEventListener("change", recolour);
let resized;
addEventListener("resize", () => {
  cancelAnimationFrame(resized);
  resized = requestAnimationFrame(() => {
    document.querySelectorAll("#wall canvas").forEach((canvas) => canvas.near && canvas.draw());
    drawOpened();
  });
});

try {
  const stored = localStorage.getItem("densitometer-theme");
  if (stored === "light" || stored === "dark") document.documentElement.dataset.theme = stored;
} catch { /* not where storage is shut */ }
$("facts").textContent = data.facts;
$("caveats").append(...data.caveats.map(({ text, kind }) => make("li", { className: kind, textContent: text })));
if (data.omitted) $("caveats").append(make("li", { textContent: data.omitted }));
$("seed-label").hidden = data.seeds.length < 2;
$("seed").append(...data.seeds.map((s) => make("option", { value: s, textContent: s })));
buildWall();
recolour();
const asked = location.hash.slice(1).split("|").map((text) => {
  try {
    const [target, row, number] = text.split("/").map(decodeURIComponent);
    return { target, row, seed: Number(number) };
  } catch {
    return {};
  }
});
if (asked.length < 3 && asked.every((p) => key(p) in data.cells)) open(asked);
