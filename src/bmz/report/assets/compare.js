// The page of `bmz compare`: the image with the masks of several results, and their tables.

import { $, make } from "./controls.js";
import { drawAll, drawCaptions, layOut, panesOf } from "./display.js";
import { readDocument } from "./document.js";
import { Entry, ImagePixels, firstEntries } from "./entries.js";
import { Mask } from "./mask.js";
import { drawChannels, drawPlanes, drawResults, drawSizes, retell } from "./panels.js";
import { Picture } from "./picture.js";
import { drawScaleBar } from "./stage.js";
import { drawObjects, drawTable, drawWorst, worstOf } from "./tables.js";
import { Viewport } from "./viewport.js";

/** @typedef {import("./display.js").Shown} Shown */
/** @typedef {import("./document.js").ImageData_} ImageData_ */

const MARGIN = 0.4; // of the sides of what is shown, which is brought, too
const BAR_PX = 120; // of the scale bar, at most
const MODES = { over: "o", filled: "f", side: "s", swipe: "w", difference: "d", none: "h" };

const data = readDocument();
const view = new Viewport($("canvas"), renewed);

/** What is shown; null before the first image is there. @type {(Shown & {image: ImageData_, pixels: ImagePixels, trueThere: Set<number>}) | null} */
let shown = null;
let number = 0;
let mode = "side";

// The picture.

let waiting = false;
function renewed() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => {
    waiting = false;
    if (shown) drawNow(shown);
  });
}

/** @param {NonNullable<typeof shown>} now */
function drawNow(now) {
  const [needed, wide] = [view.span(0), view.span(MARGIN)];
  void now.picture.bring(needed, wide, now.at);
  for (const entry of now.entries) if (entry.on || entry === now.current || entry === now.other) void entry.mask?.bring(needed, wide, now.at);
  if (now.truthOn) void now.truth?.bring(needed, wide, now.at);
  drawAll(view, now);
  drawScaleBar($("scalebar"), view, now.image.um, BAR_PX);
}

/** The layout of the panes has changed, or the window has. */
function resize() {
  if (!shown) return;
  layOut(view, panesOf(shown).length);
  drawCaptions($("captions"), view, shown);
  renewed();
}

// What is shown.

/** @param {number} wanted */
async function openImage(wanted) {
  number = (wanted + data.images.length) % data.images.length;
  const image = data.images[number], pixels = new ImagePixels(image);
  const entries = firstEntries(pixels, renewed);
  const channels = image.channels.map(({ name, colour }) => ({ name, colour, on: true, low: 0, high: 255, least: 0, most: 255 }));
  const truth = image.truth ? new Mask(0, renewed, pixels.maskSource("truth", image.truth)) : null;
  shown = {
    image, pixels, entries, current: entries[0], other: entries[1] || null, mode: entries.length > 1 || mode !== "side" ? mode : "over", split: 0.5, at: { t: 0, z: 0, ...image.start },
    picture: new Picture(channels, renewed, pixels.channelSource), truth, truthOn: false, trueThere: new Set(), picked: null,
  };
  $("image").value = String(number);
  Object.assign(view, { width: image.width, height: image.height });
  drawPlanes($("planes"), image, shown.at, choosePlane);
  drawChannels($("channels"), shown.picture, renewed);
  $("warnings").replaceChildren(...image.warnings.map((text) => make("li", {}, text)));
  $("warnings-box").hidden = !image.warnings.length;
  $("reason").textContent = `${image.results[0].name} is first: ${image.reason}.`;
  layOut(view, panesOf(shown).length);
  view.fit();
  changed();
  await look();
}

/** @param {string} axis @param {number} place */
function choosePlane(axis, place) {
  if (!shown) return;
  shown.at = { ...shown.at, [axis]: place };
  shown.picked = null;
  renewed();
  void look();
}

/** Find out which objects are in the plane, for the tables. */
async function look() {
  const now = shown;
  if (!now) return;
  const { current, image, pixels, at } = now;
  await current.look(at);
  if (image.truth && image.known) now.trueThere = new Set(await pixels.labels("truth", image.truth, at));
  if (now === shown && current === now.current && at === now.at) drawTables();
}

/** @param {string} wanted */
function setMode(wanted) {
  if (!shown) return;
  mode = shown.mode = wanted; // other images are shown so, too
  drawMode(shown);
}

/** @param {NonNullable<typeof shown>} now */
function drawMode(now) {
  for (const name of Object.keys(MODES)) $(`mode-${name}`).setAttribute("aria-pressed", String(name === now.mode));
  $("split").hidden = now.mode !== "swipe" || !now.other;
  resize();
}

/** The list of what is shown has changed. */
function changed() {
  if (!shown) return;
  drawResults($("results"), shown.image, shown, acts);
  drawSizes($("sizes"), shown.entries, shown.image.unit);
  drawMode(shown);
  void look();
}

/** @type {import("./panels.js").Acts} */
const acts = {
  choose(entry) {
    if (!shown) return;
    if (entry !== shown.current) shown.other = shown.current;
    shown.current = entry;
    entry.on = true;
    shown.picked = null;
    changed();
  },
  toggle(entry) {
    entry.on = !entry.on;
    changed();
  },
  set(entry, key, value) {
    if (!shown) return;
    entry.set(key, value);
    entry.on = true;
    if (entry === shown.current) shown.picked = null;
    retell(entry); // the list is not made again, for a slider of it is being moved
    drawSizes($("sizes"), shown.entries, shown.image.unit);
    resize();
    void look();
  },
  putBeside() {
    if (!shown) return;
    const { current, entries, pixels } = shown;
    const copy = new Entry(pixels, current.index, entries.length, renewed);
    copy.on = copy.beside = true;
    entries.push(copy);
    shown.other = copy;
    changed();
  },
  remove(entry) {
    if (!shown) return;
    shown.entries = shown.entries.filter((other) => other !== entry);
    if (shown.current === entry) shown.current = shown.entries[0];
    if (shown.other === entry || shown.other === shown.current) shown.other = shown.entries.find((one) => one !== shown?.current) || null;
    changed();
  },
  toggleTruth() {
    if (!shown?.truth) return;
    shown.truthOn = !shown.truthOn;
    drawResults($("results"), shown.image, shown, acts);
    renewed();
  },
};

/**
 * Show a result of the table: at the sliders of its model.
 * @param {number} index
 */
function chooseResult(index) {
  if (!shown) return;
  const result = shown.image.results[index];
  const entry = shown.entries.find((one) => one.index === index) || shown.entries.find((one) => !one.beside && one.result.model === result.model);
  if (!entry || !result.masks) return;
  entry.index = index;
  acts.choose(entry);
}

// Tables.

function drawTables() {
  if (!shown) return;
  const { image, current, at, picked, trueThere } = shown;
  drawTable($("ranking"), image.headings, image.ranking, { sorted: image.sorted_by, current: current.index, chosen: chooseResult });
  $("objects-of").textContent = `${current.result.name}${Object.keys(image.at).length ? ", in this plane" : ""}`;
  drawObjects($("objects"), current, at, picked?.label || 0, (row) => {
    const { places, table } = current.result;
    find({ label: table.columns[table.names.indexOf("label")][row], x: places[0][row], y: places[1][row], r: places[2][row] });
  });
  $("without-row").textContent = current.result.without_row ? `The ${current.result.without_row} smallest objects have no row here.` : "";
  const { why, worst } = worstOf(current, image.known, trueThere, at);
  $("worst-what").textContent = why;
  $("worst-box").hidden = !worst.length;
  drawWorst($("worst"), worst, image.factor, find);
  renewed();
}

/**
 * Show an object.
 * @param {{label: number, x: number, y: number, r: number}} one
 */
function find(one) {
  if (!shown) return;
  shown.picked = one;
  view.show(one.x, one.y, Math.max(one.r * 12, 60));
  mark(one.label);
  $("stage").scrollIntoView({ block: "nearest" });
}

/** @param {number} label */
function mark(label) {
  for (const row of document.querySelectorAll("#objects [aria-selected]")) row.removeAttribute("aria-selected");
  const row = label ? document.querySelector(`#objects tr[data-label="${label}"]`) : null;
  row?.setAttribute("aria-selected", "true");
  return row;
}

view.picked = (/** @type {number} */ x, /** @type {number} */ y, pane = 0) => {
  if (!shown) return;
  const own = panesOf(shown)[pane], entry = own || (shown.mode === "swipe" && shown.other && x > splitAt() ? shown.other : shown.current);
  const label = entry.mask?.labelAt(x, y) || 0;
  if (entry !== shown.current) acts.choose(entry);
  const { table, places } = entry.result, row = label ? table.columns[table.names.indexOf("label")].indexOf(label) : -1;
  shown.picked = row >= 0 ? { label, x: places[0][row], y: places[1][row], r: places[2][row] } : null;
  void look().then(() => mark(label)?.scrollIntoView({ block: "nearest" }));
  renewed();
};

/** Where the swipe divides the image, px of the image. */
const splitAt = () => (shown ? (shown.split * view.canvas.width - view.origin[0]) / view.zoom : 0);

view.hovered = (/** @type {number} */ x, /** @type {number} */ y) => {
  if (!shown) return;
  const { image, picture, entries, current } = shown;
  const inside = x >= 0 && y >= 0 && x < image.width && y < image.height;
  const values = picture.valuesAt(x, y).map(({ name, value }, i) => {
    const [black, white] = image.channels.find((channel) => channel.name === name)?.limits || [0, 1];
    return value === null ? "" : `${name} about ${Number((black + (value / 255) * (white - black)).toPrecision(3))}`;
  });
  const labels = entries.filter((entry) => entry.on || entry === current).map((entry) => {
    const label = entry.mask?.labelAt(x, y);
    return label ? `${entry.result.name}: object ${label}` : "";
  });
  const at = `x ${Math.round(x * image.factor)}, y ${Math.round(y * image.factor)}`;
  $("value").textContent = inside ? [at, ...values, ...labels].filter(Boolean).join(" \u00b7 ") : "\u00a0";
};

// Keys and the rest of the page.

/** @param {string} axis @param {number} by */
function step(axis, by) {
  const bar = $(`plane-${axis}`);
  if (!bar) return;
  bar.value = String(Number(bar.value) + by);
  bar.dispatchEvent(new Event("input"));
}

/** @type {Record<string, () => void>} */
const keys = {
  "+": () => view.zoomAt(1.5), "=": () => view.zoomAt(1.5), "-": () => view.zoomAt(1 / 1.5), 0: () => view.fit(),
  t: acts.toggleTruth, k: acts.putBeside,
  "[": () => step("z", -1), "]": () => step("z", 1), "{": () => step("t", -1), "}": () => step("t", 1),
  ",": () => split(-0.05), ".": () => split(0.05),
  n: () => data.images.length > 1 && void openImage(number + 1), p: () => data.images.length > 1 && void openImage(number - 1),
};
for (const [name, key] of Object.entries(MODES)) keys[key] = () => setMode(name);

/** @param {number} by */
function split(by) {
  if (!shown) return;
  $("split").value = String(Math.min(Math.max(shown.split + by, 0), 1) * 1000);
  $("split").dispatchEvent(new Event("input"));
}

document.addEventListener("keydown", (event) => {
  const { target } = event;
  if (!shown || event.ctrlKey || event.metaKey || event.altKey) return;
  if (target instanceof HTMLSelectElement || (target instanceof HTMLInputElement && !["range", "checkbox"].includes(target.type))) return;
  if (/^[1-9]$/.test(event.key)) {
    const entry = shown.entries[Number(event.key) - 1];
    if (entry) acts.toggle(entry);
  } else if (event.key in keys) keys[event.key]();
  else return;
  event.preventDefault();
});

function drawOver() {
  const { over } = data;
  $("over-box").hidden = !over;
  if (!over) return;
  drawTable($("over"), over.headings, over.rows, {
    chosen: (row) => {
      const worst = over.worst[row];
      if (worst === null) return;
      void openImage(worst).then(() => chooseResult(data.images[worst].results.findIndex((result) => result.name === over.names[row])));
    },
  });
}

async function start() {
  $("command").textContent = data.command;
  $("commands").textContent = data.images.flatMap((image) => image.results.map((one) => one.command)).join("\n");
  $("versions").textContent = Object.entries(data.versions).map(([name, version]) => `${name} ${version}`).join(", ");
  $("models").textContent = data.models.map((one) => `${one.name}  ${one.title}  sha256 ${one.sha256}`).join("\n");
  $("failed").replaceChildren(...data.failed.map((text) => make("li", {}, text)));
  $("failed-box").hidden = !data.failed.length;
  $("image").replaceChildren(...data.images.map((image, i) => make("option", { value: i }, image.name)));
  $("image-box").hidden = data.images.length < 2;
  $("image").addEventListener("change", () => void openImage(Number($("image").value)));
  $("previous").addEventListener("click", () => void openImage(number - 1));
  $("next").addEventListener("click", () => void openImage(number + 1));
  for (const name of Object.keys(MODES)) $(`mode-${name}`).addEventListener("click", () => setMode(name));
  $("closer").addEventListener("click", () => view.zoomAt(1.5));
  $("farther").addEventListener("click", () => view.zoomAt(1 / 1.5));
  $("whole").addEventListener("click", () => view.fit());
  $("split").addEventListener("input", () => {
    if (shown) shown.split = Number($("split").value) / 1000;
    renewed();
  });
  $("theme").addEventListener("click", () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });
  drawOver();
  new ResizeObserver(resize).observe($("stage"));
  if (data.images.length) {
    await openImage(0);
  } else $("work").hidden = $("tables").hidden = true;
  document.body.dataset.ready = "yes";
}
void start();
