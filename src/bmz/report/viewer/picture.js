// The image: parts of its channels, brought together in colour.

import { holds } from "./parts.js";

/** @typedef {import("./parts.js").At} At */
/** @typedef {import("./parts.js").Part} Part */
/** @typedef {import("./parts.js").Span} Span */
/**
 * @typedef {{name: string, colour: string, on: boolean, low: number, high: number, least: number, most: number}} Channel
 */
/**
 * Gives a part of a channel; whoever asks can stop it.
 * @typedef {(channel: number, at: At, span: Span, signal: AbortSignal) => Promise<Part>} ChannelSource
 */

const GAMMA = 0.75; // a screen shows less of what is dim than a camera sees
const TABLE = 65536;

export class Picture {
  /**
   * @param {Channel[]} channels
   * @param {() => void} changed
   * @param {ChannelSource} source
   */
  constructor(channels, changed, source) {
    this.channels = channels;
    this.changed = changed;
    this.source = source;
    /** @type {(Part | null)[]} */
    this.parts = channels.map(() => null);
    this.canvas = document.createElement("canvas");
    this.shownAt = "";
    this.waitingFor = "";
    this.stopper = new AbortController();
    /** @type {(why: unknown) => void} */
    this.failed = () => {};
  }

  /**
   * Bring what is not there yet of a part of a plane.
   * @param {Span} needed
   * @param {Span} wide the same with a margin
   * @param {At} at
   */
  async bring(needed, wide, at) {
    const on = this.channels.map((_, i) => i).filter((i) => this.channels[i].on);
    const plane = `${at.t} ${at.z}`;
    const lacking = on.filter((i) => {
      const part = this.parts[i];
      return plane !== this.shownAt || !part || !holds(part, needed);
    });
    if (!lacking.length) return;
    const key = JSON.stringify([wide, at, lacking]);
    if (key === this.waitingFor) return;
    this.waitingFor = key;
    this.stopper.abort();
    this.stopper = new AbortController();
    const asked = plane === this.shownAt ? lacking : on;
    try {
      const parts = await Promise.all(
        asked.map((c) => this.source(c, at, wide, this.stopper.signal)),
      );
      if (plane !== this.shownAt) this.parts.fill(null);
      this.shownAt = plane;
      asked.forEach((c, i) => (this.parts[c] = parts[i]));
      this.waitingFor = "";
      this.compose();
      this.changed();
    } catch (why) {
      if (!(why instanceof DOMException && why.name === "AbortError")) {
        this.waitingFor = "";
        this.failed(why);
      }
    }
  }

  /** @returns {Part | null} one of the parts that are shown together */
  get part() {
    return this.shown()[0]?.part ?? null;
  }

  shown() {
    const there = this.channels.flatMap((channel, i) => {
      const part = this.parts[i];
      return channel.on && part ? [{ channel, part }] : [];
    });
    // while others are on their way, those of the newest place are shown
    const newest = there[there.length - 1];
    return there.filter(
      ({ part }) =>
        part.step === newest.part.step && part.top === newest.part.top && part.left === newest.part.left &&
        part.height === newest.part.height && part.width === newest.part.width,
    );
  }

  /** Bring the channels that are on together in colour. */
  compose() {
    const shown = this.shown();
    if (!shown.length) {
      this.canvas.width = this.canvas.height = 1;
      return;
    }
    const { height, width } = shown[0].part;
    this.canvas.width = width;
    this.canvas.height = height;
    const context = /** @type {CanvasRenderingContext2D} */ (this.canvas.getContext("2d"));
    const picture = context.createImageData(width, height);
    const lights = shown.map(({ channel, part }) => ({ light: brightness(channel, part), rgb: rgbOf(channel.colour) }));
    const words = new Uint32Array(picture.data.buffer);
    const count = words.length;
    if (lights.length === 1) {
      const { light, rgb } = lights[0];
      const table = new Uint32Array(256);
      for (let v = 0; v < 256; v++) {
        table[v] = 0xff000000 | ((rgb[2] * v) << 16) | ((rgb[1] * v) << 8) | (rgb[0] * v);
      }
      for (let i = 0; i < count; i++) words[i] = table[light[i]];
    } else {
      const { data } = picture;
      for (let i = 0; i < count; i++) {
        let r = 0, g = 0, b = 0;
        for (const { light, rgb } of lights) {
          const v = light[i];
          r += rgb[0] * v; g += rgb[1] * v; b += rgb[2] * v;
        }
        data[4 * i] = r; data[4 * i + 1] = g; data[4 * i + 2] = b; data[4 * i + 3] = 255;
      }
    }
    context.putImageData(picture, 0, 0);
  }

  /**
   * The values at a px of the image, one for each channel that is on.
   * @param {number} x
   * @param {number} y
   */
  valuesAt(x, y) {
    return this.shown().map(({ channel, part }) => {
      const [i, j] = [Math.floor((y - part.top) / part.step), Math.floor((x - part.left) / part.step)];
      const inside = i >= 0 && j >= 0 && i < part.height && j < part.width;
      return { name: channel.name, value: inside ? part.data[i * part.width + j] : null, mean: part.step > 1 };
    });
  }
}

/**
 * @param {string} colour such as #ff8800
 * @returns {number[]} shares of red, green and blue
 */
const rgbOf = (colour) => [1, 3, 5].map((at) => parseInt(colour.slice(at, at + 2), 16) / 255);

/**
 * Bring the values of a part to 0 to 255.
 * @param {Channel} channel
 * @param {Part} part
 */
function brightness(channel, part) {
  const { data } = part;
  const light = new Uint8Array(data.length);
  const range = Math.max(channel.high - channel.low, Number.EPSILON);
  const shade = (/** @type {number} */ value) => 255 * Math.min(Math.max((value - channel.low) / range, 0), 1) ** GAMMA;
  if (data instanceof Uint8Array || data instanceof Uint16Array) {
    const table = new Uint8Array(data instanceof Uint8Array ? 256 : TABLE);
    for (let v = 0; v < table.length; v++) table[v] = shade(v);
    for (let i = 0; i < data.length; i++) light[i] = table[data[i]];
  } else {
    for (let i = 0; i < data.length; i++) light[i] = shade(data[i]);
  }
  return light;
}
