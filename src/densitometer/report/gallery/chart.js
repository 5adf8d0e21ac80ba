// Curves of training, as SVG.

import { data, key } from "./cells.js";
import { colour, ownColour } from "./colours.js";
import { make, svg } from "./elements.js";

function ticks(low, high, about) {
  const rough = (high - low) / about, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough), found = [];
  for (let v = Math.ceil(low / step) * step; v <= high + 1e-9 * step; v += step) found.push(v);
  const places = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const digits = { minimumFractionDigits: places, maximumFractionDigits: places };
  return found.map((v) => [v, (Math.abs(v) < step / 2 ? 0 : v).toLocaleString("en", digits).replace("-", "−")]);
}

export function chart(place, curves, width, title) {
  // Limits show the end of training: the first twentieth may leave through the top.
  const height = 190, left = 52, right = width - 10, top = 8, bottom = height - 34;
  const { step, selected } = data.cells[key(place)].curves, end = step[step.length - 1];
  const late = curves.flatMap(([name]) => data.cells[key(place)].curves[name].filter((v, i) => v !== null && step[i] > end / 20)).sort((a, b) => a - b);
  if (!late.length) return make("p", { className: "faint", textContent: "No finite value was recorded." });
  const at = (q) => late[Math.round(q * (late.length - 1))], reach = 8 * (at(0.75) - at(0.25));
  let low = Math.max(late[0], at(0.5) - reach), high = Math.min(at(1), at(0.5) + reach);
  const margin = 0.07 * (high - low) || 0.05 * Math.abs(high) || 1;
  [low, high] = [low - margin, high + margin];
  const x = (v) => left + (v / end) * (right - left), y = (v) => bottom - ((v - low) / (high - low)) * (bottom - top);
  const clip = `clip-${Math.random().toString(36).slice(2)}`;
  const graph = svg("svg", { class: "chart", viewBox: `0 0 ${width} ${height}`, height, role: "img", "aria-label": title });
  graph.append(svg("clipPath", { id: clip }, svg("rect", { x: left, y: top, width: right - left, height: bottom - top })));
  for (const [v, label] of ticks(low, high, 4)) {
    graph.append(svg("line", { x1: left, x2: right, y1: y(v), y2: y(v), stroke: colour("rule"), "stroke-width": 0.6 }));
    graph.append(svg("text", { x: left - 6, y: y(v) + 4, "text-anchor": "end" }, label));
  }
  for (const [v, label] of ticks(0, end, width > 420 ? 6 : 4)) graph.append(svg("text", { x: x(v), y: bottom + 15, "text-anchor": "middle" }, label));
  graph.append(svg("text", { x: (left + right) / 2, y: height - 4, "text-anchor": "middle" }, "gradient steps"));
  const own = ownColour(place.row);
  for (const [name, broad] of curves) {
    const values = data.cells[key(place)].curves[name];
    let line = "", joined = false;
    values.forEach((v, i) => {
      if (v !== null) line += `${joined ? "L" : "M"}${x(step[i]).toFixed(1)} ${Math.max(-1e4, Math.min(1e4, y(v))).toFixed(1)}`;
      joined = v !== null;
    });
    graph.append(svg("path", { d: line, fill: "none", stroke: own, "stroke-width": broad ? 3 : 1.4, "stroke-opacity": broad ? 0.4 : 1, "stroke-linejoin": "round", "clip-path": `url(#${clip})` }));
  }
  const dot = step.indexOf(selected), value = data.cells[key(place)].curves[curves[curves.length - 1][0]][dot];
  if (dot >= 0 && value !== null) {
    graph.append(svg("line", { x1: x(selected), x2: x(selected), y1: top, y2: bottom, stroke: colour("faint"), "stroke-dasharray": "3 3" }));
    graph.append(svg("circle", { cx: x(selected), cy: Math.max(top, Math.min(bottom, y(value))), r: 4, fill: own, stroke: colour("paper"), "stroke-width": 1.2 }));
  }
  return graph;
}
