// Which results are shown: of each model the one with the settings that its sliders say.

import { Mask } from "./mask.js";
import { Kept, cut, greysOf, labelsOf } from "./pixels.js";

/** @typedef {import("./document.js").ImageData_} ImageData_ */
/** @typedef {import("./document.js").ResultData} ResultData */
/** @typedef {import("./parts.js").At} At */
/** @typedef {import("./parts.js").Span} Span */

// Okabe and Ito 2008, "Color Universal Design": what people without red or green cones tell apart
const COLOURS = [0xe69f00, 0x56b4e9, 0xf0e442, 0x009e73, 0xcc79a7, 0xd55e00];
export const TRUTH = 0xffffff;

/** @param {number} rgb */
export const cssColour = (rgb) => `#${rgb.toString(16).padStart(6, "0")}`;

/** The pixels of an image and of its masks, plane by plane. */
export class ImagePixels {
  /** @param {ImageData_} image */
  constructor(image) {
    this.image = image;
    this.kept = new Kept();
  }

  /** @param {At} at */
  plane(at) {
    const places = Object.entries(this.image.at);
    return places.reduce((sum, [axis, shown]) => sum * shown.length + shown.indexOf(at[/** @type {"t" | "z"} */ (axis)]), 0);
  }

  /**
   * @param {string} name of the mask
   * @param {string[]} masks
   * @param {At} at
   * @returns {Promise<Uint32Array>} labels of a plane
   */
  labels(name, masks, at) {
    const { width, height } = this.image, plane = this.plane(at);
    return this.kept.get(`${name} ${plane}`, width * height, () => labelsOf(masks[plane], width, height));
  }

  /**
   * @param {string} name
   * @param {string[]} masks
   * @returns {import("./mask.js").MaskSource}
   */
  maskSource(name, masks) {
    const { width, height } = this.image;
    return async (at, span) => cut(await this.labels(name, masks, at), width, height, span, false);
  }

  /** @type {import("./picture.js").ChannelSource} */
  channelSource = async (channel, at, span) => {
    const { width, height } = this.image, plane = this.plane(at);
    const uri = this.image.channels[channel].uris[plane];
    const greys = await this.kept.get(`channel ${channel} ${plane}`, width * height, () => greysOf(uri, width, height));
    return cut(greys, width, height, span, true);
  };
}

let made = 0;

/** A model, or one of its results that is kept beside it, in the list of what can be shown. */
export class Entry {
  /**
   * @param {ImagePixels} pixels
   * @param {number} index of the result
   * @param {number} number of the entry, which gives its colour
   * @param {() => void} changed
   */
  constructor(pixels, index, number, changed) {
    this.pixels = pixels;
    this.index = index;
    this.colour = COLOURS[number % COLOURS.length];
    this.changed = changed;
    this.on = false;
    /** it was put beside by the user, who can take it away */
    this.beside = false;
    /** @type {Map<number, Mask>} */
    this.masks = new Map();
    /** what is drawn until the mask of now is there @type {Mask | null} */
    this.last = null;
    /** labels in the plane that is shown @type {Set<number>} */
    this.there = new Set();
    this.lookingAs = "";
    this.looking = Promise.resolve();
  }

  get image() {
    return this.pixels.image;
  }

  get result() {
    return this.image.results[this.index];
  }

  /** All results of its model. */
  get alike() {
    return this.image.results.filter((result) => result.model === this.result.model);
  }

  /** The parameters that were swept for its model, with the values that were tried. @returns {[string, string[]][]} */
  get parameters() {
    const { alike } = this;
    return Object.entries(this.image.sweep).flatMap(([key, values]) => {
      const tried = values.filter((value) => alike.some((result) => result.settings[key] === value));
      return tried.length > 1 ? [/** @type {[string, string[]]} */ ([key, tried])] : [];
    });
  }

  /**
   * Show the result with another value of a parameter.
   * @param {string} key
   * @param {string} value
   */
  set(key, value) {
    const wanted = { ...this.result.settings, [key]: value };
    const index = this.image.results.findIndex(
      (result) => result.model === this.result.model && Object.entries(wanted).every(([name, one]) => result.settings[name] === one),
    );
    if (index >= 0) this.index = index;
  }

  /** The mask of the result; null where it has none in the page. */
  get mask() {
    const { masks } = this.result;
    if (!masks) return null;
    let mask = this.masks.get(this.index);
    if (!mask) {
      mask = new Mask((made += 1), this.changed, this.pixels.maskSource(`result ${this.index}`, masks));
      this.masks.set(this.index, mask);
    }
    return mask;
  }

  /** The mask to draw: the last one while that of now is on its way, so that nothing flickers. */
  get drawn() {
    const { mask } = this;
    if (mask?.part || !mask) this.last = mask;
    return this.last;
  }

  /** Why there is no mask, in words. */
  get lack() {
    const { result } = this;
    return result.masks ? "" : result.error || "this one is in the table alone";
  }

  /**
   * Find out which objects lie in the plane that is shown.
   * @param {At} at
   */
  look(at) {
    const { masks } = this.result, { index } = this, as = `${index} ${this.pixels.plane(at)}`;
    if (as === this.lookingAs) return this.looking;
    this.lookingAs = as;
    this.looking = (async () => {
      const there = masks ? new Set(await this.pixels.labels(`result ${index}`, masks, at)) : new Set();
      if (as === this.lookingAs) this.there = there; // no other one was asked for since
    })();
    return this.looking;
  }
}

/**
 * Choose what is listed at first: each model with its best result; of one model alone its two best.
 * @param {ImagePixels} pixels
 * @param {() => void} changed
 * @returns {Entry[]} two of them are shown
 */
export function firstEntries(pixels, changed) {
  const { results } = pixels.image;
  const models = [...new Set(results.map((result) => result.model))];
  const best = models.map((model) => results.findIndex((result) => result.model === model && result.masks));
  const there = best.filter((index) => index >= 0).sort((a, b) => a - b);
  if (there.length === 1) {
    const second = results.findIndex((result, i) => i !== there[0] && result.masks);
    if (second >= 0) there.push(second);
  }
  return there.map((index, i) => {
    const entry = new Entry(pixels, index, i, changed);
    entry.on = i < 2;
    entry.beside = i > 0 && pixels.image.results[index].model === pixels.image.results[there[0]].model;
    return entry;
  });
}
