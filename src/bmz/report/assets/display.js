// What is drawn: the image and the masks of the entries that are on, in one pane or several.

import { TRUTH, cssColour } from "./entries.js";
import { strokeOutlines } from "./outlines.js";
import { drawGrid, drawRing, place, within } from "./stage.js";
import { make } from "./controls.js";

/** @typedef {import("./entries.js").Entry} Entry */
/** @typedef {import("./mask.js").Mask} Mask */
/** @typedef {import("./picture.js").Picture} Picture */
/** @typedef {import("./viewport.js").Viewport} Viewport */

/**
 * What is shown of an image.
 * @typedef {{picture: Picture, entries: Entry[], current: Entry, other: Entry | null, mode: string, split: number,
 *   truth: Mask | null, truthOn: boolean, at: import("./parts.js").At, picked: {label: number, x: number, y: number, r: number} | null}} Shown
 */

export const MOST_PANES = 6;
const AS_LARGE = 0.85; // so much smaller may images be that lie beside each other
const ENLARGED = 1.5; // px of the canvas for one of a part, from which on lines lie between pixels

/**
 * @param {Shown} shown
 * @returns {Entry[]} those that are on, the one that is chosen last, so that it lies on top
 */
const onTop = ({ entries, current }) => [...entries.filter((entry) => entry.on && entry !== current), ...(current.on ? [current] : [])];

/**
 * @param {Shown} shown
 * @returns {(Entry | null)[]} what each pane shows; null for what the mode says
 */
export function panesOf({ mode, entries, current }) {
  if (mode !== "side") return [null];
  const on = entries.filter((entry) => entry.on).slice(0, MOST_PANES);
  return on.length ? on : [current];
}

/**
 * Lay the panes out in the grid in which the image is largest, beside each other if there is a choice.
 * @param {Viewport} view
 * @param {number} count
 */
export function layOut(view, count) {
  const { clientWidth, clientHeight } = view.canvas;
  const zooms = [...Array(count).keys()].map((i) =>
    Math.min(clientWidth / (i + 1) / view.width, clientHeight / Math.ceil(count / (i + 1)) / view.height));
  const most = Math.max(...zooms);
  const across = count - zooms.reverse().findIndex((zoom) => zoom >= AS_LARGE * most);
  const whole = view.zoom / view.wholeZoom; // which stays as it is
  view.resize();
  view.panes = across;
  view.rows = Math.ceil(count / across);
  view.zoom = whole * view.wholeZoom;
}

/**
 * @param {Viewport} view
 * @param {Shown} shown
 */
export function drawAll(view, shown) {
  const { canvas } = view, { picture } = shown;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  panesOf(shown).forEach((entry, pane) => {
    within(context, [...view.corner(pane), view.paneWidth, view.paneHeight], () => {
      place(context, view, pane, picture.canvas, picture.part);
      drawMasks(context, view, pane, shown, entry);
      if (shown.truth && shown.truthOn) drawMask(context, view, pane, shown.truth, { one: TRUTH });
      if (shown.picked) drawRing(context, view, pane, shown.picked);
    });
  });
  drawGrid(context, view);
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Viewport} view
 * @param {number} pane
 * @param {Mask | null} mask
 * @param {{one?: number, filled?: boolean, picked?: number, other?: Mask | null}} style
 */
function drawMask(context, view, pane, mask, style) {
  if (!mask?.part) return;
  const enlarged = style.one !== undefined && view.zoom * mask.part.step >= ENLARGED;
  const thick = enlarged ? 0 : view.zoom < ENLARGED ? 2 : 1;
  if (!enlarged || style.filled) place(context, view, pane, mask.paint({ filled: false, picked: 0, other: null, thick, ...style }), mask.part);
  if (enlarged) strokeOutlines(context, view, pane, mask.part, cssColour(style.one || 0));
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {Viewport} view
 * @param {number} pane
 * @param {Shown} shown
 * @param {Entry | null} own that the pane is for
 */
function drawMasks(context, view, pane, shown, own) {
  const { mode, current, other, picked } = shown;
  const one = (/** @type {Entry} */ entry) =>
    drawMask(context, view, pane, entry.drawn, { one: entry.colour, filled: mode === "filled", picked: entry === current ? picked?.label : 0 });
  if (mode === "none") return;
  if (own) one(own);
  else if (mode === "difference") drawMask(context, view, pane, current.drawn, { other: other?.drawn ?? null });
  else if (mode === "swipe" && other) {
    const at = shown.split * view.canvas.width, { width, height } = view.canvas;
    within(context, [0, 0, at, height], () => one(current));
    within(context, [at, 0, width - at, height], () => one(other));
    context.fillStyle = "#fff";
    context.fillRect(at - 1, 0, 2, height);
  } else for (const entry of onTop(shown)) one(entry);
}

/**
 * Name what each pane, or side of the swipe, shows.
 * @param {HTMLElement} box
 * @param {Viewport} view
 * @param {Shown} shown
 */
export function drawCaptions(box, view, shown) {
  const { mode, current, other } = shown;
  const name = (/** @type {Entry} */ entry, /** @type {string} */ side) => {
    const swatch = make("i", { className: "swatch" });
    swatch.style.background = cssColour(entry.colour);
    return make("span", { className: `caption ${side}` }, swatch, `${entry.result.name}: ${entry.lack || entry.result.counted}`);
  };
  const cell = (/** @type {(Entry | null)[]} */ ...pair) =>
    make("div", {}, ...pair.flatMap((entry, i) => (entry ? [name(entry, i ? "right" : "left")] : [])));
  const legend = (/** @type {string} */ colour, /** @type {string} */ words) => {
    const swatch = make("i", { className: "swatch" });
    swatch.style.background = colour;
    return make("span", { className: "caption left" }, swatch, words);
  };
  box.style.gridTemplate = `repeat(${view.rows}, 1fr) / repeat(${view.panes}, 1fr)`;
  if (mode === "side") box.replaceChildren(...panesOf(shown).map((entry) => cell(entry)));
  else if (mode === "swipe") box.replaceChildren(cell(current, other));
  else if (mode === "difference" && other) {
    box.replaceChildren(make("div", { className: "legend" }, legend("#e69f00", `only in ${current.result.name}`), legend("#56b4e9", `only in ${other.result.name}`), legend("#9a9a9a", "in both")));
  } else box.replaceChildren();
}
