// Outlines of labels as lines between pixels, which stay thin where the image is enlarged.

/** @typedef {import("./parts.js").Part} Part */
/** @typedef {import("./viewport.js").Viewport} Viewport */

const WIDTH = 1.6; // px of the page

/** @type {WeakMap<Part, Path2D>} */
const paths = new WeakMap();

/**
 * Join the edges between pixels of different labels, along rows and columns.
 * @param {Part} part
 * @returns {Path2D} in px of the part
 */
export function outlinesOf(part) {
  const known = paths.get(part);
  if (known) return known;
  const { data, width, height } = part, path = new Path2D();
  for (let y = 1; y < height; y++) {
    let start = -1;
    for (let x = 0; x <= width; x++) {
      const differs = x < width && data[(y - 1) * width + x] !== data[y * width + x];
      if (differs && start < 0) start = x;
      if (!differs && start >= 0) { path.moveTo(start, y); path.lineTo(x, y); start = -1; }
    }
  }
  for (let x = 1; x < width; x++) {
    let start = -1;
    for (let y = 0; y <= height; y++) {
      const differs = y < height && data[y * width + x - 1] !== data[y * width + x];
      if (differs && start < 0) start = y;
      if (!differs && start >= 0) { path.moveTo(x, start); path.lineTo(x, y); start = -1; }
    }
  }
  paths.set(part, path);
  return path;
}

/**
 * Draw them, with a dark rim, so that they are seen on what is bright, too.
 * @param {CanvasRenderingContext2D} context
 * @param {Viewport} view
 * @param {number} pane
 * @param {Part} part
 * @param {string} colour
 */
export function strokeOutlines(context, view, pane, part, colour) {
  const path = outlinesOf(part), [x, y] = view.origin, [left, top] = view.corner(pane);
  const zoom = view.zoom * part.step, width = (WIDTH * (window.devicePixelRatio || 1)) / zoom;
  context.save();
  context.translate(x + left + part.left * view.zoom, y + top + part.top * view.zoom);
  context.scale(zoom, zoom);
  context.lineCap = "square";
  for (const [style, thick] of /** @type {[string, number][]} */ ([["#0008", 2 * width], [colour, width]])) {
    context.strokeStyle = style;
    context.lineWidth = thick;
    context.stroke(path);
  }
  context.restore();
}
