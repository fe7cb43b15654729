// The image and its masks, drawn where the view is.

import { canvas, current, other, state, view } from "./state.js";
import { cross } from "./correcting.js";
import { DIAMETER } from "./outcome.js";
import { holds } from "./parts.js";
import { drawGrid, drawRing, drawScaleBar, place, within } from "./stage.js";
import { $ } from "./controls.js";

/** @typedef {import("./result.js").Result} Result */

const MARGIN = 0.4; // of the sides of what is shown, which is brought, too
const BAR_PX = 120; // of the scale bar, at most

let drawn = false;
export function draw() {
  if (drawn) return;
  drawn = true;
  requestAnimationFrame(() => { drawn = false; drawNow(); });
}

function drawNow() {
  const { picture } = state;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (!picture) return;
  for (let pane = 0; pane < view.panes; pane++) {
    within(context, [...view.corner(pane), view.paneWidth, view.paneHeight], () => {
      place(context, view, pane, picture.canvas, picture.part);
      drawMasks(context, pane);
    });
  }
  drawGrid(context, view);
  if (state.mode === "swipe" && other()) line(context, state.split * canvas.width);
  canvas.dataset.shown = current()?.mask?.shownAs || "";
  canvas.dataset.view = picture.part && holds(picture.part, view.span(0)) ? "there" : "coming";
  drawPicked(context);
  drawLine(context);
  cross.paint(context);
  drawScaleBar($("scalebar"), view, state.facts?.pixel_um, BAR_PX);
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {number} pane
 */
function drawMasks(context, pane) {
  if (state.mode === "none") return;
  const [first, second] = [current(), other()];
  const show = (/** @type {Result | null} */ result, /** @type {Result | null} */ beside = null) => {
    if (!result?.mask) return;
    const style = {
      filled: state.mode === "filled",
      picked: result === first ? state.picked : 0,
      other: beside?.mask || null,
      thick: view.zoom < 1.5 ? 2 : 1,
    };
    place(context, view, pane, result.mask.paint(style), result.mask.part);
  };
  if (state.mode === "side") show(pane ? second : first);
  else if (state.mode === "difference") show(first, second);
  else if (state.mode === "swipe" && second) {
    const at = state.split * canvas.width;
    for (const [result, from, width] of /** @type {[Result | null, number, number][]} */ ([[first, 0, at], [second, at, canvas.width - at]])) {
      within(context, [from, 0, width, canvas.height], () => show(result));
    }
  } else show(first);
}

/** @param {CanvasRenderingContext2D} context @param {number} x */
function line(context, x) {
  context.fillStyle = "#fff";
  context.fillRect(x - 1, 0, 2, canvas.height);
}

/** @param {CanvasRenderingContext2D} context */
function drawPicked(context) {
  const row = Object.fromEntries(current()?.row(state.picked) || []);
  if (!state.picked || row.centroid_x_px === undefined) return;
  drawRing(context, view, 0, { x: row.centroid_x_px, y: row.centroid_y_px, r: (row[`${DIAMETER}_px`] || 10) / 2 });
}

/** @param {CanvasRenderingContext2D} context */
function drawLine(context) {
  if (!state.line.length) return;
  const [x, y] = view.origin;
  context.strokeStyle = "#fff";
  context.lineWidth = 2;
  context.beginPath();
  for (const [px, py] of state.line) context.lineTo(x + px * view.zoom, y + py * view.zoom);
  if (state.line.length === 1) context.arc(x + state.line[0][0] * view.zoom, y + state.line[0][1] * view.zoom, 6, 0, 2 * Math.PI);
  context.stroke();
}

let bringing = false;
export function bringSoon() {
  if (bringing) return;
  bringing = true;
  requestAnimationFrame(() => {
    bringing = false;
    const { at, needed, wide } = inView();
    void state.picture?.bring(needed, wide, at);
    for (const result of [current(), other()]) void result?.mask?.bring(needed, wide, at);
  });
}

/** What is in view, and the same with a margin. */
export function inView() {
  return { at: state.at, needed: view.span(0), wide: view.span(MARGIN) };
}

export function renewed() {
  draw();
  bringSoon();
}
