// Pixels that lie in the page, packed: unpacked when they are shown, the last of them kept.

/** @typedef {import("./parts.js").Part} Part */
/** @typedef {import("./parts.js").Span} Span */

const KEPT_PX = 2 ** 25;

/**
 * @template T
 * @typedef {{px: number, value: Promise<T>}} Entry
 */

/** Keeps what was asked for last, up to a number of pixels. */
export class Kept {
  constructor() {
    /** @type {Map<string, Entry<any>>} */
    this.entries = new Map();
  }

  /**
   * @template T
   * @param {string} key
   * @param {number} px
   * @param {() => Promise<T>} make
   * @returns {Promise<T>}
   */
  get(key, px, make) {
    const entry = this.entries.get(key) || { px, value: make() };
    this.entries.delete(key);
    this.entries.set(key, entry);
    let sum = 0;
    for (const { px: one } of this.entries.values()) sum += one;
    for (const [old, { px: one }] of this.entries) {
      if (sum <= KEPT_PX || old === key) break;
      this.entries.delete(old);
      sum -= one;
    }
    return entry.value;
  }
}

/**
 * Unpack labels: differences from pixel to pixel along a row, as four bytes each, one byte plane after the other.
 * @param {string} packed
 * @param {number} width
 * @param {number} height
 */
export async function labelsOf(packed, width, height) {
  const deflated = Uint8Array.from(atob(packed), (c) => c.charCodeAt(0));
  const stream = new Blob([deflated]).stream().pipeThrough(new DecompressionStream("deflate"));
  const bytes = new Uint8Array(await new Response(stream).arrayBuffer());
  const size = width * height, labels = new Uint32Array(size);
  for (let y = 0; y < height; y++) {
    let before = 0;
    for (let i = y * width; i < (y + 1) * width; i++) {
      before = (before + (bytes[i] | (bytes[size + i] << 8) | (bytes[2 * size + i] << 16) | (bytes[3 * size + i] << 24))) | 0;
      labels[i] = before;
    }
  }
  return labels;
}

/**
 * Read the brightness of a grey picture.
 * @param {string} uri
 * @param {number} width
 * @param {number} height
 */
export async function greysOf(uri, width, height) {
  const picture = new Image();
  picture.src = uri;
  await picture.decode();
  const canvas = Object.assign(document.createElement("canvas"), { width, height });
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d", { willReadFrequently: true }));
  context.drawImage(picture, 0, 0, width, height);
  const { data } = context.getImageData(0, 0, width, height);
  const greys = new Uint8Array(width * height);
  for (let i = 0; i < greys.length; i++) greys[i] = data[4 * i];
  return greys;
}

/**
 * Cut a part out of a plane; a pixel of it is the first of those that it stands for, or their mean.
 * @param {Uint8Array | Uint32Array} plane
 * @param {number} width
 * @param {number} height
 * @param {Span} span
 * @param {boolean} mean
 * @returns {Part}
 */
export function cut(plane, width, height, span, mean) {
  const { step } = span;
  const top = Math.floor(span.top / step) * step, left = Math.floor(span.left / step) * step;
  const rows = Math.max(Math.ceil((Math.min(span.bottom, height) - top) / step), 1);
  const columns = Math.max(Math.ceil((Math.min(span.right, width) - left) / step), 1);
  const data = plane instanceof Uint8Array ? new Uint8Array(rows * columns) : new Uint32Array(rows * columns);
  const first = mean ? 0 : step >> 1; // of labels the one in the middle
  for (let i = 0; i < rows; i++) {
    for (let j = 0; j < columns; j++) {
      const y = top + i * step, x = left + j * step;
      if (!mean || step === 1) {
        data[i * columns + j] = plane[Math.min(y + first, height - 1) * width + Math.min(x + first, width - 1)];
        continue;
      }
      const bottom = Math.min(y + step, height), right = Math.min(x + step, width);
      let sum = 0;
      for (let k = y; k < bottom; k++) for (let l = x; l < right; l++) sum += plane[k * width + l];
      data[i * columns + j] = sum / Math.max((bottom - y) * (right - x), 1);
    }
  }
  return { top, left, step, height: rows, width: columns, data };
}
