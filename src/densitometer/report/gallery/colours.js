// Colours on a light and on a dark page.

import { data, rows } from "./cells.js";

export const darkness = matchMedia("(prefers-color-scheme: dark)");

export function isDark() {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === "dark" : darkness.matches;
}
export const colour = (name) => data.colours[name][isDark() ? 1 : 0];
export const ownColour = (row) => (isDark() ? rows[row].dark : rows[row].colour);

const ramps = {};
export function ramp() {
  // 256 colours between those of the ramp; reversed on a dark page, where dark stands for no mass.
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
