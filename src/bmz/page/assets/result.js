// A model on the image with settings: its network is run once, its masks are made again and again.

import { ask, askPart, change, work } from "./server.js";
import { Mask } from "./mask.js";

/** @typedef {import("./controls.js").Parameter} Parameter */
/** @typedef {import("./parts.js").At} At */
/** @typedef {import("./parts.js").Span} Span */

/**
 * A correction; points are [y, x], px of the image.
 * @typedef {{kind: "delete" | "merge" | "split" | "draw", points: [number, number][], at: At}} Edit
 */
/**
 * What is chosen before the network is run.
 * @typedef {{model: string, channels: number[] | null, scale: number | "auto" | null, invert: boolean}} Choice
 */

export class Result {
  /**
   * @param {Choice} choice
   * @param {Record<string, string>} settings
   * @param {Edit[]} edits
   * @param {() => void} changed
   */
  constructor(choice, settings, edits, changed) {
    this.choice = choice;
    this.settings = settings;
    this.edits = edits;
    this.changed = changed;
    /** @type {Mask | null} */
    this.mask = null;
    /** @type {Parameter[]} */
    this.parameters = [];
    /** @type {{code: string, severity: string, message: string, hint: string}[]} */
    this.findings = [];
    /** @type {Record<string, any[]>} */
    this.table = {};
    this.count = 0;
    this.scale = 1;
    this.recipe = "";
    /** @type {number | null} */
    this.madePx = null;
    /** @type {Record<string, [number, number]>} */
    this.box = {};
    this.error = "";
    this.ranAt = "";
    this.relabelling = false;
    this.again = false;
  }

  /** The model in a word: of a folder its name. */
  get model() {
    return /^[./~]|^[A-Za-z]:/.test(this.choice.model) ? this.choice.model.split(/[\\/]/).filter(Boolean).pop() : this.choice.model;
  }

  get name() {
    const more = Object.entries(this.settings).map(([key, value]) => ` ${key}=${value}`);
    const scale = typeof this.choice.scale === "number" ? ` scale=${this.choice.scale}` : "";
    return this.model + scale + more.join("");
  }

  /**
   * Run the network on what is shown.
   * @param {number} image
   * @param {At} at
   * @param {Span} window
   * @param {(event: any) => void} told
   * @param {AbortSignal} signal
   */
  async run(image, at, window, told, signal) {
    const words = { ...this.choice, image, at, window, settings: this.settings, edits: this.edits };
    const answer = await work("attempt", words, told, signal);
    const { attempt, parameters, recipe, scale, made_px, box, findings } = answer;
    Object.assign(this, { parameters, recipe, scale, madePx: made_px, box, findings, error: "" });
    this.mask = new Mask(attempt, this.changed, (at, span) => askPart("mask", { attempt, ...at, ...span }));
    this.ranAt = JSON.stringify(at);
    this.take(answer);
    await this.measure();
  }

  /** @param {any} answer */
  take(answer) {
    this.count = answer.count;
    this.mask?.renew();
    this.changed();
  }

  /** Measure the objects, once the mask is on its way. */
  async measure() {
    if (this.mask) this.table = (await ask("objects", { attempt: this.mask.id })).table;
    this.changed();
  }

  /**
   * Make the mask with the settings of now; while one is made, only the newest wish waits.
   * @param {(why: unknown) => void} failed
   */
  async relabel(failed) {
    if (!this.mask) return;
    if (this.relabelling) {
      this.again = true;
      return;
    }
    this.relabelling = true;
    try {
      do {
        this.again = false;
        this.take(await change("relabel", { attempt: this.mask.id, settings: this.settings, edits: this.edits }));
        if (!this.again) await this.measure();
      } while (this.again);
    } catch (why) {
      failed(why);
    } finally {
      this.relabelling = false;
    }
  }

  /**
   * Correct the mask; a correction that does nothing is taken back.
   * @param {Edit} edit
   * @param {(why: unknown) => void} failed
   */
  async correct(edit, failed) {
    this.edits = [...this.edits, edit];
    await this.relabel((why) => {
      this.edits = this.edits.filter((other) => other !== edit);
      failed(why);
    });
  }

  /**
   * The row of an object in the table: heading and value.
   * @param {number} label
   * @returns {[string, any][]}
   */
  row(label) {
    const at = (this.table.label || []).indexOf(label);
    return at < 0 ? [] : Object.entries(this.table).map(([heading, column]) => [heading, column[at]]);
  }
}
