// Which part of the image the canvas shows, and how the user moves it.

/** @typedef {import("./parts.js").Span} Span */

const MOST_ZOOM = 40; // px of the canvas for one of the image

export class Viewport {
  /**
   * @param {HTMLCanvasElement} canvas
   * @param {() => void} changed is called when another part is shown
   */
  constructor(canvas, changed) {
    this.canvas = canvas;
    this.changed = changed;
    this.height = 1;
    this.width = 1;
    /** px of the canvas for one of the image */
    this.zoom = 1;
    /** the px of the image in the middle of the canvas */
    this.x = 0;
    this.y = 0;
    /** panes that show the same part lie side by side, in rows */
    this.panes = 1;
    this.rows = 1;
    /** @type {(x: number, y: number, pane?: number) => void} */
    this.picked = () => {};
    /** @type {(x: number, y: number, pane?: number) => void} */
    this.hovered = () => {};
    /** While this is set, dragging draws a line and does not move the image. @type {((line: [number, number][], done: boolean) => void) | null} */
    this.drawn = null;
    this.listen();
  }

  /** The width of one of the panes of a row. */
  get paneWidth() {
    return this.canvas.width / this.panes;
  }

  get paneHeight() {
    return this.canvas.height / this.rows;
  }

  /** The zoom at which the whole image fills a pane. */
  get wholeZoom() {
    return Math.min(this.paneWidth / this.width, this.paneHeight / this.height);
  }

  /** Show the whole image. */
  fit() {
    this.zoom = this.wholeZoom;
    this.x = this.width / 2;
    this.y = this.height / 2;
    this.changed();
  }

  /** Follow the size that the canvas has on the page. */
  resize() {
    const box = this.canvas.getBoundingClientRect();
    const ratio = window.devicePixelRatio || 1;
    const width = Math.max(Math.round(box.width * ratio), 1);
    const height = Math.max(Math.round(box.height * ratio), 1);
    if (width === this.canvas.width && height === this.canvas.height) return;
    this.zoom *= height / this.canvas.height;
    this.canvas.width = width;
    this.canvas.height = height;
    this.changed();
  }

  /** Where the first pixel of the image lies in a pane, px of the canvas. */
  get origin() {
    return [this.paneWidth / 2 - this.x * this.zoom, this.paneHeight / 2 - this.y * this.zoom];
  }

  /**
   * The part that is visible, with a margin, and how many px of the image one of it stands for.
   * @param {number} margin share of the sides
   * @returns {Span}
   */
  span(margin) {
    const step = 2 ** Math.max(Math.floor(Math.log2(1 / this.zoom)), 0);
    const [dx, dy] = [this.paneWidth / this.zoom / 2, this.paneHeight / this.zoom / 2];
    const grown = 1 + margin;
    return {
      top: Math.max(Math.floor(this.y - dy * grown), 0),
      left: Math.max(Math.floor(this.x - dx * grown), 0),
      bottom: Math.min(Math.ceil(this.y + dy * grown), this.height),
      right: Math.min(Math.ceil(this.x + dx * grown), this.width),
      step,
    };
  }

  /**
   * Zoom, so that the px of the image at (px, py) of the canvas stays there.
   * @param {number} factor
   * @param {number} [px]
   * @param {number} [py]
   */
  zoomAt(factor, px = this.paneWidth / 2, py = this.paneHeight / 2) {
    const [left, top] = this.origin;
    const [x, y] = [(px - left) / this.zoom, (py - top) / this.zoom];
    this.zoom = Math.min(Math.max(this.zoom * factor, this.wholeZoom / 2), MOST_ZOOM);
    this.x = x - (px - this.paneWidth / 2) / this.zoom;
    this.y = y - (py - this.paneHeight / 2) / this.zoom;
    this.keepInside();
  }

  /**
   * @param {number} dx px of the canvas
   * @param {number} dy
   */
  move(dx, dy) {
    this.x -= dx / this.zoom;
    this.y -= dy / this.zoom;
    this.keepInside();
  }

  keepInside() {
    this.x = Math.min(Math.max(this.x, 0), this.width);
    this.y = Math.min(Math.max(this.y, 0), this.height);
    this.changed();
  }

  /**
   * @param {number} x px of the image
   * @param {number} y
   * @param {number} across px of the image that are to be seen at least
   */
  show(x, y, across) {
    this.x = x;
    this.y = y;
    this.zoom = Math.max(this.zoom, Math.min(Math.min(this.paneWidth, this.paneHeight) / across, MOST_ZOOM));
    this.changed();
  }

  /**
   * @param {MouseEvent} event
   * @returns {[number, number]} px of the canvas
   */
  onCanvas(event) {
    const box = this.canvas.getBoundingClientRect();
    const ratio = this.canvas.width / box.width;
    return [(event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio];
  }

  /**
   * @param {MouseEvent} event
   * @returns {[number, number]} px of the first pane
   */
  place(event) {
    const [px, py] = this.onCanvas(event);
    return [px % this.paneWidth, py % this.paneHeight];
  }

  /**
   * @param {MouseEvent} event
   * @returns {number} which pane lies there, counted row by row
   */
  paneAt(event) {
    const [px, py] = this.onCanvas(event);
    return Math.floor(py / this.paneHeight) * this.panes + Math.floor(px / this.paneWidth);
  }

  /**
   * @param {number} pane
   * @returns {[number, number]} where it begins, px of the canvas
   */
  corner(pane) {
    return [(pane % this.panes) * this.paneWidth, Math.floor(pane / this.panes) * this.paneHeight];
  }

  /**
   * @param {MouseEvent} event
   * @returns {[number, number]} px of the image, x and y, with its fraction
   */
  exactly(event) {
    const [px, py] = this.place(event);
    const [left, top] = this.origin;
    return [(px - left) / this.zoom, (py - top) / this.zoom];
  }

  /**
   * @param {MouseEvent} event
   * @returns {[number, number]} px of the image, x and y
   */
  pixel(event) {
    const [x, y] = this.exactly(event);
    return [Math.floor(x), Math.floor(y)];
  }

  listen() {
    const { canvas } = this;
    /** @type {Map<number, [number, number]>} */
    const held = new Map();
    let moved = 0;
    /** @type {[number, number][]} */
    let line = [];
    const far = (/** @type {number[]} */ a, /** @type {number[]} */ b) => Math.hypot(a[0] - b[0], a[1] - b[1]);
    canvas.addEventListener(
      "wheel",
      (event) => {
        event.preventDefault();
        this.zoomAt(Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015)), ...this.place(event));
      },
      { passive: false },
    );
    canvas.addEventListener("pointerdown", (event) => {
      canvas.setPointerCapture(event.pointerId);
      held.set(event.pointerId, this.place(event));
      moved = 0;
      line = [this.exactly(event)];
    });
    canvas.addEventListener("pointermove", (event) => {
      this.hovered(...this.pixel(event), this.paneAt(event));
      const before = held.get(event.pointerId);
      if (!before) return;
      const now = this.place(event);
      if (this.drawn && held.size === 1) {
        line.push(this.exactly(event));
        this.drawn(line, false);
      } else if (held.size === 2) {
        const other = [...held.entries()].find(([id]) => id !== event.pointerId);
        if (other) { // a pinch
          const middle = [(now[0] + other[1][0]) / 2, (now[1] + other[1][1]) / 2];
          this.zoomAt(far(now, other[1]) / Math.max(far(before, other[1]), 1), middle[0], middle[1]);
        }
      } else {
        this.move(now[0] - before[0], now[1] - before[1]);
      }
      moved += far(now, before);
      held.set(event.pointerId, now);
    });
    const up = (/** @type {PointerEvent} */ event) => {
      if (!held.delete(event.pointerId) || event.type !== "pointerup") return;
      if (moved < 6) this.picked(...this.pixel(event), this.paneAt(event));
      else if (this.drawn) this.drawn(line, true);
    };
    canvas.addEventListener("pointerup", up);
    canvas.addEventListener("pointercancel", up);
    canvas.addEventListener("keydown", (event) => {
      const steps = { ArrowLeft: [60, 0], ArrowRight: [-60, 0], ArrowUp: [0, 60], ArrowDown: [0, -60] };
      const step = steps[/** @type {keyof typeof steps} */ (event.key)];
      if (step) {
        this.move(step[0], step[1]);
        event.preventDefault();
      }
    });
  }
}
