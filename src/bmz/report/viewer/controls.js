// Controls of the page: sliders with a number beside them, and elements made in one call.

/**
 * @param {string} tag
 * @param {Record<string, unknown>} properties
 * @param {...(Node | string)} children
 * @returns {any}
 */
export function make(tag, properties = {}, ...children) {
  const element = Object.assign(document.createElement(tag), properties);
  element.append(...children);
  return element;
}

/** @param {string} id @returns {any} */
export const $ = (id) => document.getElementById(id);

/**
 * Draw controls again; the keyboard stays at the one that had it, if there is one of that name.
 * @param {() => void} redraw
 */
export function keepingFocus(redraw) {
  const held = document.activeElement;
  redraw();
  if (held?.id && !held.isConnected) $(held.id)?.focus();
}

/**
 * @typedef {{name: string, what: string, value: any, kind: string, low: number | null,
 *   high: number | null, choices: string[], own: boolean}} Parameter
 */

/**
 * Make the control of a parameter of a recipe.
 * @param {Parameter} parameter
 * @param {any} value
 * @param {(value: string) => void} changed
 */
export function control(parameter, value, changed) {
  const { name, what, kind } = parameter;
  const id = `set-${name}`;
  const heading = make("label", { htmlFor: id, title: what }, name);
  const note = make("small", {}, what);
  if (kind === "bool") {
    const box = make("input", { id, type: "checkbox", checked: value === true || value === "true" });
    box.addEventListener("change", () => changed(String(box.checked)));
    return make("div", { className: "parameter" }, heading, box, note);
  }
  if (kind === "str") {
    const field = parameter.choices.length
      ? make("select", { id }, ...parameter.choices.map((word) => make("option", { value: word, selected: word === value }, word || "(none)")))
      : make("input", { id, type: "text", value });
    field.addEventListener("change", () => changed(field.value));
    return make("div", { className: "parameter" }, heading, field, note);
  }
  return make("div", { className: "parameter" }, heading, ...slider(id, name, range(parameter), Number(value), changed), note);
}

/**
 * Choose the ends of a slider: those of the parameter, or what is likely to be tried.
 * @param {Parameter} parameter
 */
function range(parameter) {
  const value = Number(parameter.value);
  const low = parameter.low ?? Math.min(0, 4 * value);
  const high = parameter.high ?? Math.max(4 * Math.abs(value), parameter.kind === "int" ? 200 : 10);
  return { low, high, step: parameter.kind === "int" ? 1 : Math.max((high - low) / 200, 1e-6) };
}

/**
 * Make a slider and a field for its number; a value beyond its ends can be typed.
 * @param {string} id
 * @param {string} name
 * @param {{low: number, high: number, step: number}} ends
 * @param {number} value
 * @param {(value: string) => void} changed
 */
export function slider(id, name, ends, value, changed) {
  const shown = String(Number(value.toPrecision(4)));
  const bar = make("input", { id, type: "range", min: ends.low, max: ends.high, step: ends.step, value });
  const field = make("input", { id: `${id}-number`, type: "number", step: "any", value: shown, ariaLabel: `${name}, as a number` });
  bar.addEventListener("input", () => {
    field.value = String(Number(Number(bar.value).toPrecision(4)));
    changed(field.value);
  });
  field.addEventListener("change", () => {
    if (!Number.isFinite(field.valueAsNumber)) return;
    bar.value = field.value;
    changed(field.value);
  });
  return [bar, field];
}
