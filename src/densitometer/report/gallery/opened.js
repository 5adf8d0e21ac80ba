// The dialog of an opened cell, or of two, and the time of their sampling.

import { cellOf, data, key, spoken, titleOf } from "./cells.js";
import { $, breakable, say } from "./elements.js";
import { opened, pane } from "./panes.js";
import { rememberCell, returnToWall } from "./wall.js";

const PLAY_SECONDS = 6, JUMPS = 8, JUMP_SECONDS = 0.5;
const still = matchMedia("(prefers-reduced-motion: reduce)");

let playing = 0;

export function open(which) {
  opened.places = which;
  rememberCell(which[0]);
  if (!$("opened").open) $("opened").showModal();
  fillOpened();
  const moments = last();
  opened.time = still.matches ? moments : 0;
  showPlaying();
  $("opened").scrollTop = 0;
  (moments ? $("play") : $("close")).focus();
  if (moments && !still.matches) play();
}

const last = () => Math.max(0, ...opened.places.map((p) => (cellOf(p).path ? cellOf(p).path.frames - 1 : 0)));

export function fillOpened() {
  // Builds the panes anew; the time stays.
  $("opened-title").replaceChildren(...breakable(opened.places.map(titleOf).join(" beside ")));
  $("compare").setAttribute("aria-pressed", String(opened.places.length > 1));
  $("panes").className = opened.places.length > 1 ? "double" : "single";
  opened.moved = [];
  opened.redraws = [];
  $("panes").replaceChildren(...opened.places.map((place, index) => pane(place, (changed) => change(index, changed))));
  $("transport").hidden = !last();
  $("time").max = last();
  opened.time = Math.min(opened.time, last());
  drawOpened();
  const where = opened.places.map((p) => key(p).split("/").map(encodeURIComponent).join("/")).join("|");
  history.replaceState(null, "", `#${where}`);
}

function change(index, changed) {
  opened.places[index] = { ...opened.places[index], ...changed };
  fillOpened();
  $("panes").children[index].querySelector(`[data-chooses="${Object.keys(changed)[0]}"]`).focus();
  say(`${spoken(opened.places[index])}.`);
}

export const drawOpened = () => {
  for (const draw of opened.redraws) draw();
  tick();
};

function tick() {
  for (const draw of opened.moved) draw();
  const moments = last(), nearest = Math.round(opened.time);
  $("time").value = nearest;
  const words = nearest === 0 ? "noise" : nearest === moments ? "samples" : "";
  $("moment").textContent = `${nearest} of ${moments}${words && ` · ${words}`}`;
  $("time").setAttribute("aria-valuetext", `moment ${nearest} of ${moments}${words && `, ${words}`}`);
}

function showPlaying() {
  $("play").textContent = playing ? "Pause" : "Play";
  tick();
}

function play() {
  const moments = last();
  if (!moments) return;
  if (opened.time >= moments) opened.time = 0;
  let before = performance.now();
  const step = (now) => {
    if (!playing) return;
    const seconds = (now - before) / 1000;
    if (!still.matches) opened.time += (moments * Math.min(seconds, 0.1)) / PLAY_SECONDS;
    else if (seconds > JUMP_SECONDS) opened.time = Math.min(Math.floor(opened.time) + Math.ceil(moments / JUMPS), moments);
    if (!still.matches || seconds > JUMP_SECONDS) before = now;
    if (opened.time >= moments) {
      opened.time = moments;
      pause();
      return;
    }
    tick();
    playing = requestAnimationFrame(step);
  };
  playing = requestAnimationFrame(step);
  showPlaying();
}

function pause() {
  cancelAnimationFrame(playing);
  playing = 0;
  showPlaying();
}

$("play").addEventListener("click", () => (playing ? pause() : play()));
$("time").addEventListener("input", () => {
  const wanted = Number($("time").value);
  if (playing) pause();
  opened.time = wanted;
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
  opened.redraws = opened.moved = opened.places = [];
  returnToWall();
});
$("close").addEventListener("click", () => $("opened").close());
$("compare").addEventListener("click", () => {
  if (opened.places.length > 1) opened.places = [opened.places[0]];
  else {
    const [one] = opened.places, others = data.rows.filter((r) => r.name !== one.row && cellOf({ ...one, row: r.name }).done);
    const at = data.rows.findIndex((r) => r.name === one.row);
    const next = others.find((r) => data.rows.indexOf(r) > at) ?? others[0];
    opened.places = [one, { ...one, row: next ? next.name : one.row }];
  }
  fillOpened();
  say(opened.places.length > 1 ? `Beside it: ${spoken(opened.places[1])}.` : "One cell.");
});
$("wall").addEventListener("chosen", ({ detail }) => open([detail]));
