// What happens, in words: errors, progress, what is read aloud.

import { state } from "./state.js";
import { $ } from "./controls.js";

const SAID_AFTER_MS = 500; // what is read aloud waits for the end of a movement

/** @param {unknown} why */
export function tell(why) {
  const text = why instanceof Error ? why.message : String(why);
  if (why instanceof DOMException && why.name === "AbortError") return;
  $("message").textContent = text;
  $("message").hidden = !text;
}

let saying = 0;
/** Have a screen reader say what a movement led to. @param {string} text */
export function say(text) {
  clearTimeout(saying);
  saying = window.setTimeout(() => { $("told").textContent = text; }, SAID_AFTER_MS);
}

/** @param {any} event */
export function tellProgress(event) {
  const share = event.total > 1 ? `: ${event.done} of ${event.total}` : "";
  if (!event.stage) return;
  $("busy").firstElementChild.textContent = `${event.stage}${share}`;
  say(event.stage); // not each of its steps
}

/**
 * Do what takes long, one after the other; it can be stopped.
 * @param {string} what
 * @param {(signal: AbortSignal) => Promise<void>} job
 */
export async function busy(what, job) {
  state.work?.abort();
  const stopper = (state.work = new AbortController());
  $("busy").hidden = false;
  $("busy").firstElementChild.textContent = what;
  say(what);
  document.body.dataset.busy = "yes";
  tell("");
  try {
    await job(stopper.signal);
  } catch (why) {
    tell(why);
  }
  if (state.work === stopper) {
    state.work = null;
    $("busy").hidden = true;
    delete document.body.dataset.busy;
  }
}
