// A label mask: its parts, its outlines, and how it differs from another one.

import { holds } from "./parts.js";

/** @typedef {import("./parts.js").At} At */
/** @typedef {import("./parts.js").Part} Part */
/** @typedef {import("./parts.js").Span} Span */
/**
 * Gives a part of the mask.
 * @typedef {(at: At, span: Span) => Promise<Part>} MaskSource
 */

// Okabe and Ito 2008, "Color Universal Design": what people without red or green cones tell apart
export const COLOURS = [0xf0e442, 0x56b4e9, 0xe69f00, 0x009e73, 0xcc79a7, 0xd55e00];
const ALIKE = 0x9a9a9a, ONLY_HERE = 0xe69f00, ONLY_THERE = 0x56b4e9;
const FILL = 0x66;
const SAME = 0.5; // overlap from which two objects are the same

/** @param {number} rgb @param {number} alpha */
const word = (rgb, alpha) =>
  ((alpha << 24) | ((rgb & 0xff) << 16) | (rgb & 0xff00) | (rgb >> 16)) >>> 0;

export class Mask {
  /**
   * @param {number} id of the mask among those that are shown
   * @param {() => void} changed
   * @param {MaskSource} source
   */
  constructor(id, changed, source) {
    this.id = id;
    this.changed = changed;
    this.source = source;
    /** @type {Part | null} */
    this.part = null;
    this.canvas = document.createElement("canvas");
    this.version = 0;
    this.shownAs = "";
    this.partAs = "";
    this.waitingFor = "";
    /** @type {(why: unknown) => void} */
    this.failed = () => {};
  }

  /** The labels have changed: what is shown is out of date. */
  renew() {
    this.version += 1;
  }

  /**
   * Take a part of the mask that has changed.
   * @param {Part} part
   * @param {At} at
   */
  put(part, at) {
    this.renew();
    this.part = part;
    this.partAs = `${this.version} ${at.t} ${at.z}`;
    this.shownAs = this.waitingFor = ""; // what was asked for before is out of date
  }

  /**
   * Bring a part of the mask.
   * @param {Span} needed
   * @param {Span} wide
   * @param {At} at
   */
  async bring(needed, wide, at) {
    const as = `${this.version} ${at.t} ${at.z}`;
    if (this.part && as === this.partAs && holds(this.part, needed)) return;
    const key = JSON.stringify([as, wide]);
    if (key === this.waitingFor) return;
    this.waitingFor = key;
    try {
      const part = await this.source(at, wide);
      if (this.waitingFor !== key) return; // another one was asked for since
      this.part = part;
      this.partAs = as;
      this.shownAs = "";
      this.waitingFor = "";
      this.changed();
    } catch (why) {
      this.waitingFor = "";
      this.failed(why);
    }
  }

  /**
   * The label at a px of the image, 0 for background.
   * @param {number} x
   * @param {number} y
   */
  labelAt(x, y) {
    const { part } = this;
    if (!part) return 0;
    const [i, j] = [Math.floor((y - part.top) / part.step), Math.floor((x - part.left) / part.step)];
    return i < 0 || j < 0 || i >= part.height || j >= part.width ? 0 : part.data[i * part.width + j];
  }

  /**
   * Draw the objects of the part.
   * @param {{filled: boolean, picked: number, other: Mask | null, thick: number, one?: number}} style
   *   `other` to show how it differs from another mask, `one` colour for all objects, as 0xrrggbb,
   *   `thick` px of the part, 0 for no outlines
   */
  paint({ filled, picked, other, thick, one }) {
    const { part, canvas } = this;
    if (!part) return null;
    const as = JSON.stringify([this.partAs, filled, picked, thick, one, other ? [other.id, other.partAs, other.part?.top, other.part?.left] : 0]);
    if (as === this.shownAs) return canvas;
    this.shownAs = as;
    canvas.width = part.width;
    canvas.height = part.height;
    const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
    const picture = context.createImageData(part.width, part.height);
    const words = new Uint32Array(picture.data.buffer);
    const told = other && other.part ? differences(part, other.part) : null;
    if (told && other?.part) outlines(words, other.part, part, (label) => (told.there.has(label) ? 0 : ONLY_THERE), 0, thick);
    const colour = (/** @type {number} */ label) =>
      told ? (told.here.has(label) ? ALIKE : ONLY_HERE) : one ?? COLOURS[(label * 5 + (label >> 3)) % COLOURS.length];
    outlines(words, part, part, (label) => (label === picked ? 0xffffff : colour(label)), filled ? FILL : 0, thick);
    context.putImageData(picture, 0, 0);
    return canvas;
  }
}

/**
 * Write outlines into a picture of the place of `onto`; what the background around them is, is
 * darkened, so that they are seen on what is bright, too.
 * @param {Uint32Array} words
 * @param {Part} part
 * @param {Part} onto
 * @param {(label: number) => number} colour 0 for none
 * @param {number} fill
 * @param {number} thick
 */
function outlines(words, part, onto, colour, fill, thick) {
  const { data, height, width } = part;
  const same = part === onto;
  if (!same && (part.step !== onto.step)) return;
  const [down, right] = same ? [0, 0] : [(part.top - onto.top) / part.step, (part.left - onto.left) / part.step];
  const dark = word(0, 0x70);
  /** @type {Map<number, number>} */
  const colours = new Map();
  for (let y = 0; y < height; y++) {
    const row = y + down;
    if (row < 0 || row >= onto.height) continue;
    for (let x = 0; x < width; x++) {
      const column = x + right;
      if (column < 0 || column >= onto.width) continue;
      const i = y * width + x, label = data[i];
      const edge = thick > 0 && (
        (x > 0 && data[i - 1] !== label) || (x + 1 < width && data[i + 1] !== label) ||
        (y > 0 && data[i - width] !== label) || (y + 1 < height && data[i + width] !== label) ||
        (thick > 1 && ((x > 1 && data[i - 2] !== label) || (x + 2 < width && data[i + 2] !== label) ||
          (y > 1 && data[i - 2 * width] !== label) || (y + 2 < height && data[i + 2 * width] !== label))));
      if (!label) {
        if (edge && !words[row * onto.width + column]) words[row * onto.width + column] = dark;
        continue;
      }
      if (!edge && !fill) continue;
      let own = colours.get(label);
      if (own === undefined) colours.set(label, (own = colour(label)));
      if (own) words[row * onto.width + column] = word(own, edge ? 0xff : fill);
    }
  }
}

/**
 * Find the objects that two masks share.
 * @param {Part} here
 * @param {Part} there
 * @returns {{here: Set<number>, there: Set<number>}} labels that have a partner
 */
export function differences(here, there) {
  /** @type {Map<number, number>} */
  const areas = new Map(), others = new Map(), both = new Map();
  const add = (/** @type {Map<number, number>} */ counts, /** @type {number} */ key) => counts.set(key, (counts.get(key) || 0) + 1);
  for (const label of here.data) if (label) add(areas, label);
  for (const label of there.data) if (label) add(others, label);
  const most = 2 ** 26;
  for (let y = 0; y < here.height; y++) {
    const row = Math.floor((here.top + y * here.step - there.top) / there.step);
    if (row < 0 || row >= there.height) continue;
    for (let x = 0; x < here.width; x++) {
      const label = here.data[y * here.width + x];
      const column = Math.floor((here.left + x * here.step - there.left) / there.step);
      if (!label || column < 0 || column >= there.width) continue;
      const other = there.data[row * there.width + column];
      if (other) add(both, label * most + other);
    }
  }
  const found = { here: new Set(), there: new Set() };
  for (const [key, shared] of both) {
    const label = Math.floor(key / most), other = key % most;
    if (shared / ((areas.get(label) || 0) + (others.get(other) || 0) - shared) > SAME) {
      found.here.add(label);
      found.there.add(other);
    }
  }
  return found;
}
