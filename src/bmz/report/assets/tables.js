// Tables: results, settings over all images, objects and the worst of them; all can be used by keyboard.

import { make } from "./controls.js";

/** @typedef {import("./entries.js").Entry} Entry */

const MOST_ROWS = 500; // that are laid out at a time
const MOST_WORST = 100;

/** @param {number | null | undefined} value */
export const digits = (value) => (value === null || value === undefined ? "" : String(Number(Number(value).toPrecision(4))));

/**
 * Make a row that a click or Enter chooses; arrows go from row to row.
 * @param {() => void} chosen
 * @param {Record<string, unknown>} properties
 * @param {...Node} cells
 */
function choosable(chosen, properties, ...cells) {
  const row = make("tr", { tabIndex: 0, ...properties }, ...cells);
  row.addEventListener("click", chosen);
  row.addEventListener("keydown", (/** @type {KeyboardEvent} */ event) => {
    const next = event.key === "ArrowDown" ? row.nextElementSibling : event.key === "ArrowUp" ? row.previousElementSibling : null;
    if (event.key === "Enter" || event.key === " ") chosen();
    else if (next) next.focus();
    else return;
    event.preventDefault();
    event.stopPropagation();
  });
  return row;
}

/** @param {string[]} words @param {string} [sorted] the heading of the column that is sorted by */
const headOf = (words, sorted) =>
  make("thead", {}, make("tr", {}, ...words.map((word) => {
    const cell = make("th", { scope: "col" }, word);
    if (word === sorted) cell.setAttribute("aria-sort", "descending");
    return cell;
  })));

/**
 * @param {HTMLElement} table
 * @param {string[]} headings
 * @param {string[][]} rows
 * @param {{sorted?: string, current?: number, chosen: (row: number) => void}} how
 */
export function drawTable(table, headings, rows, { sorted, current, chosen }) {
  const lines = rows.map((cells, i) => {
    const row = choosable(() => chosen(i), {}, ...cells.map((text) => make("td", {}, text)));
    if (i === current) row.setAttribute("aria-current", "true");
    return row;
  });
  table.replaceChildren(headOf(headings, sorted), make("tbody", {}, ...lines));
}

/**
 * The rows of the objects that lie in the plane that is shown.
 * @param {Entry} entry
 * @param {import("./parts.js").At} at
 */
export function rowsThere(entry, at) {
  const { table, frames } = entry.result;
  const labels = table.columns[table.names.indexOf("label")] || [];
  return labels.flatMap((label, i) => (entry.there.has(label) && (!frames || frames[i] === at.t) ? [i] : []));
}

/** @param {string} name of a column, as scikit-image has it */
const inWords = (name) => name.replace("equivalent_diameter_area", "diameter").replaceAll("_", " ");

/** How the table of objects is sorted, of all entries. @type {{name: string, way: number} | null} */
let sorting = null;

/**
 * @param {HTMLElement} table
 * @param {Entry} entry
 * @param {import("./parts.js").At} at
 * @param {number} picked label
 * @param {(row: number) => void} chosen
 */
export function drawObjects(table, entry, at, picked, chosen) {
  const result = entry.result;
  if (!result.masks) return table.replaceChildren();
  const { names, columns } = result.table, labels = columns[names.indexOf("label")];
  const order = rowsThere(entry, at);
  if (sorting && names.includes(sorting.name)) {
    const column = columns[names.indexOf(sorting.name)], { way } = sorting;
    order.sort((a, b) => way * ((column[a] ?? Infinity) - (column[b] ?? Infinity)));
  }
  const again = () => drawObjects(table, entry, at, picked, chosen);
  const head = make("tr", {}, ...names.map((name) => {
    const by = sorting && sorting.name === name ? sorting.way : 0;
    const sort = () => {
      sorting = { name, way: by ? -by : 1 };
      again();
      /** @type {HTMLElement} */ (table.querySelector(`th:nth-child(${names.indexOf(name) + 1}) button`)).focus();
    };
    const cell = make("th", { scope: "col" }, make("button", { type: "button", onclick: sort }, inWords(name)));
    cell.setAttribute("aria-sort", by > 0 ? "ascending" : by < 0 ? "descending" : "none");
    return cell;
  }));
  const rows = order.slice(0, MOST_ROWS).map((i) => {
    const cells = columns.map((column) => make("td", {}, typeof column[i] === "number" ? digits(column[i]) : String(column[i] ?? "")));
    const row = choosable(() => chosen(i), {}, ...cells);
    row.dataset.label = String(labels[i]);
    if (labels[i] === picked) row.setAttribute("aria-selected", "true");
    return row;
  });
  const more = order.length > MOST_ROWS ? [make("caption", {}, `the first ${MOST_ROWS} of ${order.length}`)] : [];
  table.replaceChildren(...more, make("thead", {}, head), make("tbody", {}, ...rows));
}

/**
 * What is worst in the plane that is shown, and in words why.
 * @param {Entry} entry
 * @param {boolean} known there is the truth
 * @param {Set<number>} trueThere labels of the truth in the plane
 * @param {import("./parts.js").At} at
 * @returns {{why: string, worst: {what: string, label: number, x: number, y: number, r: number}[]}}
 */
export function worstOf(entry, known, trueThere, at) {
  const { result } = entry;
  if (!result.masks) return { why: "", worst: [] };
  if (known) {
    const there = result.errors.filter((error) => (error.true ? trueThere : entry.there).has(error.label));
    return { why: "against the truth", worst: there.slice(0, MOST_WORST).map((error) => ({ ...error, label: error.true ? 0 : error.label })) };
  }
  const { names, columns } = result.table, [x, y, r] = result.places;
  const sure = names.includes("confidence"), column = columns[names.indexOf(sure ? "confidence" : "shared_by")];
  if (!column) return { why: "", worst: [] };
  const labels = columns[names.indexOf("label")];
  const rows = rowsThere(entry, at).filter((i) => column[i] !== null && column[i] < 1).sort((a, b) => column[a] - column[b]);
  const words = (/** @type {number} */ share) => (sure ? `${Math.round(100 * share)}% likely to be a true one` : `in ${Math.round(100 * share)}% of the others`);
  return {
    why: sure ? "that are least likely true ones" : "that fewest other results share",
    worst: rows.slice(0, MOST_WORST).map((i) => ({ what: `object ${labels[i]}: ${words(column[i])}`, label: labels[i], x: x[i], y: y[i], r: r[i] })),
  };
}

/**
 * @param {HTMLElement} table
 * @param {{what: string, label: number, x: number, y: number, r: number}[]} worst
 * @param {number} factor px of the image for one of the picture
 * @param {(one: {label: number, x: number, y: number, r: number}) => void} chosen
 */
export function drawWorst(table, worst, factor, chosen) {
  const rows = worst.map((one) => choosable(() => chosen(one), {},
    make("td", {}, one.what), make("td", {}, `x ${Math.round(one.x * factor)}, y ${Math.round(one.y * factor)}`)));
  table.replaceChildren(make("tbody", {}, ...rows));
}
