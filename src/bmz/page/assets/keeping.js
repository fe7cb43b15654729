// What is kept, so that the page goes on there another time.

import { change } from "./server.js";
import { state, view } from "./state.js";
import { tell } from "./telling.js";
import { $ } from "./controls.js";

const KEPT_AFTER_MS = 800;

let keeping = 0;
export function keepSoon() {
  if (!state.ready) return;
  clearTimeout(keeping);
  keeping = window.setTimeout(() => {
    const { image, at, mode, split, results } = state;
    const kept = {
      image, at, mode, split, current: state.current, letters: $("letters").checked,
      view: { x: view.x, y: view.y, zoom: view.zoom },
      channels: state.picture?.channels.map(({ on, low, high, colour }) => ({ on, low, high, colour })),
      results: results.map(({ choice, settings, edits }) => ({ choice, settings, edits })),
    };
    change("state", kept).catch(tell);
  }, KEPT_AFTER_MS);
}
