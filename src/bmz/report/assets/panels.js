// The panels beside the picture: results with the sliders of what was swept, planes, channels.

import { histogram } from "./chart.js";
import { keepingFocus, make } from "./controls.js";
import { TRUTH, cssColour } from "./entries.js";

/** @typedef {import("./entries.js").Entry} Entry */
/** @typedef {import("./picture.js").Picture} Picture */
/** @typedef {import("./document.js").ImageData_} ImageData_ */

/**
 * What the user does with the list of results.
 * @typedef {{choose: (entry: Entry) => void, toggle: (entry: Entry) => void, set: (entry: Entry, key: string, value: string) => void,
 *   putBeside: () => void, remove: (entry: Entry) => void, toggleTruth: () => void}} Acts
 */

/** @param {number} rgb */
function swatch(rgb) {
  const made = make("i", { className: "swatch" });
  made.style.background = cssColour(rgb);
  return made;
}

/**
 * @param {HTMLElement} box
 * @param {ImageData_} image
 * @param {{entries: Entry[], current: Entry, other: Entry | null, mode: string, truth: unknown, truthOn: boolean}} shown
 * @param {Acts} acts
 */
export function drawResults(box, image, shown, acts) {
  keepingFocus(() => {
    const list = shown.entries.map((entry, i) => entryOf(entry, i, shown, acts));
    if (shown.truth) {
      const words = image.known ? "truth" : "consensus";
      const on = make("input", { id: "truth", type: "checkbox", checked: shown.truthOn, onchange: acts.toggleTruth });
      list.push(make("label", { className: "entry truth" }, on, swatch(TRUTH), make("span", {}, words), make("kbd", {}, "t")));
    }
    const failed = image.results.filter((result) => result.error).map((result) => make("p", { className: "failed" }, `${result.name}: ${result.error}`));
    const more = image.left_out ? [make("p", { className: "soft" }, `${image.left_out} more are in the table alone.`)] : [];
    box.replaceChildren(...list, ...failed, ...more);
  });
}

/** What is told of an entry, which changes while its sliders are moved. @type {WeakMap<Entry, () => void>} */
const told = new WeakMap();

/** Tell of an entry what is true now. @param {Entry} entry */
export const retell = (entry) => told.get(entry)?.();

/**
 * @param {Entry} entry
 * @param {number} i
 * @param {{current: Entry, other: Entry | null, mode: string}} shown
 * @param {Acts} acts
 */
function entryOf(entry, i, shown, acts) {
  const chosen = entry === shown.current, id = `entry-${i}`, { title } = entry.result;
  const on = make("input", { id: `${id}-on`, type: "checkbox", ariaLabel: `show ${title}`, onchange: () => acts.toggle(entry) });
  const name = make("button", { id, type: "button", className: "name", title: "choose it: its objects and sliders", onclick: () => acts.choose(entry) }, title);
  name.setAttribute("aria-pressed", String(chosen));
  const figure = make("span", { className: "figure" });
  const head = make("div", { className: "head" }, on, swatch(entry.colour), name, figure, ...(i < 9 ? [make("kbd", {}, String(i + 1))] : []));
  if (entry.beside) head.append(make("button", { id: `${id}-remove`, type: "button", className: "small", title: "take it away", ariaLabel: `take away ${title}`, onclick: () => acts.remove(entry) }, "\u00d7"));
  const count = make("p", { className: "soft" });
  const sliders = entry.parameters.map(([key, values]) => sliderOf(`${id}-${key}`, key, values, () => entry.result.settings[key], (value) => acts.set(entry, key, value)));
  const tell = () => {
    const { result, lack } = entry;
    on.checked = entry.on;
    figure.textContent = lack ? "failed" : result.figure;
    count.textContent = lack || result.counted;
    for (const slider of sliders) slider.tell();
  };
  told.set(entry, tell);
  tell();
  const beside = sliders.length && chosen
    ? [make("button", { id: `${id}-beside`, type: "button", className: "small", onclick: acts.putBeside, title: "keep this setting in the list, beside what the sliders show (k)" }, "Keep beside")]
    : [];
  const made = make("div", { className: "entry" }, head, make("div", { className: "more" }, count, ...sliders.map(({ row }) => row), ...beside));
  made.toggleAttribute("data-current", chosen);
  return made;
}

/**
 * @param {string} id
 * @param {string} key
 * @param {string[]} values
 * @param {() => string} value
 * @param {(value: string) => void} changed
 */
function sliderOf(id, key, values, value, changed) {
  const bar = make("input", { id, type: "range", min: 0, max: values.length - 1, step: 1 });
  const output = make("output", {});
  const tell = () => {
    bar.value = Math.max(values.indexOf(value()), 0);
    bar.setAttribute("aria-valuetext", value());
    output.textContent = value();
  };
  bar.addEventListener("input", () => changed(values[Number(bar.value)]));
  return { row: make("label", { className: "sweep" }, make("span", {}, key), bar, output), tell };
}

/**
 * Draw a slider for each axis along which there are planes.
 * @param {HTMLElement} box
 * @param {ImageData_} image
 * @param {Record<string, number>} at
 * @param {(axis: string, place: number) => void} changed
 */
export function drawPlanes(box, image, at, changed) {
  const axes = Object.entries(image.at).filter(([, places]) => places.length > 1);
  box.replaceChildren(...axes.map(([axis, places]) => {
    const bar = make("input", { id: `plane-${axis}`, type: "range", min: 0, max: places.length - 1, value: places.indexOf(at[axis]) });
    const few = places.length < image.sizes[axis] ? `, ${places.length} of ${image.sizes[axis]} are here` : "";
    const words = () => `${places[Number(bar.value)]} of 0\u2013${image.sizes[axis] - 1}${few}`;
    const told = make("output", {}, words());
    bar.addEventListener("input", () => {
      told.textContent = words();
      changed(axis, places[Number(bar.value)]);
    });
    return make("label", {}, make("b", {}, axis), bar, told);
  }));
}

/**
 * @param {HTMLElement} box
 * @param {Picture} picture
 * @param {() => void} changed
 */
export function drawChannels(box, picture, changed) {
  const redraw = () => { picture.compose(); changed(); };
  box.replaceChildren(...picture.channels.map((channel, i) => {
    const on = make("input", { type: "checkbox", checked: channel.on });
    on.addEventListener("change", () => { channel.on = on.checked; redraw(); });
    const colour = make("input", { type: "color", value: channel.colour, ariaLabel: `colour of ${channel.name}` });
    colour.addEventListener("input", () => { channel.colour = colour.value; redraw(); });
    const bar = (/** @type {"low" | "high"} */ end, /** @type {string} */ what) => {
      const made = make("input", { id: `channel-${i}-${end}`, type: "range", min: channel.least, max: channel.most, value: channel[end], ariaLabel: `${channel.name}: what is ${what}` });
      made.addEventListener("input", () => { channel[end] = Number(made.value); redraw(); });
      return make("label", { className: "end" }, what, made);
    };
    return make("div", { className: "channel" }, make("label", {}, on, channel.name), colour, bar("low", "black"), bar("high", "white"));
  }));
}

/**
 * Show the sizes of the objects of the entries that are on, one below the other, over the same range.
 * @param {HTMLElement} box
 * @param {Entry[]} entries
 * @param {string} unit
 */
export function drawSizes(box, entries, unit) {
  const on = entries.filter((entry) => entry.on && entry.result.masks && entry.result.sizes.length);
  let most = 0;
  for (const { result } of on) for (const size of result.sizes) most = Math.max(most, size);
  box.replaceChildren(...on.flatMap((entry) => {
    const charts = histogram(`diameter, ${unit === "um" ? "\u00b5m" : unit}`, entry.result.sizes, [0, most]);
    for (const chart of charts) {
      chart.setAttribute("style", `--bar: ${cssColour(entry.colour)}`);
      chart.setAttribute("aria-label", `${entry.result.name}, ${chart.getAttribute("aria-label")}`);
    }
    return charts;
  }));
}
