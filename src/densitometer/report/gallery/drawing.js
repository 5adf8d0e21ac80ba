// Pictures of a cell on a canvas: samples, log-density, score, and samples on their way.

import { cellOf, numbers, targets, truthOf } from "./cells.js";
import { colour, ownColour, ramp } from "./colours.js";
import { make } from "./elements.js";

function sheet(canvas, place) {
  // A clean canvas in device pixels, and its size; 0 while it is not laid out.
  canvas.style.aspectRatio = shape(place);
  const box = canvas.getBoundingClientRect(), scale = devicePixelRatio || 1;
  canvas.width = Math.round(box.width * scale);
  canvas.height = Math.round(box.height * scale);
  const pen = canvas.getContext("2d");
  return { pen, width: canvas.width, height: canvas.height, scale };
}

export function shape({ target }) {
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

export function drawSamples(canvas, place) {
  const paper = sheet(canvas, place), view = viewOf(place), { samples } = cellOf(place);
  const size = (Math.min(2.4, 70 / Math.sqrt(samples.shown)) * (0.6 + paper.width / paper.scale / 400)) / 1.1;
  if (place.row !== "truth") under(paper, place, view, size);
  dots(paper, view, numbers(samples.points, Uint16Array), view, ownColour(place.row), size * 0.8);
}

export function drawDensity(canvas, place, alpha = 1) {
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

export function drawScore(canvas, place) {
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

export function frameZooms(place) {
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
export const framed = (zoom) => zoom > 1.02;

export function drawPath(canvas, place, time) {
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
