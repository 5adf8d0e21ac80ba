// The gallery's page: draws what `gallery.content` says. Every text reaches the page as text.
"use strict";
(() => {
const data = JSON.parse(document.getElementById("data").textContent);
const $ = (id) => document.getElementById(id);
const byName = (list) => Object.fromEntries(list.map((item) => [item.name, item]));
const rows = byName(data.rows), targets = byName(data.targets);
const PLAY_SECONDS = 6, JUMPS = 8, JUMP_SECONDS = 0.5;
const still = matchMedia("(prefers-reduced-motion: reduce)");
const darkness = matchMedia("(prefers-color-scheme: dark)");

function make(tag, properties = {}, ...children) {
  const element = document.createElement(tag);
  for (const [name, value] of Object.entries(properties)) {
    if (name.includes("-") || name === "role" || name === "scope") element.setAttribute(name, value);
    else element[name] = value;
  }
  element.append(...children);
  return element;
}

// ---- What a cell holds --------------------------------------------------------------------

const key = ({ target, row, seed }) => `${target}/${row}/${seed}`;
const cellOf = (place) => data.cells[key(place)] ?? { state: "not run", done: false };
const truthOf = (place) => cellOf({ ...place, row: "truth" });

const decoded = new Map();
function numbers(text, Kind) {
  if (!decoded.has(text)) decoded.set(text, new Kind(Uint8Array.from(atob(text), (c) => c.charCodeAt(0)).buffer));
  return decoded.get(text);
}

function breakable(name) {
  // A long name may be broken after an underscore.
  return name.split("_").flatMap((part, i, all) => (i < all.length - 1 ? [`${part}_`, make("wbr")] : [part]));
}

function spoken(place) {
  const cell = cellOf(place), name = `${place.row} on ${place.target}`;
  if (!cell.done) return `${name}: ${cell.state}`;
  const said = headlines(cell).map((h) => `${h.label} ${h.text ?? h.absence}${h.within ? ", within its floor" : ""}${h.alarm ? ", an impossible number" : ""}`);
  return [name, ...(cell.diverged ? [cell.state] : []), ...said].join("; ");
}

function headlines(cell) {
  return data.headlines.map(([metric, label]) => {
    const [, text, , , within, alarm] = cell.card.find((line) => line[0] === metric) ?? [];
    return { label, text, within, alarm, absence: data.metrics[metric].name === "kl" ? "no density" : "not measured" };
  });
}

// ---- Colours ------------------------------------------------------------------------------

function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : darkness.matches;
}
const colour = (name) => data.colours[name][isDark() ? 1 : 0];
const ownColour = (row) => (isDark() ? rows[row].dark : rows[row].colour);

const ramps = {};
function ramp() {
  // 256 colours between those of the ramp; on a dark page the other way round, nothing being dark.
  const dark = isDark();
  if (!ramps[dark]) {
    const stops = data.ramp.map((hex) => [1, 3, 5].map((i) => parseInt(hex.slice(i, i + 2), 16)));
    if (dark) stops.reverse();
    ramps[dark] = Array.from({ length: 256 }, (_, level) => {
      const place = (level / 255) * (stops.length - 1), low = Math.min(Math.floor(place), stops.length - 2);
      return stops[low].map((c, i) => c + (place - low) * (stops[low + 1][i] - c));
    });
  }
  return ramps[dark];
}

// ---- Drawing ------------------------------------------------------------------------------

function sheet(canvas, place) {
  // A clean canvas in device pixels, and its size; 0 while it is not laid out.
  canvas.style.aspectRatio = shape(place);
  const box = canvas.getBoundingClientRect(), scale = devicePixelRatio || 1;
  canvas.width = Math.round(box.width * scale);
  canvas.height = Math.round(box.height * scale);
  const pen = canvas.getContext("2d");
  return { pen, width: canvas.width, height: canvas.height, scale };
}

function shape({ target }) {
  const { lower, upper, dim } = targets[target];
  return dim === 1 ? "3" : String((upper[0] - lower[0]) / (upper[1] - lower[1]));
}

function viewOf(place, zoom = 1) {
  const { lower, upper } = targets[place.target];
  const middle = [0, 1].map((i) => (lower[i] + upper[i]) / 2);
  const half = [0, 1].map((i) => ((upper[i] - lower[i]) / 2) * zoom);
  return { lower: middle.map((m, i) => m - half[i]), upper: middle.map((m, i) => m + half[i]) };
}

function dots(paper, view, points, from, fill, size) {
  const { pen, width, height, scale } = paper, side = size * scale;
  const [lx, ly] = view.lower, sx = width / (view.upper[0] - lx), sy = height / (view.upper[1] - ly);
  const [ax, ay] = from.lower, bx = (from.upper[0] - ax) / 65534, by = (from.upper[1] - ay) / 65534;
  pen.fillStyle = fill;
  for (let i = 0; i < points.length; i += 2) {
    if (points[i] > 65534) continue;
    const x = (ax + points[i] * bx - lx) * sx, y = height - (ay + points[i + 1] * by - ly) * sy;
    pen.fillRect(x - side / 2, y - side / 2, side, side);
  }
}

const under = (paper, place, view, size) => {
  const truth = truthOf(place).samples;
  if (truth) dots(paper, view, numbers(truth.points, Uint16Array), viewOf(place), colour("under"), size);
};

function drawSamples(canvas, place) {
  const paper = sheet(canvas, place), view = viewOf(place), { samples } = cellOf(place);
  const size = (Math.min(2.4, 70 / Math.sqrt(samples.shown)) * (0.6 + paper.width / paper.scale / 400)) / 1.1;
  if (place.row !== "truth") under(paper, place, view, size);
  dots(paper, view, numbers(samples.points, Uint16Array), view, ownColour(place.row), size * 0.8);
}

function drawDensity(canvas, place, alpha = 1) {
  const paper = sheet(canvas, place), { density } = cellOf(place);
  if (!density || !paper.width) return paper;
  const levels = numbers(density.levels, Uint8Array), colours = ramp();
  const small = make("canvas", { width: density.columns, height: density.rows });
  const pen = small.getContext("2d"), image = pen.createImageData(density.columns, density.rows);
  for (let row = 0; row < density.rows; row++) {
    for (let column = 0; column < density.columns; column++) {
      const to = 4 * ((density.rows - 1 - row) * density.columns + column);
      image.data.set(colours[levels[row * density.columns + column]], to);
      image.data[to + 3] = 255;
    }
  }
  pen.putImageData(image, 0, 0);
  paper.pen.globalAlpha = alpha;
  paper.pen.imageSmoothingEnabled = false;
  paper.pen.drawImage(small, 0, 0, paper.width, paper.height);
  paper.pen.globalAlpha = 1;
  return paper;
}

function drawScore(canvas, place) {
  const { score } = cellOf(place);
  const { pen, width, height, scale } = drawDensity(canvas, place, 0.3);
  if (!score || !width) return;
  const arrows = numbers(score.arrows, Int8Array), side = score.side;
  const every = width / scale / side < 7 ? 2 : 1, length = (0.92 * every * width) / side;
  pen.strokeStyle = ownColour(place.row);
  pen.lineWidth = 1.25 * scale;
  pen.beginPath();
  for (let row = every >> 1; row < side; row += every) {
    for (let column = every >> 1; column < side; column += every) {
      const at = 2 * (row * side + column), dx = (arrows[at] / 127) * length, dy = (-arrows[at + 1] / 127) * length;
      const size = Math.hypot(dx, dy);
      if (size < 0.06 * length) continue;
      const x = ((column + 0.5) / side) * width + dx / 2, y = height - ((row + 0.5) / side) * height + dy / 2;
      const barb = Math.min(0.35 * size, 4 * scale), ux = dx / size, uy = dy / size;
      pen.moveTo(x - dx, y - dy);
      pen.lineTo(x, y);
      pen.moveTo(x - barb * (ux - 0.5 * uy), y - barb * (uy + 0.5 * ux));
      pen.lineTo(x, y);
      pen.lineTo(x - barb * (ux + 0.5 * uy), y - barb * (uy - 0.5 * ux));
    }
  }
  pen.stroke();
}

function frameZooms(place) {
  // For every moment, how much wider than the target's window the view is that holds the points.
  const { path } = cellOf(place), points = numbers(path.points, Uint16Array), whole = viewOf(place);
  if (path.zooms) return path.zooms;
  const half = [0, 1].map((i) => (whole.upper[i] - whole.lower[i]) / 2), middle = [0, 1].map((i) => whole.lower[i] + half[i]);
  path.zooms = Array.from({ length: path.frames }, (_, frame) => {
    const away = [];
    for (let i = 2 * frame * path.n; i < 2 * (frame + 1) * path.n; i += 2) {
      if (points[i] > 65534) continue;
      away.push(Math.max(...[0, 1].map((a) => Math.abs(path.lower[a] + (points[i + a] / 65534) * (path.upper[a] - path.lower[a]) - middle[a]) / half[a])));
    }
    away.sort((a, b) => a - b);
    return Math.max(1, 1.05 * (away[Math.floor(0.97 * away.length)] ?? 1));
  });
  return path.zooms;
}

// Whether a view is so wide that the target's own window is drawn in it.
const framed = (zoom) => zoom > 1.02;

function drawPath(canvas, place, time) {
  // The points at a moment, in between moments on the straight line from one to the next.
  const { path } = cellOf(place), paper = sheet(canvas, place);
  if (!paper.width) return;
  const points = numbers(path.points, Uint16Array), zooms = frameZooms(place);
  const last = path.frames - 1, frame = Math.min(Math.floor(time), last), next = Math.min(frame + 1, last), part = time - frame;
  const zoom = zooms[frame] ** (1 - part) * zooms[next] ** part, view = viewOf(place, zoom);
  under(paper, place, view, Math.max(1, 2 / Math.sqrt(zoom)));
  const now = new Float64Array(2 * path.n);
  for (let i = 0; i < now.length; i++) {
    const a = points[2 * frame * path.n + i], b = points[2 * next * path.n + i];
    now[i] = a > 65534 || b > 65534 ? 65535 : a + part * (b - a);
  }
  dots(paper, view, now, path, ownColour(place.row), 3);
  const { samples } = cellOf(place);
  if (time === last && samples) dots(paper, view, numbers(samples.points, Uint16Array), viewOf(place), ownColour(place.row), 2);
  if (framed(zoom)) {
    const { pen, width, height, scale } = paper;
    pen.strokeStyle = colour("faint");
    pen.lineWidth = scale;
    pen.setLineDash([4 * scale, 3 * scale]);
    pen.strokeRect((width - width / zoom) / 2, (height - height / zoom) / 2, width / zoom, height / zoom);
  }
}

// ---- Curves, as SVG -----------------------------------------------------------------------

function svg(tag, attributes, ...children) {
  const element = document.createElementNS("http://www.w3.org/2000/svg", tag);
  for (const [name, value] of Object.entries(attributes)) element.setAttribute(name, value);
  element.append(...children);
  return element;
}

function ticks(low, high, about) {
  const rough = (high - low) / about, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 5, 10].map((m) => m * power).find((s) => s >= rough), found = [];
  for (let v = Math.ceil(low / step) * step; v <= high + 1e-9 * step; v += step) found.push(v);
  const places = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  const digits = { minimumFractionDigits: places, maximumFractionDigits: places };
  return found.map((v) => [v, (Math.abs(v) < step / 2 ? 0 : v).toLocaleString("en", digits).replace("-", "−")]);
}

function chart(place, curves, width, title) {
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
  const kept = step.indexOf(selected), value = data.cells[key(place)].curves[curves[curves.length - 1][0]][kept];
  if (kept >= 0 && value !== null) {
    graph.append(svg("line", { x1: x(selected), x2: x(selected), y1: top, y2: bottom, stroke: colour("faint"), "stroke-dasharray": "3 3" }));
    graph.append(svg("circle", { cx: x(selected), cy: Math.max(top, Math.min(bottom, y(value))), r: 4, fill: own, stroke: colour("paper"), "stroke-width": 1.2 }));
  }
  return graph;
}

// ---- The wall -----------------------------------------------------------------------------

let seed = data.seeds[0], view = "samples", focus = [0, 0];
const wallCells = []; // [row][column] -> button
const near = new IntersectionObserver((entries) => {
  for (const { target, isIntersecting } of entries) {
    target.near = isIntersecting;
    if (isIntersecting) target.draw();
    else target.width = target.height = 0; // a wall of a thousand canvases would not fit into memory
  }
}, { rootMargin: "400px" });

function buildWall() {
  near.disconnect();
  wallCells.length = 0;
  const head = make("tr", {}, make("th", { className: "corner", scope: "col", textContent: "family" }), ...data.targets.map((t) => make("th", { scope: "col" }, ...breakable(t.name), make("small", { textContent: t.note ?? "" }))));
  const body = make("tbody");
  data.rows.forEach((row, index) => {
    if (row.reference && !data.rows[index - 1]?.reference) {
      body.append(make("tr", { className: "between", role: "row" }, make("th", { colSpan: data.targets.length + 1, scope: "rowgroup", textContent: "For comparison" })));
    }
    const name = make("th", { scope: "row" }, row.name, make("small", { textContent: row.summary }));
    name.style.setProperty("--own", ownColour(row.name));
    const line = data.targets.map((target, column) => {
      const button = wallButton({ target: target.name, row: row.name, seed }, [index, column]);
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
  const missing = !cell.done ? cell.state : view === "density" && !cell.density ? "no density" : view === "samples" && !cell.samples ? "no samples" : "";
  if (missing) {
    const said = make("span", { className: "absent", textContent: missing });
    said.style.aspectRatio = shape(place);
    button.append(said);
  } else {
    const canvas = make("canvas");
    canvas.style.aspectRatio = shape(place);
    canvas.draw = () => (view === "samples" ? drawSamples(canvas, place) : drawDensity(canvas, place));
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
  button.addEventListener("click", () => open([place]));
  button.addEventListener("focus", () => stand(at));
  return button;
}

function stand(at) {
  // One cell of the wall is reached by Tab: the one where one was last.
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

// ---- The opened cell, or two --------------------------------------------------------------

let places = [], time = 0, playing = 0, moved = [];

function open(which) {
  places = which;
  stand([data.rows.findIndex((r) => r.name === which[0].row), data.targets.findIndex((t) => t.name === which[0].target)]);
  if (!$("opened").open) $("opened").showModal();
  fillOpened();
  const moments = last();
  time = still.matches ? moments : 0;
  tell();
  $("opened").scrollTop = 0;
  (moments ? $("play") : $("close")).focus();
  if (moments && !still.matches) play();
}

const last = () => Math.max(0, ...places.map((p) => (cellOf(p).path ? cellOf(p).path.frames - 1 : 0)));

function fillOpened() {
  // Builds the panes anew; time stands where it was.
  const names = places.map((p) => `${p.row} on ${p.target}`);
  $("opened-title").replaceChildren(...breakable(names.join(" beside ")));
  $("compare").setAttribute("aria-pressed", String(places.length > 1));
  $("panes").className = places.length > 1 ? "double" : "single";
  moved = [];
  $("panes").replaceChildren(...places.map(pane));
  $("transport").hidden = !last();
  $("time").max = last();
  time = Math.min(time, last());
  drawOpened();
  const where = places.map((p) => key(p).split("/").map(encodeURIComponent).join("/")).join("|");
  history.replaceState(null, "", `#${where}`);
}

let redraws = [];
const drawOpened = () => {
  for (const draw of redraws) draw();
  tick();
};

function tick() {
  for (const draw of moved) draw();
  const moments = last(), nearest = Math.round(time);
  $("time").value = nearest;
  const words = nearest === 0 ? "noise" : nearest === moments ? "samples" : "";
  $("moment").textContent = `${nearest} of ${moments}${words && ` · ${words}`}`;
  $("time").setAttribute("aria-valuetext", `moment ${nearest} of ${moments}${words && `, ${words}`}`);
}

function section(name, title, ...children) {
  return make("section", { className: name }, make("h3", { textContent: title }), ...children);
}

function picture(place, label, draw, caption, when = redraws) {
  const canvas = make("canvas", { role: "img", "aria-label": label });
  when.push(() => draw(canvas));
  return make("figure", {}, canvas, make("figcaption", {}, ...caption));
}

function choose(label, options, chosen, change) {
  const select = make("select", {}, ...options.map((o) => make("option", { value: o, textContent: o, selected: String(o) === String(chosen) })));
  select.addEventListener("change", () => change(select.value));
  return make("label", {}, label, select);
}

function pane(place, index) {
  if (index === 0) redraws = [];
  const cell = cellOf(place), row = rows[place.row], target = targets[place.target], truth = truthOf(place);
  const change = (changed) => {
    places[index] = { ...place, ...changed };
    const which = Object.keys(changed)[0];
    fillOpened();
    $("panes").children[index].querySelector(`[data-chooses="${which}"]`).focus();
    say(`${spoken(places[index])}.`);
  };
  const choice = make("div", { className: "choice" });
  const choices = [["row", "Family", Object.keys(rows)], ["target", "Target", Object.keys(targets)], ["seed", "Seed", data.seeds]];
  for (const [which, label, options] of choices) {
    if (options.length < 2) continue;
    const labelled = choose(label, options, place[which], (value) => change({ [which]: which === "seed" ? Number(value) : value }));
    labelled.lastChild.dataset.chooses = which;
    choice.append(labelled);
  }
  const about = [row.summary, target.note ?? ""].filter(Boolean).map((text) => make("p", { textContent: text }));
  const facts = [cell.parameters && `${cell.parameters} parameters`, cell.seconds && `fitted in ${cell.seconds} s`, cell.sampler && `sampler “${cell.sampler}”`].filter(Boolean);
  const head = make("section", { className: "head" }, choice, make("div", { className: "name" }, make("h3", { textContent: `${place.row} on ${place.target}${data.seeds.length > 1 ? `, seed ${place.seed}` : ""}` }), ...about));
  head.lastChild.style.setProperty("--own", ownColour(place.row));
  if (facts.length) head.lastChild.append(make("p", { className: "faint", textContent: facts.join(" · ") }));
  if (cell.diverged || !cell.done) head.lastChild.append(make("p", { className: "alarm", textContent: cell.done ? `${cell.state}; what is shown is the best state before that` : cell.state }));
  const article = make("article", { className: "pane", "aria-label": `${place.row} on ${place.target}` }, head);
  if (!cell.done) {
    article.append(...["sampling", "fields", "curves", "card-of"].map((name) => make("section", { className: name })));
    return article;
  }
  article.append(sampling(place), fields(place, truth), curvesOf(place), card(place));
  return article;
}

function sampling(place) {
  const cell = cellOf(place), row = rows[place.row];
  if (!cell.samples) return section("sampling", "Samples", make("p", { textContent: "This cell has no samples." }));
  const { n, shown, outside } = cell.samples;
  const count = (number) => number.toLocaleString("en");
  const amount = shown < n ? `${count(shown)} of ${count(n)} samples` : `${count(n)} samples`;
  const astray = outside ? `; ${count(outside)} of ${count(n)} lie outside the window` : "";
  if (!cell.path) {
    const why = row.reference ? "" : data.seeds[0] !== place.seed ? " The way from noise to samples is shown for the first seed." : " This cell has recorded no way from noise to samples.";
    return section("sampling", "Samples", picture(place, `Samples of ${place.row} over the truth; ${spoken(place)}`, (c) => drawSamples(c, place), [`${amount}${place.row === "truth" ? "" : " over the truth in grey"}${astray}.${why}`]));
  }
  const label = `${count(cell.path.n)} draws of ${place.row} on their way from noise to samples over the truth; ${spoken(place)}`;
  const caption = `${row.time} ${count(cell.path.n)} draws over the truth in grey; at the end all that was judged, ${amount}${astray}.${frameZooms(place).some(framed) ? " The dashed frame is the window that is left then." : ""}`;
  return section("sampling", "Sampling", picture(place, label, (c) => drawPath(c, place, time), [make("b", { textContent: "Time: " }), caption], moved));
}

function fields(place, truth) {
  const cell = cellOf(place), truthPlace = { ...place, row: "truth" }, isTruth = place.row === "truth", found = [];
  const title = (who) => [make("b", { textContent: who })];
  if (cell.density) {
    const pair = [picture(place, `log-density; ${spoken(place)}`, (c) => drawDensity(c, place), title(isTruth ? "true log-density" : "learnt log-density"))];
    if (truth.density && !isTruth) pair.push(picture(place, `true log-density of ${place.target}`, (c) => drawDensity(c, truthPlace), title("true log-density")));
    found.push(make("div", { className: "pair" }, ...pair), colourScale(place));
  } else {
    found.push(make("p", { textContent: "This model has samples, but no density." }));
  }
  if (cell.score) {
    const pair = [picture(place, `field of scores; ${spoken(place)}`, (c) => drawScore(c, place), [...title(isTruth ? "true score" : "learnt score"), `, ${cell.score.how}`])];
    if (truth.score && !isTruth) pair.push(picture(place, `true field of scores of ${place.target}`, (c) => drawScore(c, truthPlace), [...title("true score"), `, ${truth.score.how}`]));
    const edges = targets[place.target].smooth ? "" : " This law has edges: on them and beyond them its score is not defined.";
    found.push(make("div", { className: "pair" }, ...pair), make("p", { className: "faint", textContent: `The score, ∇ log of the density, points to where it grows. An arrow is as long as its root, and cut at ${cell.score.unit} nats a unit of length; where a density vanishes there is none.${edges}` }));
  } else if (cell.density) {
    found.push(make("p", { textContent: "This model has no score." }));
  }
  return section("fields", cell.score ? "Density and score" : "Density", ...found);
}

function colourScale(place) {
  const top = targets[place.target].top, canvas = make("canvas", { role: "img", "aria-label": "colour scale", width: 256, height: 1 });
  redraws.push(() => {
    const pen = canvas.getContext("2d"), image = pen.createImageData(256, 1);
    ramp().forEach((c, i) => { image.data.set(c, 4 * i); image.data[4 * i + 3] = 255; });
    pen.putImageData(image, 0, 0);
  });
  const text = (v) => v.toFixed(1).replace("-", "−");
  return make("div", { className: "ramp" }, `≤ ${text(top - data.range)}`, canvas, `≥ ${text(top)} nats`);
}

function curvesOf(place) {
  const { curves } = cellOf(place);
  if (!curves) {
    const why = rows[place.row].reference ? "It was not trained by gradient steps." : "Its curves are in the study’s folder.";
    return section("curves", "Training", make("p", { textContent: why }));
  }
  const found = section("curves", "Training");
  const kept = curves.step.indexOf(curves.selected), end = curves.step[curves.step.length - 1];
  const at = (name) => (kept >= 0 && curves[name]?.[kept] != null ? `, where it is ${curves[name][kept]}` : "");
  const steps = (n) => n?.toLocaleString("en") ?? "none";
  const chosen = `the state that was kept, of step ${steps(curves.selected)} of ${steps(end)}`;
  const drawn = [
    [[["train_loss", true], ["holdout_loss", false]], `Own loss: training (broad, pale), hold-out (thin). The dot is ${chosen}${curves.by === "holdout_loss" ? "; it is lowest there by hold-out" : ""}`, "holdout_loss"],
    [[["holdout_kde_nll", false]], `Hold-out −log-likelihood by a KDE of samples, nats: the same measure for all families${curves.by === "holdout_kde_nll" ? "; it chose the state" : ""}`, "holdout_kde_nll"],
  ];
  for (const [lines, words, name] of drawn) {
    if (!lines.every(([l]) => curves[l])) continue;
    const figure = make("figure", {}, make("div"), make("figcaption", { textContent: `${words}.` }));
    redraws.push(() => figure.firstChild.replaceChildren(chart(place, lines, Math.max(figure.clientWidth, 240), `${words}${at(name)}`)));
    found.append(figure);
  }
  return found;
}

function card(place) {
  const cell = cellOf(place), spread = data.spread[`${place.target}/${place.row}`], union = new Set(places.flatMap((p) => (cellOf(p).card ?? []).map((line) => line[0])));
  const mine = new Map(cell.card.map((line) => [line[0], line]));
  const body = make("tbody");
  for (const metric of [...union].sort((a, b) => a - b)) {
    const { name, summary } = data.metrics[metric], line = mine.get(metric);
    const title = make("th", { scope: "row" }, ...breakable(name), make("small", { textContent: summary }));
    if (!line) {
      body.append(make("tr", {}, title, make("td", { textContent: "–" }), make("td")));
      continue;
    }
    const [, text, provenance, floor, within, alarm] = line;
    const value = make("td", { className: "number" }, make("span", { className: alarm ? "alarm" : "", textContent: alarm ? `${text} ! impossible` : text }), make("small", { textContent: provenance }));
    if (spread?.[name]) value.append(make("small", { textContent: `over seeds ${spread[name]}` }));
    const verdict = within === null ? "" : within ? "✓ within" : "✗ beyond";
    body.append(make("tr", {}, title, value, make("td", { className: "number" }, floor || "–", make("small", { textContent: verdict }))));
  }
  const header = make("thead", {}, make("tr", {}, make("th", { scope: "col", textContent: "Metric" }), make("th", { scope: "col", textContent: "Value ± error, and how" }), make("th", { scope: "col", textContent: "Floor: what the truth scores" })));
  const verdict = cell.verdict ? [make("p", { textContent: `Judged by all metrics on samples together: ${cell.verdict}.` })] : [];
  const seeds = spread ? [make("p", { className: "faint", textContent: "Over seeds: the median ± the standard deviation." })] : [];
  return section("card-of", "Scorecard", ...verdict, ...seeds, make("table", { className: "card" }, header, body));
}

// ---- Time ---------------------------------------------------------------------------------

function tell() {
  $("play").textContent = playing ? "Pause" : "Play";
  tick();
}

function play() {
  const moments = last();
  if (!moments) return;
  if (time >= moments) time = 0;
  let before = performance.now();
  const step = (now) => {
    if (!playing) return;
    const seconds = (now - before) / 1000;
    if (!still.matches) time += (moments * Math.min(seconds, 0.1)) / PLAY_SECONDS;
    else if (seconds > JUMP_SECONDS) time = Math.min(Math.floor(time) + Math.ceil(moments / JUMPS), moments);
    if (!still.matches || seconds > JUMP_SECONDS) before = now;
    if (time >= moments) {
      time = moments;
      pause();
      return;
    }
    tick();
    playing = requestAnimationFrame(step);
  };
  playing = requestAnimationFrame(step);
  tell();
}

function pause() {
  cancelAnimationFrame(playing);
  playing = 0;
  tell();
}

$("play").addEventListener("click", () => (playing ? pause() : play()));
$("time").addEventListener("input", () => {
  const wanted = Number($("time").value);
  if (playing) pause();
  time = wanted;
  tick();
});
$("opened").addEventListener("keydown", (event) => {
  // A button, or a list, has its own use for the space bar.
  if (event.key !== " " || event.target.closest("button, select")) return;
  event.preventDefault();
  (playing ? pause : play)();
});
$("opened").addEventListener("close", () => {
  pause();
  history.replaceState(null, "", location.pathname + location.search);
  $("panes").replaceChildren();
  redraws = moved = places = [];
  const [row, column] = focus;
  wallCells[row][column].focus();
});
$("close").addEventListener("click", () => $("opened").close());
$("compare").addEventListener("click", () => {
  if (places.length > 1) places = [places[0]];
  else {
    const [one] = places, others = data.rows.filter((r) => r.name !== one.row && cellOf({ ...one, row: r.name }).done);
    const at = data.rows.findIndex((r) => r.name === one.row);
    const next = others.find((r) => data.rows.indexOf(r) > at) ?? others[0];
    places = [one, { ...one, row: next ? next.name : one.row }];
  }
  fillOpened();
  say(places.length > 1 ? `Beside it: ${spoken(places[1])}.` : "One cell.");
});

// ---- The page -----------------------------------------------------------------------------

function say(text) {
  $("status").textContent = text;
}

function recolour() {
  $("theme").textContent = isDark() ? "Light" : "Dark";
  $("theme").setAttribute("aria-label", `Switch to the ${isDark() ? "light" : "dark"} theme`);
  legend();
  document.querySelectorAll("#wall tbody tr").forEach((line) => {
    const name = line.querySelector("th[scope=row]")?.firstChild.textContent;
    if (name) line.firstChild.style.setProperty("--own", ownColour(name));
  });
  document.querySelectorAll("#wall canvas").forEach((canvas) => canvas.near && canvas.draw());
  if (places.length) fillOpened();
}

function legend() {
  const swatch = make("span", { className: "swatch" });
  swatch.style.background = colour("under");
  const shown = view === "samples" ? [swatch, " truth; in colour the model’s samples. "] : [`Log-densities, a colour scale a target; what is more than ${data.range} nats below its top looks like nothing. `];
  $("legend").replaceChildren(...shown, "✓: no further from the truth than its own samples are.");
}

$("tools").addEventListener("change", (event) => {
  if (event.target.name === "view") view = event.target.value;
  if (event.target.id === "seed") {
    seed = Number(event.target.value);
    say(`Seed ${seed}.`);
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
  const kept = localStorage.getItem("densitometer-theme");
  if (kept === "light" || kept === "dark") document.documentElement.dataset.theme = kept;
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
})();
