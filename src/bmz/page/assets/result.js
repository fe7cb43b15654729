// A model on the image with settings: its network is run once, its masks are made again and again.

import { ask, askPart, changePart, work } from "./server.js";
import { Mask } from "./mask.js";

/** @typedef {import("./controls.js").Parameter} Parameter */
/** @typedef {import("./parts.js").At} At */
/** @typedef {import("./parts.js").Span} Span */

/**
 * A correction; points are [y, x], px of the image.
 * @typedef {{kind: "delete" | "merge" | "split" | "draw", points: [number, number][], at: At}} Edit
 */
/**
 * What is chosen before the network is run; null for what the call says.
 * @typedef {{model: string, channels: string | null, scale: number | "auto" | null, invert: boolean | null}} Choice
 */

const MEASURED_AFTER_MS = 150;
const OPTION = /:(?=[a-z_]+=)/; // of one model, as `bmz open -m MODEL:channels=0,1` has it

export class Result {
  /**
   * @param {Choice} choice
   * @param {Record<string, string>} settings
   * @param {Edit[]} edits
   * @param {() => void} changed
   * @param {() => {at: At, needed: Span, wide: Span}} inView
   */
  constructor(choice, settings, edits, changed, inView) {
    this.choice = choice;
    this.settings = settings;
    this.edits = edits;
    this.changed = changed;
    this.inView = inView;
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
    /** @type {string | null} the channels of the call */
    this.channels = null;
    /** those that the network saw */
    this.fed = "";
    this.inverted = false;
    this.relabelling = false;
    this.again = false;
    /** @type {AbortController | null} */
    this.measuring = null;
  }

  /** The model in a word: of a folder its name; its own options are left out. */
  get model() {
    const [word] = this.choice.model.split(OPTION);
    return /^[./~]|^[A-Za-z]:/.test(word) ? word.split(/[\\/]/).filter(Boolean).pop() || word : word;
  }

  get name() {
    const more = Object.entries(this.settings).map(([key, value]) => ` ${key}=${value}`);
    const scale = typeof this.choice.scale === "number" ? ` scale=${this.choice.scale}` : "";
    const own = this.choice.model.split(OPTION).slice(1).map((option) => ` ${option}`);
    return this.model + own.join("") + scale + more.join("");
  }

  /**
   * Run the network on what is shown.
   * @param {number} image
   * @param {(event: any) => void} told
   * @param {AbortSignal} signal
   */
  async run(image, told, signal) {
    const { at, needed } = this.inView();
    const words = { ...this.choice, image, at, window: needed, settings: this.settings, edits: this.edits };
    const answer = await work("attempt", words, told, signal);
    const { attempt, parameters, recipe, scale, made_px, box, findings, channels, fed, invert, count } = answer;
    Object.assign(this, { parameters, recipe, scale, madePx: made_px, box, findings, channels, fed, inverted: invert, count, error: "" });
    this.mask = new Mask(attempt, this.changed, (at, span) => askPart("mask", { attempt, ...at, ...span }));
    this.ranAt = JSON.stringify(at);
    this.changed();
    await this.measure(signal);
  }

  /**
   * Measure the objects.
   * @param {AbortSignal} signal
   */
  async measure(signal) {
    if (this.mask) this.table = (await ask("objects", { attempt: this.mask.id }, signal)).table;
    this.changed();
  }

  /**
   * Measure the objects once the settings rest, so that no move of a slider waits for it.
   * @param {(why: unknown) => void} failed
   */
  measureSoon(failed) {
    const { signal } = (this.measuring = new AbortController());
    window.setTimeout(() => { if (!signal.aborted) this.measure(signal).catch(failed); }, MEASURED_AFTER_MS);
  }

  /**
   * Make the mask with the settings of now; while one is made, only the newest wish waits.
   * @param {(why: unknown) => void} failed
   */
  async relabel(failed) {
    if (!this.mask) return;
    this.measuring?.abort();
    if (this.relabelling) {
      this.again = true;
      return;
    }
    this.relabelling = true;
    try {
      do {
        this.again = false;
        await this.remake(this.mask);
      } while (this.again);
    } catch (why) {
      failed(why);
    } finally {
      this.relabelling = false;
    }
    this.measureSoon(failed);
  }

  /** @param {Mask} mask */
  async remake(mask) {
    const { at, wide } = this.inView();
    const words = { attempt: mask.id, settings: this.settings, edits: this.edits, at, window: wide };
    const { part, facts } = await changePart("relabel", words);
    if (mask !== this.mask) return; // the network has run again
    this.count = facts.count;
    mask.put(part, at);
    this.changed();
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

  /** How many objects there are, in words. */
  get counted() {
    return `${this.count} object${this.count === 1 ? "" : "s"}`;
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
