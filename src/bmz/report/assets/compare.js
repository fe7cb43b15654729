"use strict";
/* The page of `bmz compare`. All data is in the page; nothing is asked for from elsewhere. */
const data = JSON.parse(document.getElementById("data").textContent);
// Okabe and Ito 2008: colours that people without red or green cones tell apart
const COLOURS = ["#e69f00", "#56b4e9", "#f0e442", "#009e73", "#cc79a7", "#d55e00", "#0072b2"];
const TRUTH = "#ffffff";
const $ = (id) => document.getElementById(id);
const make = (tag, words = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [key, value] of Object.entries(words)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key in node && key !== "list") node[key] = value;
    else node.setAttribute(key, value);
  }
  node.append(...children);
  return node;
};
const state = { image: 0, mode: "over", current: 0, left: -1, split: 0.5, view: null, picked: null, sort: null };
let shown = null; // what is decoded of the image in hand
const views = [];

async function unpacked(text) {
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

async function labelsOf(packed, width, height) {
  // differences from pixel to pixel along a row, as four bytes each, one byte plane after the other
  const bytes = await unpacked(packed);
  const size = width * height;
  const labels = new Int32Array(size);
  for (let y = 0; y < height; y++) {
    let before = 0;
    for (let x = 0; x < width; x++) {
      const i = y * width + x;
      before = (before + (bytes[i] | (bytes[size + i] << 8) | (bytes[2 * size + i] << 16) | (bytes[3 * size + i] << 24))) | 0;
      labels[i] = before;
    }
  }
  return labels;
}

function outline(labels, width, height) {
  // edges of pixels between one label and another, joined along rows and columns
  const path = new Path2D();
  const at = (x, y) => (x < 0 || y < 0 || x >= width || y >= height ? 0 : labels[y * width + x]);
  for (let y = 0; y <= height; y++) {
    let start = -1;
    for (let x = 0; x <= width; x++) {
      const differs = x < width && at(x, y - 1) !== at(x, y);
      if (differs && start < 0) start = x;
      if (!differs && start >= 0) { path.moveTo(start, y); path.lineTo(x, y); start = -1; }
    }
  }
  for (let x = 0; x <= width; x++) {
    let start = -1;
    for (let y = 0; y <= height; y++) {
      const differs = y < height && at(x - 1, y) !== at(x, y);
      if (differs && start < 0) start = y;
      if (!differs && start >= 0) { path.moveTo(x, start); path.lineTo(x, y); start = -1; }
    }
  }
  return path;
}

async function pixelsOf(uri) {
  const picture = new Image();
  picture.src = uri;
  await picture.decode();
  const canvas = make("canvas", { width: picture.width, height: picture.height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  context.drawImage(picture, 0, 0);
  const rgba = context.getImageData(0, 0, picture.width, picture.height).data;
  const grey = new Uint8Array(picture.width * picture.height);
  for (let i = 0; i < grey.length; i++) grey[i] = rgba[4 * i];
  return grey;
}

function composed() {
  const { width, height } = shown.image;
  const out = new ImageData(width, height);
  const luts = shown.channels.map((channel) => {
    const lut = new Float32Array(256);
    const span = Math.max(channel.high - channel.low, 1);
    for (let v = 0; v < 256; v++) lut[v] = channel.on ? Math.min(Math.max((v - channel.low) / span, 0), 1) : 0;
    return lut;
  });
  for (let i = 0; i < width * height; i++) {
    let r = 0, g = 0, b = 0;
    for (let c = 0; c < luts.length; c++) {
      const v = luts[c][shown.channels[c].grey[i]], colour = shown.channels[c].colour;
      r += v * colour[0]; g += v * colour[1]; b += v * colour[2];
    }
    out.data.set([255 * Math.min(r, 1), 255 * Math.min(g, 1), 255 * Math.min(b, 1), 255], 4 * i);
  }
  shown.canvas.getContext("2d").putImageData(out, 0, 0);
}

async function show(number) {
  state.image = number;
  const image = data.images[number];
  const channels = [];
  for (const one of image.channels) channels.push({ ...one, low: 0, high: 255, on: true, grey: await pixelsOf(one.uri) });
  const layers = [];
  for (const [i, one] of image.results.entries()) {
    if (one.packed === null) continue;
    const labels = await labelsOf(one.packed, image.width, image.height);
    layers.push({ ...one, index: i, labels, path: outline(labels, image.width, image.height), colour: COLOURS[layers.length % COLOURS.length], on: layers.length === 0 });
  }
  let truth = null;
  if (image.truth) {
    const labels = await labelsOf(image.truth, image.width, image.height);
    truth = { labels, path: outline(labels, image.width, image.height), colour: TRUTH, on: false, name: image.known ? "truth" : "consensus" };
  }
  shown = { image, channels, layers, truth, canvas: make("canvas", { width: image.width, height: image.height }) };
  state.current = 0; state.left = Math.min(1, layers.length - 1); state.picked = null; state.view = null;
  composed();
  drawPanels();
  setMode(state.mode);
}

// all views show the same place: its middle, and how many pixels of the image lie across their shorter side
function fit() {
  const { width, height } = shown.image, canvas = views[0].canvas;
  const zoom = Math.min(canvas.width / width, canvas.height / height);
  state.view = { x: width / 2, y: height / 2, span: Math.min(canvas.width, canvas.height) / zoom };
}

function placed(canvas) {
  const zoom = Math.min(canvas.width, canvas.height) / state.view.span;
  return { zoom, x: canvas.width / 2 - zoom * state.view.x, y: canvas.height / 2 - zoom * state.view.y };
}

function setMode(mode) {
  state.mode = mode;
  for (const name of ["over", "side", "swipe"]) $(`mode-${name}`).setAttribute("aria-pressed", String(name === mode));
  const box = $("views");
  box.replaceChildren();
  views.length = 0;
  const on = shown.layers.filter((layer) => layer.on);
  const parts = mode === "side" ? (on.length ? on : shown.layers.slice(0, 2)) : [null];
  box.style.setProperty("--across", parts.length > 1 ? 2 : 1);
  box.toggleAttribute("data-many", parts.length > 1);
  for (const layer of parts) {
    const canvas = make("canvas", { tabIndex: 0 });
    canvas.setAttribute("role", "img");
    canvas.setAttribute("aria-label", layer ? `image with the outlines of ${layer.name}` : "image with outlines");
    const caption = make("figcaption");
    const figure = make("figure", {}, canvas, caption);
    if (mode === "swipe") {
      figure.append(make("input", { type: "range", min: 0, max: 1000, value: 1000 * state.split, className: "swipe", ariaLabel: "where the left result ends",
        oninput: (event) => { state.split = event.target.value / 1000; drawAll(); } }));
    }
    box.append(figure);
    const view = { canvas, caption, layer };
    listen(view);
    views.push(view);
  }
  resize();
}

function resize() {
  const ratio = window.devicePixelRatio || 1;
  for (const { canvas } of views) {
    canvas.width = Math.max(canvas.clientWidth * ratio, 1);
    canvas.height = Math.max(canvas.clientHeight * ratio, 1);
  }
  if (!state.view) fit();
  drawAll();
}

function stroke(context, layer, strong, zoom) {
  const ratio = window.devicePixelRatio || 1;
  const width = (strong ? 2 : 1.5) * ratio / zoom;
  context.lineWidth = width * 2; context.strokeStyle = "rgba(0,0,0,.45)"; context.stroke(layer.path);
  context.lineWidth = width; context.strokeStyle = layer.colour; context.stroke(layer.path);
}

function draw(view) {
  const context = view.canvas.getContext("2d");
  const { zoom, x, y } = placed(view.canvas);
  context.setTransform(1, 0, 0, 1, 0, 0);
  context.clearRect(0, 0, view.canvas.width, view.canvas.height);
  context.setTransform(zoom, 0, 0, zoom, x, y);
  context.imageSmoothingEnabled = zoom < 2;
  context.drawImage(shown.canvas, 0, 0);
  const clipped = (from, to, layer) => {
    context.save(); context.beginPath();
    context.rect((from - x) / zoom, -y / zoom, (to - from) / zoom, view.canvas.height / zoom);
    context.clip(); stroke(context, layer, true, zoom); context.restore();
  };
  if (state.mode === "swipe" && shown.layers.length) {
    const at = state.split * view.canvas.width, left = shown.layers[Math.max(state.left, 0)], right = shown.layers[state.current];
    clipped(0, at, left); clipped(at, view.canvas.width, right);
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.fillStyle = "#fff"; context.fillRect(at - 1, 0, 2, view.canvas.height);
    view.caption.textContent = `left: ${left.name}, right: ${right.name}`;
  } else {
    const layers = view.layer ? [view.layer] : shown.layers.filter((layer) => layer.on);
    for (const layer of layers) stroke(context, layer, layer === shown.layers[state.current], zoom);
    view.caption.textContent = view.layer ? `${view.layer.name}: ${view.layer.counted}` : "";
  }
  if (shown.truth && shown.truth.on) { context.setTransform(zoom, 0, 0, zoom, x, y); stroke(context, shown.truth, false, zoom); }
  if (state.picked) {
    const ratio = window.devicePixelRatio || 1;
    context.setTransform(1, 0, 0, 1, 0, 0);
    context.strokeStyle = "#fff"; context.lineWidth = 2 * ratio;
    context.beginPath();
    context.arc(x + zoom * state.picked.x, y + zoom * state.picked.y, Math.max(14 * ratio, zoom * state.picked.r * 1.4), 0, 2 * Math.PI);
    context.stroke();
  }
}
let waiting = false;
function drawAll() {
  if (waiting) return;
  waiting = true;
  requestAnimationFrame(() => { waiting = false; for (const view of views) draw(view); });
}

function zoomAt(canvas, px, py, factor) {
  const before = placed(canvas), most = 4 * Math.max(shown.image.width, shown.image.height);
  const span = Math.min(Math.max(state.view.span / factor, 8), most);
  const zoom = Math.min(canvas.width, canvas.height) / span;
  // the pixel under the pointer stays there
  const x = (px - before.x) / before.zoom, y = (py - before.y) / before.zoom;
  state.view = { span, x: x - (px - canvas.width / 2) / zoom, y: y - (py - canvas.height / 2) / zoom };
  drawAll();
}

function move(canvas, dx, dy) {
  const { zoom } = placed(canvas);
  state.view = { ...state.view, x: state.view.x - dx / zoom, y: state.view.y - dy / zoom };
  drawAll();
}

function locate(x, y, r) {
  state.picked = { x, y, r };
  state.view = { x, y, span: Math.min(state.view.span, Math.max(r * 12, 60)) };
  $("views").scrollIntoView({ block: "nearest" });
  drawAll();
}

function listen(view) {
  const { canvas } = view, held = new Map();
  let moved = 0;
  const place = (event) => {
    const box = canvas.getBoundingClientRect(), ratio = canvas.width / box.width;
    return [(event.clientX - box.left) * ratio, (event.clientY - box.top) * ratio];
  };
  canvas.addEventListener("wheel", (event) => {
    event.preventDefault();
    zoomAt(canvas, ...place(event), Math.exp(-event.deltaY * (event.ctrlKey ? 0.01 : 0.0015)));
  }, { passive: false });
  canvas.addEventListener("pointerdown", (event) => { canvas.setPointerCapture(event.pointerId); held.set(event.pointerId, place(event)); moved = 0; });
  canvas.addEventListener("pointermove", (event) => {
    if (!held.has(event.pointerId)) return;
    const before = held.get(event.pointerId), now = place(event);
    if (held.size === 2) {
      const [, other] = [...held.entries()].find(([id]) => id !== event.pointerId);
      const far = (a, b) => Math.hypot(a[0] - b[0], a[1] - b[1]);
      zoomAt(canvas, (now[0] + other[0]) / 2, (now[1] + other[1]) / 2, far(now, other) / Math.max(far(before, other), 1));
    } else {
      move(canvas, now[0] - before[0], now[1] - before[1]);
    }
    moved += Math.abs(now[0] - before[0]) + Math.abs(now[1] - before[1]);
    held.set(event.pointerId, now);
  });
  const up = (event) => {
    if (held.delete(event.pointerId) && event.type === "pointerup" && moved < 6) pick(view, ...place(event));
  };
  canvas.addEventListener("pointerup", up);
  canvas.addEventListener("pointercancel", up);
  canvas.addEventListener("keydown", (event) => {
    const step = 60, keys = { ArrowLeft: [step, 0], ArrowRight: [-step, 0], ArrowUp: [0, step], ArrowDown: [0, -step] };
    if (event.key in keys) { move(canvas, ...keys[event.key]); event.preventDefault(); }
  });
}

function pick(view, px, py) {
  const at = placed(view.canvas);
  const x = Math.floor((px - at.x) / at.zoom), y = Math.floor((py - at.y) / at.zoom);
  const { width, height } = shown.image;
  const layer = view.layer || shown.layers[state.current];
  if (!layer || x < 0 || y < 0 || x >= width || y >= height) return;
  const label = layer.labels[y * width + x];
  if (layer !== shown.layers[state.current]) setCurrent(shown.layers.indexOf(layer));
  const row = label ? document.querySelector(`#objects tr[data-label="${label}"]`) : null;
  select(row);
  if (row) row.scrollIntoView({ block: "nearest" });
  else { state.picked = null; drawAll(); }
}

function select(row) {
  for (const old of document.querySelectorAll("tr[aria-selected]")) old.removeAttribute("aria-selected");
  if (!row) return;
  row.setAttribute("aria-selected", "true");
  state.picked = { x: +row.dataset.x, y: +row.dataset.y, r: +row.dataset.r };
  drawAll();
}

function setCurrent(number) {
  if (state.current !== number) state.left = state.current;
  state.current = number;
  shown.layers[number].on = true;
  drawPanels();
  if (state.mode === "side") setMode("side"); else drawAll();
}

function toggle(number) {
  if (!shown.layers[number]) return;
  shown.layers[number].on = !shown.layers[number].on;
  drawPanels();
  if (state.mode === "side") setMode("side"); else drawAll();
}

const digits = (value, count = 3) => (value === null || value === undefined ? "" : Number(value).toPrecision(count).replace(/\.?0+$/, ""));

function drawPanels() {
  const { image, layers, truth } = shown;
  $("warnings").hidden = !image.warnings.length;
  $("warnings").firstElementChild.replaceChildren(...image.warnings.map((text) => make("li", {}, text)));
  $("reason").textContent = image.reason;
  const list = layers.map((layer, i) => {
    const box = make("input", { type: "checkbox", checked: layer.on, ariaLabel: `outlines of ${layer.name}`, onchange: () => toggle(i) });
    const swatch = make("span", { className: "swatch" });
    swatch.style.background = layer.colour;
    const row = make("div", { className: "result" }, box, swatch, make("button", { onclick: () => setCurrent(i), title: "show its objects" }, layer.name), make("span", { className: "soft" }, layer.verdict));
    row.toggleAttribute("data-current", i === state.current);
    return row;
  });
  if (truth) {
    const box = make("input", { type: "checkbox", checked: truth.on, ariaLabel: `outlines of the ${truth.name}`, onchange: () => { truth.on = !truth.on; drawAll(); } });
    const swatch = make("span", { className: "swatch" });
    swatch.style.background = "repeating-linear-gradient(45deg,#888,#fff 4px)";
    list.push(make("div", { className: "result" }, box, swatch, truth.name, ""));
  }
  for (const one of image.results) if (one.error) list.push(make("div", { className: "failed" }, `${one.name}: ${one.error}`));
  if (image.left_out) list.push(make("div", { className: "soft" }, `${image.left_out} more are in the table alone`));
  $("results").replaceChildren(...list);
  $("channels").replaceChildren(...shown.channels.map((channel) => make("label", {},
    make("span", {}, make("input", { type: "checkbox", checked: channel.on, onchange: (e) => { channel.on = e.target.checked; composed(); drawAll(); } }), ` ${channel.name}`),
    make("input", { type: "range", min: 0, max: 254, value: channel.low, ariaLabel: `${channel.name}: what is black`, oninput: (e) => { channel.low = +e.target.value; composed(); drawAll(); } }),
    make("input", { type: "range", min: 1, max: 255, value: channel.high, ariaLabel: `${channel.name}: what is white`, oninput: (e) => { channel.high = +e.target.value; composed(); drawAll(); } }))));
  drawRanking(); drawObjects(); drawWorst(); drawSizes();
}

function drawRanking() {
  const { image } = shown;
  const head = make("tr", {}, ...image.headings.map((text) => make("th", {}, text)));
  const rows = image.ranking.map((cells, i) => make("tr", { onclick: () => { const at = shown.layers.findIndex((layer) => layer.index === i); if (at >= 0) setCurrent(at); } }, ...cells.map((text) => make("td", {}, text))));
  $("ranking").replaceChildren(make("thead", {}, head), make("tbody", {}, ...rows));
}

function drawObjects() {
  const layer = shown.layers[state.current];
  $("objects-of").textContent = layer ? layer.name : "";
  if (!layer) { $("objects").replaceChildren(); return; }
  const { names, columns } = layer.table, count = columns[0] ? columns[0].length : 0;
  const order = [...Array(count).keys()];
  if (state.sort && names.includes(state.sort.name)) {
    const column = columns[names.indexOf(state.sort.name)];
    order.sort((a, b) => state.sort.way * ((column[a] ?? Infinity) - (column[b] ?? Infinity)));
  }
  const head = make("tr", {}, ...names.map((name) => make("th", { ariaSort: state.sort && state.sort.name === name ? (state.sort.way > 0 ? "ascending" : "descending") : "none" },
    make("button", { onclick: () => { state.sort = { name, way: state.sort && state.sort.name === name ? -state.sort.way : 1 }; drawObjects(); } }, name))));
  const rows = order.map((i) => make("tr", { tabIndex: 0, "data-label": columns[0][i], "data-x": layer.places[0][i], "data-y": layer.places[1][i], "data-r": layer.places[2][i],
    onclick: (e) => { select(e.currentTarget); locate(layer.places[0][i], layer.places[1][i], layer.places[2][i]); },
    onkeydown: (e) => { if (e.key === "Enter") e.currentTarget.click(); } }, ...columns.map((column) => make("td", {}, typeof column[i] === "number" ? digits(column[i], 4) : String(column[i] ?? "")))));
  $("objects").replaceChildren(make("thead", {}, head), make("tbody", {}, ...rows));
}

function drawWorst() {
  const layer = shown.layers[state.current];
  const worst = layer ? layer.worst : [];
  $("worst-what").textContent = shown.image.known ? "against the truth" : layer && layer.sure ? "that are least likely true ones" : "that fewest other results share";
  const rows = worst.map((one) => make("tr", { tabIndex: 0, onclick: () => locate(one.x, one.y, one.r), onkeydown: (e) => { if (e.key === "Enter") locate(one.x, one.y, one.r); } },
    make("td", {}, one.what), make("td", {}, `${Math.round(one.x)}, ${Math.round(one.y)}`)));
  $("worst").replaceChildren(make("tbody", {}, ...rows));
}

function drawSizes() {
  const on = shown.layers.filter((layer) => layer.on && layer.sizes.length);
  const all = on.flatMap((layer) => layer.sizes);
  const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
  svg.setAttribute("viewBox", "0 0 640 200"); svg.setAttribute("role", "img"); svg.setAttribute("width", "100%");
  svg.setAttribute("aria-label", "how many objects have which diameter, for each result that is switched on");
  if (all.length) {
    const high = Math.max(...all), bins = 32, width = high / bins || 1;
    const counts = on.map((layer) => { const c = Array(bins).fill(0); for (const s of layer.sizes) c[Math.min(Math.floor(s / width), bins - 1)]++; return c; });
    const most = Math.max(1, ...counts.flat());
    counts.forEach((c, i) => {
      const path = document.createElementNS(svg.namespaceURI, "path");
      path.setAttribute("d", c.map((n, b) => `${b ? "L" : "M"}${30 + (b / bins) * 600},${170 - (n / most) * 150} L${30 + ((b + 1) / bins) * 600},${170 - (n / most) * 150}`).join(" "));
      path.setAttribute("fill", "none"); path.setAttribute("stroke", on[i].colour); path.setAttribute("stroke-width", "2.5");
      svg.append(path);
    });
    const text = (x, y, words, anchor) => { const t = document.createElementNS(svg.namespaceURI, "text"); t.setAttribute("x", x); t.setAttribute("y", y); t.setAttribute("text-anchor", anchor); t.textContent = words; svg.append(t); };
    text(30, 188, "0", "middle"); text(630, 188, `${digits(high)} ${shown.image.unit}`, "end"); text(24, 24, String(most), "end"); text(330, 188, "equivalent diameter", "middle");
  }
  $("sizes").replaceChildren(svg);
}

function start() {
  $("command").textContent = data.command;
  $("commands").textContent = data.images.flatMap((image) => image.results.map((one) => one.command)).join("\n");
  $("versions").textContent = Object.entries(data.versions).map(([name, number]) => `${name} ${number}`).join(", ");
  $("models").textContent = data.models.map((one) => `${one.name}  ${one.title}  sha256 ${one.sha256}`).join("\n");
  $("image").replaceChildren(...data.images.map((image, i) => make("option", { value: i }, image.name)));
  $("image").hidden = data.images.length < 2;
  $("image").addEventListener("change", (event) => show(+event.target.value));
  for (const name of ["over", "side", "swipe"]) $(`mode-${name}`).addEventListener("click", () => setMode(name));
  const middle = () => [views[0].canvas, views[0].canvas.width / 2, views[0].canvas.height / 2];
  $("closer").addEventListener("click", () => zoomAt(...middle(), 1.5));
  $("farther").addEventListener("click", () => zoomAt(...middle(), 1 / 1.5));
  $("fit").addEventListener("click", () => { fit(); drawAll(); });
  $("theme").addEventListener("click", () => {
    const root = document.documentElement, dark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
    root.dataset.theme = dark ? "light" : "dark";
  });
  document.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || /input|select|textarea/i.test(event.target.tagName)) return;
    const keys = { "+": () => zoomAt(...middle(), 1.5), "=": () => zoomAt(...middle(), 1.5), "-": () => zoomAt(...middle(), 1 / 1.5), 0: () => { fit(); drawAll(); },
      o: () => setMode("over"), s: () => setMode("side"), w: () => setMode("swipe"), t: () => { if (shown.truth) { shown.truth.on = !shown.truth.on; drawPanels(); drawAll(); } } };
    if (event.key in keys) keys[event.key]();
    else if (/^[1-9]$/.test(event.key)) toggle(+event.key - 1);
  });
  addEventListener("resize", resize);
  $("failed").replaceChildren(...data.failed.map((text) => make("li", {}, text)));
  $("failed").parentElement.hidden = !data.failed.length;
  if (!data.images.length) { document.querySelector("main").replaceChildren(); document.body.dataset.ready = "yes"; return; }
  show(0).then(() => { document.body.dataset.ready = "yes"; });
}
start();
