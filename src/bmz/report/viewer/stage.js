// What is drawn on the canvas of a viewport: parts in panes, the line between two, a ring, a scale bar.

/** @typedef {import("./parts.js").Part} Part */
/** @typedef {import("./viewport.js").Viewport} Viewport */

const LEAST_RING = 12; // px of the canvas

/**
 * Draw within a part of the canvas.
 * @param {CanvasRenderingContext2D} context
 * @param {[number, number, number, number]} box left, top, width, height, px of the canvas
 * @param {() => void} draw
 */
export function within(context, box, draw) {
  context.save();
  context.beginPath();
  context.rect(...box);
  context.clip();
  draw();
  context.restore();
}

/**
 * Draw a picture of a part where it lies in a pane.
 * @param {CanvasRenderingContext2D} context
 * @param {Viewport} view
 * @param {number} pane
 * @param {HTMLCanvasElement | null} picture
 * @param {Part | null} part
 */
export function place(context, view, pane, picture, part) {
  if (!picture || !part) return;
  const [x, y] = view.origin, [left, top] = view.corner(pane), { zoom } = view;
  context.imageSmoothingEnabled = zoom * part.step < 2;
  context.drawImage(
    picture, x + left + part.left * zoom, y + top + part.top * zoom,
    part.width * part.step * zoom, part.height * part.step * zoom,
  );
}

/**
 * Draw the lines between panes.
 * @param {CanvasRenderingContext2D} context
 * @param {Viewport} view
 */
export function drawGrid(context, view) {
  const { width, height } = view.canvas;
  context.fillStyle = "#fff";
  for (let column = 1; column < view.panes; column++) context.fillRect(column * view.paneWidth - 1, 0, 2, height);
  for (let row = 1; row < view.rows; row++) context.fillRect(0, row * view.paneHeight - 1, width, 2);
}

/**
 * Draw a ring around an object, in a pane.
 * @param {CanvasRenderingContext2D} context
 * @param {Viewport} view
 * @param {number} pane
 * @param {{x: number, y: number, r: number}} place px of the image
 */
export function drawRing(context, view, pane, place) {
  const [x, y] = view.origin, [left, top] = view.corner(pane);
  const radius = Math.max(1.5 * place.r * view.zoom, LEAST_RING * (window.devicePixelRatio || 1));
  for (const [colour, width] of /** @type {[string, number][]} */ ([["#000a", 5], ["#fff", 2]])) {
    context.strokeStyle = colour;
    context.lineWidth = width;
    context.beginPath();
    context.arc(x + left + (place.x + 0.5) * view.zoom, y + top + (place.y + 0.5) * view.zoom, radius, 0, 2 * Math.PI);
    context.stroke();
  }
}

/**
 * Choose a length that is round: 1, 2 or 5 and zeros.
 * @param {number} most
 */
export function roundLength(most) {
  const power = 10 ** Math.floor(Math.log10(most));
  return power * ([5, 2].find((n) => n * power <= most) || 1);
}

/**
 * Show a scale bar.
 * @param {HTMLElement} bar its first child has the text, its last one the width
 * @param {Viewport} view
 * @param {number | null} um of a px of the image; null where it is not known
 * @param {number} mostPx of the page
 */
export function drawScaleBar(bar, view, um, mostPx) {
  bar.hidden = !um;
  if (!um) return;
  const perPx = (um * (window.devicePixelRatio || 1)) / view.zoom, length = roundLength(mostPx * perPx);
  /** @type {HTMLElement} */ (bar.lastElementChild).style.width = `${length / perPx}px`;
  /** @type {HTMLElement} */ (bar.firstElementChild).textContent = `${Number(length.toPrecision(3))} \u00b5m`;
}
