// Which plane and which channels of the image are shown, and the values under the pointer.

import { current, state } from "./state.js";
import { renewed } from "./drawing.js";
import { keepSoon } from "./keeping.js";
import { run } from "./results.js";
import { $, make } from "./controls.js";

export function drawPlanes() {
  const axes = Object.entries(state.facts.planes);
  $("planes").replaceChildren(...axes.map(([axis, count]) => {
    const key = /** @type {"t" | "z"} */ (axis);
    const bar = make("input", { id: `plane-${axis}`, type: "range", min: 0, max: count - 1, value: state.at[key] });
    const told = make("span", {}, `${state.at[key]} of ${count - 1}`);
    bar.addEventListener("input", () => {
      state.at = { ...state.at, [key]: Number(bar.value) };
      told.textContent = `${bar.value} of ${count - 1}`;
      state.picked = 0;
      renewed();
      keepSoon();
    });
    bar.addEventListener("change", planeChosen);
    return make("label", {}, `${axis} `, bar, " ", told);
  }));
}

/** A network that sees one plane is run on the one that is shown. */
function planeChosen() {
  const result = current();
  if (result && result.mask && result.ranAt !== JSON.stringify(state.at) && Object.keys(result.box).some((axis) => axis === "t" || axis === "z")) {
    void run(result);
  }
}

export function drawChannels() {
  const { picture } = state;
  if (!picture) return;
  const changed = () => { picture.compose(); renewed(); keepSoon(); };
  $("channels").replaceChildren(...picture.channels.map((channel, i) => {
    const on = make("input", { type: "checkbox", checked: channel.on, onchange: () => { channel.on = on.checked; changed(); } });
    const colour = make("input", { type: "color", value: channel.colour, ariaLabel: `colour of ${channel.name}`, oninput: () => { channel.colour = colour.value; changed(); } });
    const step = (channel.most - channel.least) / 500 || 1;
    const bar = (/** @type {"low" | "high"} */ end, /** @type {string} */ what) => {
      const made = make("input", { type: "range", min: channel.least, max: channel.most, step, value: channel[end], ariaLabel: `${channel.name}: what is ${what}` });
      made.addEventListener("input", () => { channel[end] = Number(made.value); changed(); });
      return make("label", { className: "end" }, `${what} `, made);
    };
    return make("div", { className: "channel" }, make("label", {}, on, channel.name === `channel ${i}` ? ` ${channel.name}` : ` ${i} ${channel.name}`), colour, bar("low", "black"), bar("high", "white"));
  }));
}

/** @param {number} x @param {number} y */
export function showValue(x, y) {
  const values = state.picture?.valuesAt(x, y) || [];
  const known = values.filter(({ value }) => value !== null);
  const label = current()?.mask?.labelAt(x, y);
  const told = known.map(({ name, value, mean }) => `${name} ${mean ? "about " : ""}${Number(Number(value).toPrecision(6))}`);
  $("value").textContent = known.length ? `x ${x}, y ${y}: ${told.join(", ")}${label ? `; object ${label}` : ""}` : "\u00a0";
}

/** @param {number} way */
export function stepPlane(way) {
  const bar = document.querySelector("#planes input");
  if (!(bar instanceof HTMLInputElement)) return;
  bar.value = String(Number(bar.value) + way);
  bar.dispatchEvent(new Event("input"));
  bar.dispatchEvent(new Event("change"));
}
