// The page of `bmz open`: the image on the left, models and their settings on the right.

import { ask, askPart, change, work } from "./server.js";
import { Viewport } from "./viewport.js";
import { Picture } from "./picture.js";
import { Result } from "./result.js";
import { histogram } from "./chart.js";
import { $, control, keepingFocus, make, slider } from "./controls.js";
import { Cross } from "./cross.js";
import { advised } from "./advice.js";

/** @typedef {import("./result.js").Choice} Choice */

const MARGIN = 0.4; // of the sides of what is shown, which is brought, too
const MOST_RESULTS = 4;
const KEPT_AFTER_MS = 800;
const SAID_AFTER_MS = 500; // what is read aloud waits for the end of a movement
const DIAMETER = "equivalent_diameter_area"; // as scikit-image names it
const BAR_PX = 120; // of the scale bar, at most
const SCALES = { low: -2, high: 2, step: 0.05 }; // powers of 2

const canvas = /** @type {HTMLCanvasElement} */ ($("canvas"));
const view = new Viewport(canvas, () => { draw(); bringSoon(); keepSoon(); });

const state = {
  image: 0,
  /** @type {any} */
  facts: null,
  /** @type {Picture | null} */
  picture: null,
  at: { t: 0, z: 0 },
  /** @type {Result[]} */
  results: [],
  current: -1,
  other: -1,
  mode: "over",
  split: 0.5,
  picked: 0,
  tool: "pick",
  /** @type {[number, number][]} the line that is drawn, or the first object to merge: x and y */
  line: [],
  /** @type {AbortController | null} */
  work: null,
  ready: false,
};

const cross = new Cross(view, {
  part: () => current()?.mask?.part || null, picked: () => state.picked, tool: () => state.tool,
  pick: (x, y) => pick(x, y), drawing: (line, done) => drawing(line, done), draw: () => draw(),
});

const current = () => state.results[state.current] || null;
const other = () => (state.other === state.current ? null : state.results[state.other] || null);

// What happened, in words.

/** @param {unknown} why */
function tell(why) {
  const text = why instanceof Error ? why.message : String(why);
  if (why instanceof DOMException && why.name === "AbortError") return;
  $("message").textContent = text;
  $("message").hidden = !text;
}

let saying = 0;
/** Have a screen reader say what a movement led to. @param {string} text */
function say(text) {
  clearTimeout(saying);
  saying = window.setTimeout(() => { $("told").textContent = text; }, SAID_AFTER_MS);
}

/** @param {any} event */
function tellProgress(event) {
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
async function busy(what, job) {
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

// The picture.

let drawn = false;
function draw() {
  if (drawn) return;
  drawn = true;
  requestAnimationFrame(() => { drawn = false; drawNow(); });
}

function drawNow() {
  const { picture } = state;
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, canvas.width, canvas.height);
  if (!picture) return;
  for (let pane = 0; pane < view.panes; pane++) {
    context.save();
    context.beginPath();
    context.rect(pane * view.paneWidth, 0, view.paneWidth, canvas.height);
    context.clip();
    place(context, picture.canvas, picture.part, pane);
    drawMasks(context, pane);
    context.restore();
  }
  if (view.panes > 1) line(context, view.paneWidth);
  if (state.mode === "swipe" && other()) line(context, state.split * canvas.width);
  canvas.dataset.shown = current()?.mask?.shownAs || "";
  drawPicked(context);
  drawLine(context);
  cross.paint(context);
  drawScaleBar();
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {HTMLCanvasElement | null} picture
 * @param {import("./parts.js").Part | null} part
 * @param {number} pane
 */
function place(context, picture, part, pane) {
  if (!picture || !part) return;
  const [x, y] = view.origin, { zoom } = view;
  context.imageSmoothingEnabled = zoom * part.step < 2;
  context.drawImage(
    picture, x + pane * view.paneWidth + part.left * zoom, y + part.top * zoom,
    part.width * part.step * zoom, part.height * part.step * zoom,
  );
}

/**
 * @param {CanvasRenderingContext2D} context
 * @param {number} pane
 */
function drawMasks(context, pane) {
  if (state.mode === "none") return;
  const [first, second] = [current(), other()];
  const show = (/** @type {Result | null} */ result, /** @type {Result | null} */ beside = null) => {
    if (!result?.mask) return;
    const style = {
      filled: state.mode === "filled",
      picked: result === first ? state.picked : 0,
      other: beside?.mask || null,
      thick: view.zoom < 1.5 ? 2 : 1,
    };
    place(context, result.mask.paint(style), result.mask.part, pane);
  };
  if (state.mode === "side") show(pane ? second : first);
  else if (state.mode === "difference") show(first, second);
  else if (state.mode === "swipe" && second) {
    const at = state.split * canvas.width;
    for (const [result, from, width] of /** @type {[Result | null, number, number][]} */ ([[first, 0, at], [second, at, canvas.width - at]])) {
      context.save();
      context.beginPath();
      context.rect(from, 0, width, canvas.height);
      context.clip();
      show(result);
      context.restore();
    }
  } else show(first);
}

/** @param {CanvasRenderingContext2D} context @param {number} x */
function line(context, x) {
  context.fillStyle = "#fff";
  context.fillRect(x - 1, 0, 2, canvas.height);
}

/** @param {CanvasRenderingContext2D} context */
function drawPicked(context) {
  const row = Object.fromEntries(current()?.row(state.picked) || []);
  if (!state.picked || row.centroid_x_px === undefined) return;
  const [x, y] = view.origin, radius = Math.max((row[`${DIAMETER}_px`] || 10) * 0.75 * view.zoom, 12);
  context.strokeStyle = "#fff";
  context.lineWidth = 2;
  context.beginPath();
  context.arc(x + (row.centroid_x_px + 0.5) * view.zoom, y + (row.centroid_y_px + 0.5) * view.zoom, radius, 0, 2 * Math.PI);
  context.stroke();
}

/** @param {CanvasRenderingContext2D} context */
function drawLine(context) {
  if (!state.line.length) return;
  const [x, y] = view.origin;
  context.strokeStyle = "#fff";
  context.lineWidth = 2;
  context.beginPath();
  for (const [px, py] of state.line) context.lineTo(x + px * view.zoom, y + py * view.zoom);
  if (state.line.length === 1) context.arc(x + state.line[0][0] * view.zoom, y + state.line[0][1] * view.zoom, 6, 0, 2 * Math.PI);
  context.stroke();
}

/** Show a length that is round: 1, 2 or 5 and zeros. */
function drawScaleBar() {
  const um = state.facts?.pixel_um, ratio = window.devicePixelRatio || 1;
  $("scalebar").hidden = !um;
  if (!um) return;
  const most = (BAR_PX * um * ratio) / view.zoom, power = 10 ** Math.floor(Math.log10(most));
  const length = power * ([5, 2].find((n) => n * power <= most) || 1);
  $("scalebar").lastElementChild.style.width = `${(length / um) * (view.zoom / ratio)}px`;
  $("scalebar").firstElementChild.textContent = `${Number(length.toPrecision(3))} um`;
}

let bringing = false;
function bringSoon() {
  if (bringing) return;
  bringing = true;
  requestAnimationFrame(() => {
    bringing = false;
    const [needed, wide] = [view.span(0), view.span(MARGIN)];
    void state.picture?.bring(needed, wide, state.at);
    for (const result of [current(), other()]) void result?.mask?.bring(needed, wide, state.at);
  });
}

function renewed() {
  draw();
  bringSoon();
}

// What is kept, so that the page goes on there another time.

let keeping = 0;
function keepSoon() {
  if (!state.ready) return;
  clearTimeout(keeping);
  keeping = window.setTimeout(() => {
    const { image, at, mode, split, results } = state;
    const kept = {
      image, at, mode, split, current: state.current, letters: $("letters").checked,
      view: { x: view.x, y: view.y, zoom: view.zoom },
      channels: state.picture?.channels.map(({ on, low, high, colour }) => ({ on, low, high, colour })),
      results: results.map(({ choice, settings, edits }) => ({ choice, settings, edits })),
    };
    change("state", kept).catch(tell);
  }, KEPT_AFTER_MS);
}

// Panels.

function drawPlanes() {
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

function drawChannels() {
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
    return make("div", { className: "channel" }, make("label", {}, on, ` ${i} ${channel.name}`), colour, bar("low", "black"), bar("high", "white"));
  }));
}

function drawResults() {
  $("results").replaceChildren(...state.results.map((result, i) => {
    const remove = make("button", { type: "button", className: "small", title: `Remove ${result.name}`, ariaLabel: `Remove ${result.name}`, onclick: () => drop(i) }, "\u00d7");
    const choose = make("button", { type: "button", id: `result-${i}`, className: "name", onclick: () => select(i) }, `${i + 1} ${result.name}`);
    choose.setAttribute("aria-pressed", String(i === state.current));
    const swipe = make("button", { type: "button", id: `swipe-${i}`, className: "small", title: "Swipe between this result and the one that is chosen", ariaLabel: `Swipe against ${i + 1} ${result.name}`, hidden: i === state.current || !result.mask || !current()?.mask, onclick: () => swipeAgainst(i) }, "Swipe");
    return make("div", { className: "result" }, choose, make("span", {}, result.error ? "failed" : result.mask ? `${result.count} objects` : ""), swipe, remove);
  }));
  const names = state.results.map((result, i) => make("option", { value: i, selected: i === state.other }, `${i + 1} ${result.name}`));
  $("other").replaceChildren(...names);
  $("other-label").hidden = !["swipe", "side", "difference"].includes(state.mode) || state.results.length < 2;
  $("split-label").hidden = state.mode !== "swipe" || !other();
  for (const [id, result, modes] of /** @type {[string, Result | null, string[]][]} */ ([["left-name", current(), ["swipe", "side"]], ["right-name", other(), ["swipe", "side"]]])) {
    $(id).hidden = !modes.includes(state.mode) || !result || !other();
    $(id).textContent = result ? `${result.name}: ${result.count}` : "";
  }
}

function drawTuning() {
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
      void result.relabel(tell);
      drawResults();
      keepSoon();
    })));
  }
}

/** @param {Result} result @param {Partial<Choice>} words */
function runAgain(result, words) {
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
  return channels.map((/** @type {any} */ channel, /** @type {number} */ i) => make("button", { type: "button", id: `only-${i}`, className: "small", ariaLabel: `only ${i}: ${channel.name}`, onclick: () => runAgain(result, { channels: [i] }) }, `only ${i}`));
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
    ? `px of the image; the network is made for objects of ${Number(made.toPrecision(3))} px, so the image is resized by ${Number(result.scale.toPrecision(3))}`
    : "the image is resized by this factor for the network";
  const invert = make("input", { type: "checkbox", id: "invert", checked: result.choice.invert, onchange: () => again({ invert: invert.checked }) });
  const channels = make("input", { id: "net-channels", type: "text", size: 6, value: (result.choice.channels || []).join(","), placeholder: "as they lie",
    onchange: () => again({ channels: channels.value.trim() ? channels.value.split(",").map(Number) : null }) });
  const auto = make("button", { type: "button", id: "auto", className: "small", onclick: () => again({ scale: "auto" }) }, "Find the size");
  $("network").replaceChildren(
    make("div", { className: "parameter" }, make("label", { htmlFor: "scale" }, made ? "object diameter" : "scale"), bar, field, make("small", {}, what, " ", auto)),
    make("div", { className: "parameter" }, make("label", { htmlFor: "net-channels" }, "channels"), channels, make("small", {}, "image channel for each channel of the model, such as 1,0 ", ...channelButtons(result))),
    make("div", { className: "parameter" }, make("label", { htmlFor: "invert" }, "invert"), invert, make("small", {}, "turn bright into dark")),
  );
}

function drawOutcome() {
  const result = current();
  $("outcome").hidden = !result?.mask;
  if (!result?.mask) return;
  $("count").textContent = `${result.count} objects`;
  const [um, px] = ["um", "px"].map((unit) => result.table[`${DIAMETER}_${unit}`]);
  $("sizes").replaceChildren(...histogram(`equivalent diameter, ${um ? "um" : "px"}`, (um || px || []).filter(Number.isFinite)));
  const scored = ["confidence", "score"].find((name) => name in result.table);
  $("scores").replaceChildren(...(scored ? histogram(scored, result.table[scored].filter(Number.isFinite), [0, 1]) : []));
  $("undo").disabled = !result.edits.length;
  if (result.edits.length) $("count").textContent += `, ${result.edits.length} corrections`;
  $("judged").textContent = state.picked ? `Object ${state.picked}` : "This mask";
  const row = state.picked ? result.row(state.picked) : [];
  $("object").replaceChildren(...row.flatMap(([heading, value]) => [make("dt", {}, heading), make("dd", {}, String(value ?? ""))]));
}

function drawPanels() {
  keepingFocus(() => {
    drawResults();
    drawTuning();
    drawOutcome();
  });
}

function outcomeChanged() {
  keepingFocus(() => {
    drawResults();
    drawOutcome();
  });
  renewed();
  say(`${current()?.model}: ${$("count").textContent}`);
}

// What the user does.

/** @param {number} i */
function select(i) {
  if (i < 0 || i >= state.results.length) return;
  if (i !== state.current) state.other = state.current;
  state.current = i;
  state.picked = 0;
  drawPanels();
  renewed();
  keepSoon();
  const result = current();
  if (result && !result.mask && !result.error) void run(result);
}

/** @param {number} i */
function drop(i) {
  state.results.splice(i, 1);
  state.current = Math.min(state.current, state.results.length - 1);
  state.other = -1;
  drawPanels();
  renewed();
  keepSoon();
}

/** @param {number} i */
function swipeAgainst(i) {
  state.other = i;
  setMode("swipe");
}

/** @param {number} share of the width */
function setSplit(share) {
  state.split = Math.min(Math.max(share, 0), 1);
  $("split").value = String(100 * state.split);
  draw();
}

/** @param {string} mode */
function setMode(mode) {
  state.mode = mode;
  $("mode").value = mode;
  if (!other()) state.other = state.results.findIndex((_, i) => i !== state.current);
  const panes = mode === "side" && other() ? 2 : 1;
  if (panes !== view.panes) {
    view.panes = panes;
    view.fit();
  }
  drawResults();
  renewed();
  keepSoon();
}

/**
 * @param {Choice} choice
 * @param {Record<string, string>} [settings]
 * @param {import("./result.js").Edit[]} [edits]
 */
function add(choice, settings = {}, edits = []) {
  const result = new Result(choice, settings, edits, () => { if (state.results.includes(result)) outcomeChanged(); });
  state.results.push(result);
  if (state.results.length > MOST_RESULTS) {
    state.results.shift();
    state.current -= 1;
    state.other -= 1;
  }
  return result;
}

/** @param {Result} result */
async function run(result) {
  await busy(`running ${result.choice.model}`, async (signal) => {
    try {
      await result.run(state.image, state.at, view.span(0), tellProgress, signal);
    } catch (why) {
      if (why instanceof Error && why.name !== "AbortError") result.error = why.message;
      throw why;
    } finally {
      state.picked = 0;
      drawPanels();
    }
  });
  keepSoon();
}

/** @param {string} model @param {Partial<Choice>} [more] */
function tryModel(model, more = {}) {
  const choice = { model, channels: null, scale: null, invert: false, ...more };
  const result = add(choice);
  select(state.results.indexOf(result));
}

async function fitModels() {
  await busy("ranking the models of the zoo", async (signal) => {
    const ranking = await work("fit", { image: state.image }, tellProgress, signal);
    const rows = ranking.models.map((/** @type {any} */ model) => {
      const fit = model.images?.[0] || model;
      const channels = fit.channels && fit.named !== false ? fit.channels : null;
      const button = make("button", { type: "button", ariaLabel: `Try ${model.id}`, onclick: () => tryModel(model.id, { channels, scale: fit.resized ? "auto" : null }) }, "Try");
      const why = (model.reasons || []).join("; ");
      return make("tr", {}, make("td", {}, button), make("td", { title: why }, model.id), make("td", {}, model.verdict), make("td", {}, Number(model.score).toFixed(2)));
    });
    $("offers").replaceChildren(make("tbody", {}, ...rows));
    $("offers").hidden = false;
    $("known").replaceChildren(...ranking.models.map((/** @type {any} */ model) => make("option", { value: model.id })));
  });
}

async function useSettings() {
  const result = current();
  if (!result?.mask) return;
  const { command } = await change("command", { attempt: result.mask.id, settings: result.settings });
  $("command").textContent = command;
  $("command").hidden = false;
}

async function save() {
  const result = current(), { mask } = result || {};
  if (!result || !mask) return;
  await busy("saving", async (signal) => {
    const saved = await work("save", { attempt: mask.id, settings: result.settings, edits: result.edits }, tellProgress, signal);
    const failed = saved.failed.length ? ` ${saved.failed.length} failed: ${saved.failed.join("; ")}` : "";
    $("command").textContent = `# ${saved.done} saved in ${saved.folder}.${failed}\n${saved.command}`;
    $("command").hidden = false;
  });
}

/** @param {string} tool */
function setTool(tool) {
  state.tool = tool;
  state.line = [];
  cross.hide();
  $("tool").value = tool;
  view.drawn = tool === "split" || tool === "draw" ? drawing : null;
  draw();
}

/** @param {[number, number][]} line x and y @param {boolean} done */
function drawing(line, done) {
  state.line = line;
  draw();
  if (done) correct(line);
}

/** @param {[number, number][]} points x and y */
function correct(points) {
  const kind = /** @type {"delete"} */ (state.tool);
  state.line = [];
  state.picked = 0;
  tell("");
  void current()?.correct({ kind, points: points.map(([x, y]) => [y, x]), at: { ...state.at } }, tell);
  keepSoon();
}

function undo() {
  const result = current();
  if (!result?.edits.length) return;
  result.edits = result.edits.slice(0, -1);
  void result.relabel(tell);
  keepSoon();
}

/** @param {"right" | "wrong"} verdict */
async function judge(verdict) {
  const result = current();
  if (!result?.mask) return;
  const row = state.picked ? Object.fromEntries(result.row(state.picked)) : null;
  const { file, rows } = await change("judge", {
    image: state.image, at: state.at, attempt: result.mask.id, settings: result.settings, verdict,
    object: row && { label: row.label, y: row.centroid_y_px, x: row.centroid_x_px, area_px: row.area_px ?? null },
  });
  $("command").textContent = `# kept as row ${rows} of ${file}`;
  $("command").hidden = false;
}

/** @param {number} x @param {number} y */
function pick(x, y) {
  if (state.tool === "delete") return correct([[x + 0.5, y + 0.5]]);
  if (state.tool === "merge") {
    state.line = [...state.line, [x + 0.5, y + 0.5]];
    return state.line.length === 2 ? correct(state.line) : draw();
  }
  state.picked = current()?.mask?.labelAt(x, y) || 0;
  drawOutcome();
  draw();
  say(state.picked ? `object ${state.picked}` : "no object");
}

/** @param {number} x @param {number} y */
function showValue(x, y) {
  const values = state.picture?.valuesAt(x, y) || [];
  const known = values.filter(({ value }) => value !== null);
  const label = current()?.mask?.labelAt(x, y);
  const told = known.map(({ name, value, mean }) => `${name} ${mean ? "about " : ""}${Number(Number(value).toPrecision(6))}`);
  $("value").textContent = known.length ? `x ${x}, y ${y}: ${told.join(", ")}${label ? `; object ${label}` : ""}` : "\u00a0";
}

/** @param {number} way */
function stepPlane(way) {
  const bar = document.querySelector("#planes input");
  if (!(bar instanceof HTMLInputElement)) return;
  bar.value = String(Number(bar.value) + way);
  bar.dispatchEvent(new Event("input"));
  bar.dispatchEvent(new Event("change"));
}

function listen() {
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
    void result.relabel(tell);
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
  const kept = await ask("state");
  const image = kept.image < images.length ? kept.image : 0;
  $("image").value = String(image);
  await openImage(image, kept);
  setMode(kept.mode || "over");
  setSplit(kept.split ?? 0.5);
  $("letters").checked = kept.letters ?? true;
  state.ready = true;
  if (!state.results.length) models.slice(0, MOST_RESULTS).forEach((/** @type {string} */ model) => add({ model, channels: null, scale: null, invert: false }));
  if (state.current < 0 && state.results.length) select(0);
  document.body.dataset.ready = "yes";
}

start().catch(tell);
