// What a pointer does in the image, done by keys: objects are selected, points are set.

/** @typedef {import("./parts.js").Part} Part */
/** @typedef {import("./viewport.js").Viewport} Viewport */
/** @typedef {{label: number, x: number, y: number, area: number}} Spot an object: its label, the px of it nearest to its middle */

const STEP = 12, FINE = 2; // px of the canvas for one key
/** @type {Record<string, [number, number]>} */
const WAYS = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] };

/**
 * Find the objects of a part of a mask.
 * @param {Part} part
 * @returns {Map<number, Spot>}
 */
export function spotsOf(part) {
  const { data, width, height, step, top, left } = part;
  /** @type {Map<number, {n: number, x: number, y: number, near: number, at: number}>} */
  const sums = new Map();
  const each = (/** @type {(sum: any, x: number, y: number, i: number) => void} */ take) => {
    for (let y = 0, i = 0; y < height; y++) {
      for (let x = 0; x < width; x++, i++) {
        const label = data[i];
        if (!label) continue;
        let sum = sums.get(label);
        if (!sum) sums.set(label, (sum = { n: 0, x: 0, y: 0, near: Infinity, at: i }));
        take(sum, x, y, i);
      }
    }
  };
  each((sum, x, y) => { sum.n += 1; sum.x += x; sum.y += y; });
  each((sum, x, y, i) => {
    const far = (x - sum.x / sum.n) ** 2 + (y - sum.y / sum.n) ** 2;
    if (far < sum.near) { sum.near = far; sum.at = i; }
  });
  const place = (/** @type {number} */ at, /** @type {number} */ from) => from + Math.floor((at + 0.5) * step);
  return new Map([...sums].map(([label, { n, at }]) => [
    label, { label, x: place(at % width, left), y: place(Math.floor(at / width), top), area: n * step * step },
  ]));
}

/**
 * Choose the object that lies nearest in a direction; what lies aside counts twice.
 * @param {Iterable<Spot>} spots
 * @param {{x: number, y: number, label?: number}} from
 * @param {[number, number]} way
 */
export function nextSpot(spots, from, [dx, dy]) {
  /** @type {Spot | null} */
  let next = null;
  let least = Infinity;
  for (const spot of spots) {
    const [x, y] = [spot.x - from.x, spot.y - from.y];
    const along = x * dx + y * dy, aside = Math.abs(x * dy) + Math.abs(y * dx);
    if (spot.label === from.label || along <= 0 || aside > 2 * along) continue;
    if (along + 2 * aside < least) {
      least = along + 2 * aside;
      next = spot;
    }
  }
  return next;
}

export class Cross {
  /**
   * @param {Viewport} view
   * @param {{part: () => Part | null, picked: () => number, tool: () => string, pick: (x: number, y: number) => void,
   *   drawing: (line: [number, number][], done: boolean) => void, draw: () => void}} page
   */
  constructor(view, page) {
    this.view = view;
    this.page = page;
    this.x = 0;
    this.y = 0;
    this.shown = false;
    /** @type {[number, number][]} */
    this.line = [];
    // before the canvas hears of the key, which would move the image
    view.canvas.parentElement?.addEventListener("keydown", (event) => {
      if (event.target !== view.canvas || event.ctrlKey || event.metaKey || event.altKey || !this.heard(event)) return;
      event.preventDefault();
      event.stopPropagation();
    }, { capture: true });
    view.canvas.addEventListener("pointerdown", () => this.hide());
  }

  hide() {
    this.shown = false;
    this.line = [];
  }

  /** @param {KeyboardEvent} event */
  heard(event) {
    const way = WAYS[event.key], correcting = this.page.tool() !== "pick";
    if (way && correcting) this.move(way, event.shiftKey ? FINE : STEP);
    else if (way && event.shiftKey) this.next(way);
    else if (event.key === " " && correcting) this.set();
    else if (event.key === "Enter" && this.line.length > 1) this.end();
    else return false;
    return true;
  }

  /** @param {[number, number]} way */
  next(way) {
    const part = this.page.part();
    if (!part) return;
    const spots = spotsOf(part), picked = spots.get(this.page.picked());
    const spot = nextSpot(spots.values(), picked || this.view, way);
    if (!spot) return;
    this.follow(spot.x, spot.y);
    this.page.pick(spot.x, spot.y);
  }

  /** Begin at the object that is selected, or in the middle. */
  begin() {
    const part = this.page.part();
    const spot = (part && spotsOf(part).get(this.page.picked())) || this.view;
    [this.x, this.y] = [Math.floor(spot.x) + 0.5, Math.floor(spot.y) + 0.5];
    this.shown = true;
  }

  /** @param {[number, number]} way @param {number} step */
  move([dx, dy], step) {
    if (!this.shown) this.begin();
    const { view } = this;
    this.x = Math.min(Math.max(this.x + (dx * step) / view.zoom, 0), view.width - 0.5);
    this.y = Math.min(Math.max(this.y + (dy * step) / view.zoom, 0), view.height - 0.5);
    this.follow(this.x, this.y);
    view.hovered(Math.floor(this.x), Math.floor(this.y));
    if (this.line.length) this.page.drawing([...this.line, [this.x, this.y]], false);
    this.page.draw();
  }

  set() {
    if (!this.shown) this.begin();
    if (["split", "draw"].includes(this.page.tool())) {
      this.line = [...this.line, [this.x, this.y]];
      this.page.drawing(this.line, false);
    } else {
      this.page.pick(Math.floor(this.x), Math.floor(this.y));
    }
    this.page.draw();
  }

  end() {
    const { line } = this;
    this.line = [];
    this.page.drawing(line, true);
  }

  /**
   * Move the image where a place would be out of sight.
   * @param {number} x
   * @param {number} y
   */
  follow(x, y) {
    const { view } = this, [left, top] = view.origin;
    const [px, py] = [left + x * view.zoom, top + y * view.zoom];
    if (px < 20 || py < 20 || px > view.paneWidth - 20 || py > view.canvas.height - 20) view.show(x, y, 1);
  }

  /** @param {CanvasRenderingContext2D} context */
  paint(context) {
    if (!this.shown || this.page.tool() === "pick") return;
    const [left, top] = this.view.origin, { zoom } = this.view;
    const [x, y] = [left + this.x * zoom, top + this.y * zoom];
    for (const [width, colour] of /** @type {[number, string][]} */ ([[5, "#000"], [2, "#fff"]])) {
      context.lineWidth = width;
      context.strokeStyle = colour;
      context.beginPath();
      for (const [dx, dy] of Object.values(WAYS)) {
        context.moveTo(x + 4 * dx, y + 4 * dy);
        context.lineTo(x + 16 * dx, y + 16 * dy);
      }
      context.stroke();
    }
  }
}
