// The results that are compared: models that were tried, and which of them is shown.

import { current, other, state, view } from "./state.js";
import { busy, tell, tellProgress } from "./telling.js";
import { draw, inView, renewed } from "./drawing.js";
import { keepSoon } from "./keeping.js";
import { drawPanels, outcomeChanged } from "./outcome.js";
import { Result } from "./result.js";
import { $, make } from "./controls.js";

/** @typedef {import("./result.js").Choice} Choice */

export const MOST_RESULTS = 4;

export function drawResults() {
  $("results").replaceChildren(...state.results.map((result, i) => {
    const remove = make("button", { type: "button", className: "small", title: `Remove ${result.name}`, ariaLabel: `Remove ${result.name}`, onclick: () => drop(i) }, "\u00d7");
    const choose = make("button", { type: "button", id: `result-${i}`, className: "name", onclick: () => select(i) }, `${i + 1} ${result.name}`);
    choose.setAttribute("aria-pressed", String(i === state.current));
    const swipe = make("button", { type: "button", id: `swipe-${i}`, className: "small", title: "Swipe between this result and the one that is chosen", ariaLabel: `Swipe against ${i + 1} ${result.name}`, hidden: i === state.current || !result.mask || !current()?.mask, onclick: () => swipeAgainst(i) }, "Swipe");
    return make("div", { className: "result" }, choose, make("span", {}, result.error ? "failed" : result.mask ? result.counted : ""), swipe, remove);
  }));
  const names = state.results.map((result, i) => make("option", { value: i, selected: i === state.other }, `${i + 1} ${result.name}`));
  $("other").replaceChildren(...names);
  $("other-label").hidden = !["swipe", "side", "difference"].includes(state.mode) || state.results.length < 2;
  $("split-label").hidden = state.mode !== "swipe" || !other();
  for (const [id, result, modes] of /** @type {[string, Result | null, string[]][]} */ ([["left-name", current(), ["swipe", "side"]], ["right-name", other(), ["swipe", "side"]]])) {
    $(id).hidden = !modes.includes(state.mode) || !result || !other();
    $(id).textContent = result ? `${result.name}: ${result.count}` : "";
  }
}

/** @param {number} i */
export function select(i) {
  if (i < 0 || i >= state.results.length) return;
  if (i !== state.current) state.other = state.current;
  state.current = i;
  state.picked = 0;
  drawPanels();
  renewed();
  keepSoon();
  const result = current();
  if (result && !result.mask && !result.error) void run(result);
}

/** @param {number} i */
function drop(i) {
  state.results.splice(i, 1);
  state.current = Math.min(state.current, state.results.length - 1);
  state.other = -1;
  drawPanels();
  renewed();
  keepSoon();
}

/** @param {number} i */
function swipeAgainst(i) {
  state.other = i;
  setMode("swipe");
}

/** @param {number} share of the width */
export function setSplit(share) {
  state.split = Math.min(Math.max(share, 0), 1);
  $("split").value = String(100 * state.split);
  draw();
}

/** @param {string} mode */
export function setMode(mode) {
  state.mode = mode;
  $("mode").value = mode;
  if (!other()) state.other = state.results.findIndex((_, i) => i !== state.current);
  const panes = mode === "side" && other() ? 2 : 1;
  if (panes !== view.panes) {
    view.panes = panes;
    view.fit();
  }
  drawResults();
  renewed();
  keepSoon();
}

/**
 * @param {Choice} choice
 * @param {Record<string, string>} [settings]
 * @param {import("./result.js").Edit[]} [edits]
 */
export function add(choice, settings = {}, edits = []) {
  const result = new Result(choice, settings, edits, () => { if (state.results.includes(result)) outcomeChanged(); }, inView);
  state.results.push(result);
  if (state.results.length > MOST_RESULTS) {
    state.results.shift();
    state.current -= 1;
    state.other -= 1;
  }
  return result;
}

/** Make the mask of a result with its settings of now. @param {Result} result */
export function relabel(result) {
  $("outcome").ariaBusy = "true";
  void result.relabel(tell).finally(() => { $("outcome").ariaBusy = String(result.relabelling); });
}

/** @param {Result} result */
export async function run(result) {
  await busy(`running ${result.choice.model}`, async (signal) => {
    try {
      await result.run(state.image, tellProgress, signal);
    } catch (why) {
      if (why instanceof Error && why.name !== "AbortError") result.error = why.message;
      throw why;
    } finally {
      state.picked = 0;
      drawPanels();
    }
  });
  keepSoon();
}

/**
 * Choose nothing but a model: all else is as the call says.
 * @param {string} model
 * @returns {Choice}
 */
export const plain = (model) => ({ model, channels: null, scale: null, invert: null });

/** @param {string} model @param {Partial<Choice>} [more] */
export function tryModel(model, more = {}) {
  const result = add({ ...plain(model), ...more });
  select(state.results.indexOf(result));
}
