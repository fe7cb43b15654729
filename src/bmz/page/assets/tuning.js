// The settings of a result: what its network sees, and the parameters of its recipe.

import { current, state } from "./state.js";
import { keepSoon } from "./keeping.js";
import { drawResults, relabel, run } from "./results.js";
import { advised } from "./advice.js";
import { $, control, make, slider } from "./controls.js";

/** @typedef {import("./result.js").Choice} Choice */
/** @typedef {import("./result.js").Result} Result */

const SCALES = { low: -2, high: 2, step: 0.05 }; // powers of 2

export function drawTuning() {
  const result = current();
  $("tuning").hidden = !result?.mask && !result?.error;
  if (!result) return;
  $("tuned").textContent = result.model;
  const shown = (/** @type {boolean} */ notes) => result.findings
    .filter((found) => (found.severity === "note") === notes)
    .sort((a, b) => a.severity.localeCompare(b.severity))
    .map((found) => make("li", { className: found.severity }, make("b", {}, found.severity), ` ${found.message} `, make("small", {}, found.hint), ...follow(result, found)));
  $("findings").replaceChildren(...shown(false));
  $("notes").lastElementChild.replaceChildren(...shown(true));
  $("notes").hidden = !result.findings.some((found) => found.severity === "note");
  drawNetwork(result);
  for (const [id, own] of /** @type {[string, boolean][]} */ ([["parameters", true], ["finish", false]])) {
    const some = result.parameters.filter((parameter) => parameter.own === own);
    $(id).replaceChildren(...some.map((parameter) => control(parameter, result.settings[parameter.name] ?? parameter.value, (value) => {
      result.settings = { ...result.settings, [parameter.name]: value };
      if (value === String(parameter.value)) delete result.settings[parameter.name]; // that of the model
      relabel(result);
      drawResults();
      keepSoon();
    })));
  }
}

/** @param {Result} result @param {Partial<Choice>} words */
export function runAgain(result, words) {
  result.choice = { ...result.choice, ...words };
  void run(result);
}

/** @param {Result} result @param {{severity: string, hint: string}} found */
function follow(result, found) {
  const words = found.severity === "note" ? null : advised(found.hint);
  return words ? [" ", make("button", { type: "button", className: "small", ariaLabel: `Do this: ${found.hint}`, onclick: () => runAgain(result, words) }, "Do this")] : [];
}

/** One button for each channel of the image, for models that take one. @param {Result} result */
function channelButtons(result) {
  const { channels } = state.facts;
  if (channels.length < 2 || channels.length > 8) return [];
  return channels.map((/** @type {any} */ channel, /** @type {number} */ i) => make("button", { type: "button", id: `only-${i}`, className: "small", ariaLabel: `only ${i}: ${channel.name}`, onclick: () => runAgain(result, { channels: String(i) }) }, `only ${i}`));
}

/** @param {Result} result */
function drawNetwork(result) {
  const again = (/** @type {Partial<Choice>} */ words) => runAgain(result, words);
  const made = result.madePx;
  const ends = made ? { low: made / 8, high: made * 8, step: made / 50 } : { low: 2 ** SCALES.low, high: 2 ** SCALES.high, step: SCALES.step };
  const value = made ? made / result.scale : result.scale;
  let timer = 0;
  const [bar, field] = slider("scale", made ? "object diameter" : "scale", ends, value, (word) => {
    clearTimeout(timer);
    const scale = Number(((made ? made / Number(word) : Number(word))).toPrecision(4));
    if (scale > 0) timer = window.setTimeout(() => again({ scale }), 250);
  });
  const what = made
    ? `px of the image; the network is made for objects of ${Number(made.toPrecision(3))} px, so the image is ${result.scale === 1 ? "not resized" : `resized by ${Number(result.scale.toPrecision(3))}`}`
    : "the image is resized by this factor for the network";
  const invert = make("input", { type: "checkbox", id: "invert", checked: result.inverted, onchange: () => again({ invert: invert.checked }) });
  const channels = make("input", { id: "net-channels", type: "text", size: 6, value: result.choice.channels ?? result.channels ?? "", placeholder: result.fed,
    onchange: () => again({ channels: channels.value.trim() || null }) });
  const auto = make("button", { type: "button", id: "auto", className: "small", onclick: () => again({ scale: "auto" }) }, "Find the size");
  $("network").replaceChildren(
    make("div", { className: "parameter" }, make("label", { htmlFor: "scale" }, made ? "object diameter" : "scale"), bar, field, make("small", {}, what, " ", auto)),
    make("div", { className: "parameter" }, make("label", { htmlFor: "net-channels" }, "channels"), channels, make("small", {}, `image channel for each channel of the model, such as 1,0${result.fed ? `; it sees ${result.fed}` : ""} `, ...channelButtons(result))),
    make("div", { className: "parameter" }, make("label", { htmlFor: "invert" }, "invert"), invert, make("small", {}, "turn bright into dark")),
  );
}
