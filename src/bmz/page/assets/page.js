// The page of `bmz open`: the image on the left, models and their settings on the right.

import { ask, askPart } from "./server.js";
import { canvas, current, state, view } from "./state.js";
import { tell } from "./telling.js";
import { bringSoon, draw, renewed } from "./drawing.js";
import { keepSoon } from "./keeping.js";
import { drawChannels, drawPlanes, showValue, stepPlane } from "./planes.js";
import { MOST_RESULTS, add, drawResults, plain, relabel, select, setMode, setSplit, tryModel } from "./results.js";
import { fitModels } from "./offers.js";
import { drawPanels, judge, save, useSettings } from "./outcome.js";
import { pick, setTool, undo } from "./correcting.js";
import { Picture } from "./picture.js";
import { $, make } from "./controls.js";

function listen() {
  view.changed = () => { draw(); bringSoon(); keepSoon(); };
  view.picked = pick;
  view.hovered = showValue;
  $("closer").onclick = () => view.zoomAt(1.5);
  $("farther").onclick = () => view.zoomAt(1 / 1.5);
  $("whole").onclick = () => view.fit();
  $("mode").onchange = () => setMode($("mode").value);
  $("other").onchange = () => { state.other = Number($("other").value); drawResults(); renewed(); };
  $("split").oninput = () => setSplit(Number($("split").value) / 100);
  $("tool").onchange = () => setTool($("tool").value);
  $("undo").onclick = undo;
  $("good").onclick = () => judge("right").catch(tell);
  $("bad").onclick = () => judge("wrong").catch(tell);
  $("stop").onclick = () => state.work?.abort();
  $("fit").onclick = fitModels;
  $("use").onclick = () => useSettings().catch(tell);
  $("save").onclick = save;
  $("reset").onclick = () => {
    const result = current();
    if (!result) return;
    result.settings = {};
    relabel(result);
    drawPanels();
  };
  $("add").onsubmit = (/** @type {Event} */ event) => {
    event.preventDefault();
    const model = $("model").value.trim();
    if (model) tryModel(model);
  };
  $("image").onchange = () => openImage(Number($("image").value)).catch(tell);
  $("letters").onchange = keepSoon;
  $("theme").onclick = () => {
    const root = document.documentElement;
    const dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  };
  document.addEventListener("keydown", (event) => {
    const target = /** @type {HTMLElement} */ (event.target);
    if (event.ctrlKey || event.metaKey || event.altKey || /input|select|textarea/i.test(target.tagName)) return;
    if (!$("letters").checked && target !== canvas) return; // speech input types letters
    /** @type {Record<string, () => void>} */
    const keys = {
      "+": () => view.zoomAt(1.5), "=": () => view.zoomAt(1.5), "-": () => view.zoomAt(1 / 1.5), 0: () => view.fit(),
      o: () => setMode("over"), f: () => setMode("filled"), w: () => setMode("swipe"), s: () => setMode("side"),
      d: () => setMode("difference"), h: () => setMode(state.mode === "none" ? "over" : "none"),
      x: () => setTool("delete"), m: () => setTool("merge"), l: () => setTool("split"), p: () => setTool("draw"),
      u: undo, Escape: () => setTool("pick"),
      ",": () => setSplit(state.split - 0.05), ".": () => setSplit(state.split + 0.05),
      "[": () => stepPlane(-1), "]": () => stepPlane(1),
    };
    if (event.key in keys) keys[event.key]();
    else if (/^[1-9]$/.test(event.key)) select(Number(event.key) - 1);
  });
  new ResizeObserver(() => view.resize()).observe(canvas);
}

/**
 * @param {number} image
 * @param {any} [kept]
 */
async function openImage(image, kept = {}) {
  state.work?.abort();
  state.image = image;
  state.facts = await ask("image", { image });
  const channels = state.facts.channels.map((/** @type {any} */ channel, /** @type {number} */ i) => ({ ...channel, ...(kept.channels?.[i] || {}) }));
  state.picture = new Picture(channels, draw, (c, at, span, signal) => askPart("part", { image, c, ...at, ...span }, signal));
  state.picture.failed = tell;
  state.at = { t: 0, z: 0, ...kept.at };
  if (!kept.at && state.facts.planes.z) state.at.z = Math.floor(state.facts.planes.z / 2);
  document.title = `bmz open: ${state.facts.name}`;
  Object.assign(view, { height: state.facts.height, width: state.facts.width });
  view.resize();
  if (kept.view) Object.assign(view, kept.view);
  else view.fit();
  // corrections are of the image that they were made on
  const tried = state.results.map(({ choice, settings }) => ({ choice, settings, edits: [] }));
  state.results = [];
  for (const { choice, settings, edits } of kept.results || tried) add(choice, settings, edits);
  const chosen = kept.current ?? state.current;
  state.current = state.other = -1;
  drawPlanes();
  drawChannels();
  drawPanels();
  renewed();
  if (state.results[chosen]) select(chosen);
}

async function start() {
  listen();
  const { images, models } = await ask("images");
  $("image").replaceChildren(...images.map((/** @type {string} */ name, /** @type {number} */ i) => make("option", { value: i }, name)));
  $("known").replaceChildren(...models.map((/** @type {string} */ value) => make("option", { value })));
  let kept = await ask("state"), anew = "";
  const image = kept.image < images.length ? kept.image : 0;
  $("image").value = String(image);
  try {
    await openImage(image, kept);
  } catch (why) {
    anew = `What was kept of this page cannot be used, so it begins anew (${why}).`; // of another version, maybe
    kept = {};
    state.results = [];
    await openImage(image);
  }
  setMode(kept.mode || "over");
  setSplit(kept.split ?? 0.5);
  $("letters").checked = kept.letters ?? true;
  state.ready = true;
  if (!state.results.length) models.slice(0, MOST_RESULTS).forEach((/** @type {string} */ model) => add(plain(model)));
  if (state.current < 0 && state.results.length) select(0);
  if (anew) tell(anew);
  document.body.dataset.ready = "yes";
}

start().catch(tell);
