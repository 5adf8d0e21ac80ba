// The pane of an opened cell: its samples, density, score, curves and scorecard.

import { cellOf, data, rows, spoken, targets, titleOf, truthOf } from "./cells.js";
import { chart } from "./chart.js";
import { ownColour, ramp } from "./colours.js";
import { drawDensity, drawPath, drawSamples, drawScore, framed, frameZooms } from "./drawing.js";
import { breakable, make } from "./elements.js";

// The cells that are opened, the moment of their sampling, and what draws them.
export const opened = { places: [], time: 0, redraws: [], moved: [] };

function section(name, title, ...children) {
  return make("section", { className: name }, make("h3", { textContent: title }), ...children);
}

function picture(place, label, draw, caption, when = opened.redraws) {
  const canvas = make("canvas", { role: "img", "aria-label": label });
  when.push(() => draw(canvas));
  return make("figure", {}, canvas, make("figcaption", {}, ...caption));
}

function choose(label, options, chosen, change) {
  const select = make("select", {}, ...options.map(([value, text]) => make("option", { value, textContent: text, selected: String(value) === String(chosen) })));
  select.addEventListener("change", () => change(select.value));
  return make("label", {}, label, select);
}

export function pane(place, change) {
  const cell = cellOf(place), row = rows[place.row], target = targets[place.target], truth = truthOf(place);
  const choice = make("div", { className: "choice" });
  const labels = (list) => list.map(({ name, label }) => [name, label]);
  const choices = [["row", "Family", labels(data.rows)], ["target", "Target", labels(data.targets)], ["seed", "Seed", data.seeds.map((s) => [s, s])]];
  for (const [which, label, options] of choices) {
    if (options.length < 2) continue;
    const labelled = choose(label, options, place[which], (value) => change({ [which]: which === "seed" ? Number(value) : value }));
    labelled.lastChild.dataset.chooses = which;
    choice.append(labelled);
  }
  const about = [row.summary, target.note ?? ""].filter(Boolean).map((text) => make("p", { textContent: text }));
  const facts = [cell.parameters && `${cell.parameters} parameters`, cell.seconds && `fitted in ${cell.seconds} s`, cell.sampler && `sampler “${cell.sampler}”`].filter(Boolean);
  const head = make("section", { className: "head" }, choice, make("div", { className: "name" }, make("h3", { textContent: `${titleOf(place)}${data.seeds.length > 1 ? `, seed ${place.seed}` : ""}` }), ...about));
  head.lastChild.style.setProperty("--own", ownColour(place.row));
  if (facts.length) head.lastChild.append(make("p", { className: "faint", textContent: facts.join(" · ") }));
  if (cell.diverged || !cell.done) head.lastChild.append(make("p", { className: "alarm", textContent: cell.done ? `${cell.state}; what is shown is the best state before that` : cell.state }));
  const article = make("article", { className: "pane", "aria-label": titleOf(place) }, head);
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
    const why = row.reference ? "" : data.seeds[0] !== place.seed ? " The path from noise to samples is shown for the first seed." : " This cell has recorded no path from noise to samples.";
    return section("sampling", "Samples", picture(place, `Samples of ${row.label} over the truth; ${spoken(place)}`, (c) => drawSamples(c, place), [`${amount}${place.row === "truth" ? "" : " over the truth in grey"}${astray}.${why}`]));
  }
  const label = `${count(cell.path.n)} draws of ${row.label} on their way from noise to samples over the truth; ${spoken(place)}`;
  const caption = `${row.time} ${count(cell.path.n)} draws over the truth in grey; at the end all that were scored, ${amount}${astray}.${frameZooms(place).some(framed) ? " The dashed frame is the window at the end." : ""}`;
  return section("sampling", "Sampling", picture(place, label, (c) => drawPath(c, place, opened.time), [make("b", { textContent: "Time: " }), caption], opened.moved));
}

function fields(place, truth) {
  const cell = cellOf(place), truthPlace = { ...place, row: "truth" }, isTruth = place.row === "truth", found = [];
  const title = (who) => [make("b", { textContent: who })];
  if (cell.density) {
    const pair = [picture(place, `log-density; ${spoken(place)}`, (c) => drawDensity(c, place), title(isTruth ? "true log-density" : "learnt log-density"))];
    if (truth.density && !isTruth) pair.push(picture(place, `true log-density of ${targets[place.target].prose}`, (c) => drawDensity(c, truthPlace), title("true log-density")));
    found.push(make("div", { className: "pair" }, ...pair), colourScale(place));
  } else {
    found.push(make("p", { textContent: "This model has samples, but no density." }));
  }
  if (cell.score) {
    const pair = [picture(place, `field of scores; ${spoken(place)}`, (c) => drawScore(c, place), [...title(isTruth ? "true score" : "learnt score"), `, ${cell.score.how}`])];
    if (truth.score && !isTruth) pair.push(picture(place, `true field of scores of ${targets[place.target].prose}`, (c) => drawScore(c, truthPlace), [...title("true score"), `, ${truth.score.how}`]));
    const edges = targets[place.target].smooth ? "" : " The density of this target has edges: on them and beyond, its score is not defined.";
    found.push(make("div", { className: "pair" }, ...pair), make("p", { className: "faint", textContent: `The score, ∇ log of the density, points to where the density grows. The length of an arrow is the root of the score, cut off at ${cell.score.unit} nats per unit of length; where a density vanishes there is none.${edges}` }));
  } else if (cell.density) {
    found.push(make("p", { textContent: "This model has no score." }));
  }
  return section("fields", cell.score ? "Density and score" : "Density", ...found);
}

function colourScale(place) {
  const top = targets[place.target].top, canvas = make("canvas", { role: "img", "aria-label": "colour scale", width: 256, height: 1 });
  opened.redraws.push(() => {
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
  const dot = curves.step.indexOf(curves.selected), end = curves.step[curves.step.length - 1];
  const at = (name) => (dot >= 0 && curves[name]?.[dot] != null ? `, where it is ${curves[name][dot]}` : "");
  const steps = (n) => n?.toLocaleString("en") ?? "none";
  const chosen = `the selected state, of step ${steps(curves.selected)} of ${steps(end)}`;
  const drawn = [
    [[["train_loss", true], ["holdout_loss", false]], `Own loss: training (broad, pale), hold-out (thin). The dot is ${chosen}${curves.by === "holdout_loss" ? ", where the hold-out loss is lowest" : ""}`, "holdout_loss"],
    [[["holdout_kde_nll", false]], `Hold-out −log-likelihood under a KDE of the samples, nats: the same measure for all families${curves.by === "holdout_kde_nll" ? "; the state was selected by it" : ""}`, "holdout_kde_nll"],
  ];
  for (const [lines, words, name] of drawn) {
    if (!lines.every(([l]) => curves[l])) continue;
    const figure = make("figure", {}, make("div"), make("figcaption", { textContent: `${words}.` }));
    opened.redraws.push(() => figure.firstChild.replaceChildren(chart(place, lines, Math.max(figure.clientWidth, 240), `${words}${at(name)}`)));
    found.append(figure);
  }
  return found;
}

function card(place) {
  const cell = cellOf(place), spread = data.spread[`${place.target}/${place.row}`], union = new Set(opened.places.flatMap((p) => (cellOf(p).card ?? []).map((line) => line[0])));
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
  const header = make("thead", {}, make("tr", {}, make("th", { scope: "col", textContent: "Metric" }), make("th", { scope: "col", textContent: "Value ± error, how obtained" }), make("th", { scope: "col", textContent: "Floor: what the truth scores" })));
  const verdict = cell.verdict ? [make("p", { textContent: `By all metrics of samples together: ${cell.verdict}.` })] : [];
  const seeds = spread ? [make("p", { className: "faint", textContent: "Over seeds: the median ± the standard deviation." })] : [];
  return section("card-of", "Scorecard", ...verdict, ...seeds, make("table", { className: "card" }, header, body));
}
