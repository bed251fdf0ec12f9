"use strict";
// The page: unpacks the networks, runs them on the picture, pools (pool.js), draws. Everything stands in one file.

const $ = id => document.getElementById(id);
const page = JSON.parse($("page-data").textContent); // networks, examples, colors; written by simpool.explorer
const state = {view: "own", query: null, kept: null, gamma: null, size: page.size, photo: null};
window.explorer = {state, networks: [], ready: false, page}; // for tests, and for the curious in the console

// ---- unpacking: base64 -> gzip -> bytes, with the browser's own decompression
async function unpack(id) {
  const text = atob($(id).textContent.trim()), bytes = new Uint8Array(text.length);
  for (let i = 0; i < text.length; i++) bytes[i] = text.charCodeAt(i);
  $(id).remove();
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Uint8Array(await new Response(stream).arrayBuffer());
}

// onnxruntime-web fetches its parts, which a page opened from disk cannot: it is handed them
async function startRuntime() {
  const module = await unpack("ort-module");
  ort.env.wasm.numThreads = 1; // threads would need headers that only a server sends
  ort.env.wasm.wasmBinary = (await unpack("ort-wasm")).buffer;
  ort.env.wasm.wasmPaths = {mjs: URL.createObjectURL(new Blob([module], {type: "text/javascript"}))};
}

function readLayer(layer) { // numbers of SimPool: base64 of float32
  for (const name of ["gain", "bias", "wq", "wk", "bq"]) {
    const text = atob(layer[name]), bytes = Uint8Array.from(text, c => c.charCodeAt(0));
    layer[name] = new Float32Array(bytes.buffer);
  }
  return layer;
}

async function openNetworks() {
  for (const [i, facts] of page.networks.entries()) {
    say(`Starting ${facts.name} (${i + 1} of ${page.networks.length}) …`);
    const session = await ort.InferenceSession.create(await unpack(`network-${i}`), {executionProviders: ["wasm"]});
    const layer = facts.layer && readLayer(facts.layer);
    window.explorer.networks.push({...facts, session, layer, ...addFigure(facts.name, i)});
  }
}

// ---- the network: once per picture and size
function workingSize(photo) { // both sides a multiple of the patch, the shorter one as asked for
  const factor = state.size / Math.min(photo.width, photo.height), step = page.step;
  const side = length => Math.max(step, Math.round(length * factor / step) * step);
  return [side(photo.width), side(photo.height)];
}

function pixels(photo, width, height) {
  const canvas = new OffscreenCanvas(width, height), context = canvas.getContext("2d", {willReadFrequently: true});
  context.imageSmoothingQuality = "high";
  context.drawImage(photo, 0, 0, width, height);
  return context.getImageData(0, 0, width, height).data; // red, green, blue, alpha
}

function toTensor(rgba, width, height, {mean, std}) { // (1, C, H, W), normalized; gray as the luminance
  const N = width * height, C = mean.length, x = new Float32Array(C * N);
  for (let i = 0; i < N; i++) {
    const [r, g, b] = [rgba[4 * i], rgba[4 * i + 1], rgba[4 * i + 2]];
    const values = C === 1 ? [Math.round(.299 * r + .587 * g + .114 * b)] : [r, g, b];
    for (let c = 0; c < C; c++) x[c * N + i] = (values[c] / 255 - mean[c]) / std[c];
  }
  return new ort.Tensor("float32", x, [1, C, height, width]);
}

async function runNetwork(network, rgba, width, height) {
  const start = performance.now();
  const given = await network.session.run({images: toTensor(rgba, width, height, network)});
  const [, h, w, D] = given.tokens.dims;
  Object.assign(network, {x: given.tokens.data, h, w, D, N: h * w, own: null, ms: performance.now() - start});
  if (given.attention) { // the mean over heads
    const heads = given.attention.dims[1];
    network.own = new Float64Array(h * w);
    given.attention.data.forEach((a, i) => { network.own[i % (h * w)] += a / heads; });
  }
}

let turn = 0; // a newer picture or size ends the work on the older one
async function look() {
  if (!state.photo || !window.explorer.opened) return; // `begin` looks once all networks are open
  const mine = ++turn;
  try {
    const [width, height] = workingSize(state.photo), rgba = pixels(state.photo, width, height);
    document.body.setAttribute("aria-busy", "true");
    for (const network of window.explorer.networks) {
      say(`${network.name} looks at ${width} × ${height} pixels …`);
      await new Promise(done => setTimeout(done)); // so that the line above is seen
      await runNetwork(network, rgba, width, height);
      if (mine !== turn) return;
    }
    document.body.removeAttribute("aria-busy");
    Object.assign(window.explorer, {width, height, ready: true});
    draw();
  } catch (error) { // of memory, for example; busy as it stays, the old maps are not drawn on the new photo
    if (mine === turn) say(`This did not work: ${error.message ?? error}. Try a smaller image size.`);
  }
}

// ---- the pooling: at every movement of a slider
const VIEWS = {
  own: ["As trained", "The attention of the pooling that each network was trained with. Average pooling has none: similarity."],
  simpool: ["SimPool attention", "Softmax of the query with all patches. Only a network trained with SimPool has W_Q and W_K."],
  share: ["SimPool contribution", "Share of each patch in the pooled vector: attention times value to the power γ."],
  gap: ["Similarity", "Cosine of each patch with the average of all, or with the patch that asks."],
  max: ["Max", "Which share of the channels has its maximum in this patch. There is no query."],
  cls: ["CLS attention", "Attention of the class token in the last block, mean of heads. Its query is the token."],
};

function patchOf(network) { // number of the patch that asks, in the grid of this network; -1: the average
  if (!state.query) return -1;
  const [u, v] = state.query, clip = (t, n) => Math.min(n - 1, Math.max(0, Math.floor(t * n)));
  return clip(v, network.h) * network.w + clip(u, network.w);
}

function poolNetwork(network) { // {map, note} or {lack}
  const {x, N, D, layer} = network, query = patchOf(network);
  const view = state.view === "own" ? network.pooling : state.view;
  if (view === "max") return {map: maxShare(x, N, D)};
  if (view === "gap") return {map: similarity(x, N, D, query)};
  if (view === "cls" || view === "other") {
    const has = network.pooling === view && network.own;
    return has ? {map: network.own} : {lack: `${network.name} was not trained with CLS.`};
  }
  if (!layer) return {lack: `${network.name} was not trained with SimPool: it has no W_Q and W_K.`};
  const temperature = 10 ** Number($("temperature").value), gamma = state.gamma ?? layer.gamma;
  if (network.known?.x !== x) { // once per picture
    const known = keysAndValues(x, N, D, layer);
    network.known = {x, ...known, z: simpool(x, N, D, layer, {known}).z};
  }
  const found = simpool(x, N, D, layer, {query, temperature, gamma, known: network.known});
  return {map: view === "share" ? found.share : found.attention, z: found.z, change: cosine(found.z, network.known.z)};
}

function cosine(a, b) {
  let ab = 0, aa = 0, bb = 0;
  for (let i = 0; i < a.length; i++) { ab += a[i] * b[i]; aa += a[i] ** 2; bb += b[i] ** 2; }
  return ab / Math.sqrt(aa * bb);
}

// ---- drawing
function colorLimit(maps) { // 99 % quantile of all weights in multiples of uniform, at least 2
  const all = maps.flatMap(map => Array.from(map, m => m * map.length)).sort((a, b) => a - b);
  const place = .99 * (all.length - 1), i = Math.floor(place);
  return Math.max(2, all[i] + (place - i) * ((all[i + 1] ?? all[i]) - all[i]));
}

function color(t) { // viridis, between its anchors
  const last = page.colors.length - 1, place = Math.min(1, Math.max(0, t)) * last, i = Math.min(last - 1, Math.floor(place));
  return page.colors[i].map((c, k) => c + (place - i) * (page.colors[i + 1][k] - c));
}

function mapImage(network, map, limit) { // one pixel per patch
  const canvas = new OffscreenCanvas(network.w, network.h), context = canvas.getContext("2d");
  const image = context.createImageData(network.w, network.h);
  map.forEach((m, n) => image.data.set([...color(m * map.length / limit), 255], 4 * n));
  context.putImageData(image, 0, 0);
  return canvas;
}

function maskImage(network, map, mass) { // what is not kept, in black
  const canvas = new OffscreenCanvas(network.w, network.h), context = canvas.getContext("2d");
  const image = context.createImageData(network.w, network.h);
  massMask(map, mass).forEach((kept, n) => image.data.set([0, 0, 0, kept ? 0 : 210], 4 * n));
  context.putImageData(image, 0, 0);
  return canvas;
}

function paint(canvas, network, map, limit) {
  const {width, height} = fit(canvas), context = canvas.getContext("2d"), mass = $("mass").value / 100;
  context.imageSmoothingEnabled = true;
  context.imageSmoothingQuality = "high";
  context.globalAlpha = 1;
  context.drawImage(state.photo, 0, 0, width, height);
  if (!map) return;
  context.imageSmoothingEnabled = $("smooth").checked;
  context.globalAlpha = $("opacity").value / 100;
  context.drawImage(mapImage(network, map, limit), 0, 0, width, height);
  context.globalAlpha = 1;
  if (mass < 1) context.drawImage(maskImage(network, map, mass), 0, 0, width, height);
  const n = patchOf(network);
  if (n < 0) return;
  const [w, h] = [width / network.w, height / network.h];
  const [left, top] = [n % network.w * w, Math.floor(n / network.w) * h];
  for (const [style, line] of [["#000", 4], ["#fff", 2]]) {
    context.strokeStyle = style;
    context.lineWidth = line;
    context.strokeRect(left, top, w, h);
  }
}

function fit(canvas) { // as many pixels as are shown, in the shape of the photo
  const {width, height} = state.photo, wide = Math.min(900, Math.round(canvas.clientWidth * devicePixelRatio) || 320);
  const high = Math.round(wide * height / width);
  if (canvas.width !== wide || canvas.height !== high) Object.assign(canvas, {width: wide, height: high});
  return canvas;
}

function words(network, {map, change}) {
  const N = map.length, at = patchOf(network), entropy = -map.reduce((s, m) => s + (m > 0 ? m * Math.log(m) : 0), 0);
  const spread = Math.exp(entropy), top = map.reduce((a, b) => Math.max(a, b));
  let text = `${spread.toFixed(spread < 10 ? 1 : 0)} of ${N} effective patches, largest ${(top * N).toFixed(1)} × uniform`;
  if (at >= 0) text += `; here ${(map[at] * N).toFixed(1)} ×, rank ${1 + map.reduce((s, m) => s + (m > map[at]), 0)}`;
  if (change < .99995) text += `; pooled vector: cosine ${change.toFixed(3)} with the trained one`;
  return text;
}

function draw() {
  if (!window.explorer.ready || document.body.hasAttribute("aria-busy")) return;
  const {networks, width, height} = window.explorer, start = performance.now();
  const results = networks.map(poolNetwork), pooled = performance.now() - start;
  const limit = colorLimit(results.filter(r => r.map).map(r => r.map).concat([[1]]));
  paint($("photo"), networks[0], null);
  networks.forEach((network, i) => {
    const {map, lack} = results[i];
    network.figure.classList.toggle("without", !map);
    network.lack.textContent = lack || "";
    network.words.textContent = map ? words(network, results[i]) : "";
    network.map = map;
    network.z = results[i].z;
    paint(network.canvas, network, map, limit);
  });
  $("limit").textContent = `≥ ${limit.toFixed(1)}`;
  $("bar").style.background = `linear-gradient(90deg, ${page.colors.map(c => `rgb(${c.map(Math.round)})`)})`;
  const drawn = performance.now() - start - pooled, ms = networks.map(n => n.ms.toFixed(0)).join(" + ");
  const times = `Networks ${ms} ms, pooling ${pooled.toFixed(1)} ms, drawing ${drawn.toFixed(1)} ms.`;
  say(`${width} × ${height} pixels. ${times}`);
  Object.assign(window.explorer, {limit, pooled});
  showValues();
}

let asked = false; // at most one drawing per frame
function redraw() {
  if (!asked) requestAnimationFrame(() => { asked = false; draw(); });
  asked = true;
}

// ---- figures
function addFigure(name, i) {
  const figure = document.createElement("figure");
  figure.innerHTML = '<div class="stage"><canvas tabindex="0" role="img"></canvas><div class="lack"></div></div>'
    + "<figcaption><b></b><span></span></figcaption>";
  const [canvas, lack, b, span] = ["canvas", ".lack", "b", "span"].map(s => figure.querySelector(s));
  canvas.setAttribute("aria-label", `${name}: arrow keys choose the patch that asks`);
  b.textContent = name;
  $("grid").append(figure);
  listen(canvas, i);
  return {figure, canvas, lack, words: span};
}

function listen(canvas, i) {
  const place = e => {
    const box = canvas.getBoundingClientRect();
    return [(e.clientX - box.left) / box.width, (e.clientY - box.top) / box.height];
  };
  const ask = query => { state.query = query; redraw(); };
  canvas.addEventListener("pointermove", e => { if (e.pointerType !== "touch") ask(place(e)); });
  canvas.addEventListener("pointerleave", () => ask(state.kept));
  canvas.addEventListener("click", e => ask(state.kept = place(e)));
  canvas.addEventListener("keydown", e => {
    const step = {ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1]}[e.key];
    if (e.key === "Escape") ask(state.kept = null);
    if (!step || !window.explorer.ready) return;
    e.preventDefault();
    const {w, h} = window.explorer.networks[i < 0 ? 0 : i], [u, v] = state.kept ?? [.5, .5];
    const move = (t, n, s) => (Math.min(n - 1, Math.max(0, Math.floor(t * n) + s)) + .5) / n;
    ask(state.kept = [move(u, w, step[0]), move(v, h, step[1])]);
  });
}

// ---- pictures
async function choose(source, button) { // a file or a picture of this page
  try {
    state.photo = await createImageBitmap(source, {imageOrientation: "from-image", colorSpaceConversion: "none"});
  } catch (error) {
    return say("This file is not a picture that the browser can read. Try JPEG, PNG or WebP.");
  }
  for (const b of $("examples").children) b.setAttribute("aria-pressed", String(b === button));
  Object.assign(state, {query: null, kept: null});
  await look();
}

function addExamples() {
  page.examples.forEach((source, i) => {
    const button = document.createElement("button"), image = new Image();
    image.src = source;
    image.alt = `Example ${i + 1}`;
    button.type = "button";
    button.append(image);
    button.addEventListener("click", async () => { await image.decode(); await choose(image, button); });
    $("examples").append(button);
  });
}

// ---- controls
function say(text) { $("status").textContent = text; }

function showValues() {
  const {networks} = window.explorer, layers = networks.filter(n => n.layer).map(n => n.layer);
  const trained = [...new Set(layers.map(l => l.gamma ?? "none"))].join(", ");
  const temperature = 10 ** Number($("temperature").value), none = !layers.length;
  const asks = !["max", "cls"].includes(state.view);
  $("query").textContent = !asks ? "no query in this map" : state.query ? "one patch" : "the average of all patches";
  $("average").disabled = !state.query;
  $("temperature-value").textContent = temperature === 1 ? "as trained (1)" : temperature.toFixed(2);
  $("gamma-value").textContent = state.gamma === null ? `as trained (${trained})` : state.gamma.toFixed(2);
  $("size-value").textContent = `${state.size} px`;
  $("opacity-value").textContent = `${$("opacity").value} %`;
  $("mass-value").textContent = $("mass").value === "100" ? "everything" : `${$("mass").value} % of the map`;
  $("view-words").textContent = VIEWS[state.view][1];
  for (const id of ["temperature", "gamma", "trained"]) $(id).disabled = none;
}

function addViews() {
  for (const [view, [label]] of Object.entries(VIEWS)) {
    if (view === "cls" && !page.networks.some(n => n.pooling === "cls")) continue;
    const choice = document.createElement("label");
    choice.innerHTML = `<input type="radio" name="view" value="${view}"><span></span>`;
    choice.lastChild.textContent = label;
    choice.firstChild.checked = view === state.view;
    choice.firstChild.addEventListener("change", () => { state.view = view; redraw(); });
    $("views").append(choice);
  }
}

let waiting = 0;
function addControls() {
  const {step, size} = page;
  const [least, most] = [step * Math.ceil(48 / step), Math.min(448, 4 * size)];
  Object.assign($("size"), {min: Math.min(size, least), max: Math.max(size, most), step});
  $("size").value = page.size;
  const sides = [...new Set(page.networks.map(n => Math.max(...n.usual_size)))];
  $("size-words").textContent = `The networks were made for ${sides.join(" and ")} px. Larger gives finer maps.`;
  for (const id of ["temperature", "opacity", "mass", "smooth"]) $(id).addEventListener("input", redraw);
  $("gamma").addEventListener("input", () => { state.gamma = Number($("gamma").value); redraw(); });
  $("size").addEventListener("input", () => {
    state.size = Number($("size").value);
    $("size-value").textContent = `${state.size} px`;
    clearTimeout(waiting);
    waiting = setTimeout(look, 150); // the network runs when the slider rests
  });
  $("average").addEventListener("click", () => { state.query = state.kept = null; redraw(); });
  $("trained").addEventListener("click", asTrained);
  $("save").addEventListener("click", save);
  $("file").addEventListener("change", e => e.target.files[0] && choose(e.target.files[0]));
  addEventListener("resize", redraw);
  addEventListener("dragover", e => { e.preventDefault(); document.body.classList.add("over"); });
  addEventListener("dragleave", e => { if (!e.relatedTarget) document.body.classList.remove("over"); });
  addEventListener("drop", e => {
    e.preventDefault();
    document.body.classList.remove("over");
    if (e.dataTransfer.files[0]) choose(e.dataTransfer.files[0]);
  });
  addEventListener("paste", e => e.clipboardData.files[0] && choose(e.clipboardData.files[0]));
}

function asTrained() {
  state.gamma = null;
  $("temperature").value = 0;
  $("gamma").value = page.networks.find(n => n.layer)?.layer.gamma ?? 1;
  redraw();
}

function save() { // photo and maps in a row, with their captions
  const {networks, limit} = window.explorer, panels = [{canvas: $("photo"), name: "photo"}, ...networks];
  const {width, height} = $("photo"), canvas = document.createElement("canvas"), context = canvas.getContext("2d");
  Object.assign(canvas, {width: panels.length * (width + 8) - 8, height: height + 56});
  context.fillStyle = "#fff";
  context.fillRect(0, 0, canvas.width, canvas.height);
  context.fillStyle = "#000";
  panels.forEach(({canvas: panel, name}, i) => {
    context.font = "16px sans-serif";
    context.drawImage(panel, i * (width + 8), 0, width, height);
    context.fillText(name, i * (width + 8) + 2, height + 20, width);
  });
  context.font = "13px sans-serif";
  context.fillText(`${VIEWS[state.view][0]}; colors from 0 to ${limit.toFixed(1)} times uniform and more`, 2, height + 44);
  canvas.toBlob(blob => {
    const link = Object.assign(document.createElement("a"), {href: URL.createObjectURL(blob), download: "attention.png"});
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 1000);
  });
}

async function begin() {
  addFigure("Photo", -1).canvas.id = "photo";
  $("grid").querySelector("span").textContent = "";
  addExamples();
  addViews();
  addControls();
  asTrained();
  showValues();
  if (typeof DecompressionStream === "undefined") return say("This browser is too old: use one of 2023 or newer.");
  await startRuntime();
  await openNetworks();
  window.explorer.opened = true;
  if (state.photo) await look(); // it was dropped while the page started
  else $("examples").firstChild.click();
}

begin().catch(error => { say(`This did not work: ${error.message ?? error}`); window.explorer.error = String(error); });
