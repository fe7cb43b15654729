// What the page shows: the image, the results, and what is chosen.

import { Viewport } from "./viewport.js";
import { $ } from "./controls.js";

/** @typedef {import("./picture.js").Picture} Picture */
/** @typedef {import("./result.js").Result} Result */

export const canvas = /** @type {HTMLCanvasElement} */ ($("canvas"));
export const view = new Viewport(canvas, () => {}); // page.js says what happens when it moves

export const state = {
  image: 0,
  /** @type {any} */
  facts: null,
  /** @type {Picture | null} */
  picture: null,
  at: { t: 0, z: 0 },
  /** @type {Result[]} */
  results: [],
  current: -1,
  other: -1,
  mode: "over",
  split: 0.5,
  picked: 0,
  tool: "pick",
  /** @type {[number, number][]} the line that is drawn, or the first object to merge: x and y */
  line: [],
  /** @type {AbortController | null} */
  work: null,
  ready: false,
};

export const current = () => state.results[state.current] || null;
export const other = () => (state.other === state.current ? null : state.results[state.other] || null);
