"use strict";
// Everything from the model or a question file reaches the page as text (textContent), never as markup.
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const SVG = "http://www.w3.org/2000/svg";
const AREAS = {"front left": "fl", "front": "f", "front right": "fr", "back left": "bl", "back": "b", "back right": "br"};
const KINDS = {harmful: "bad", harmless: "odd", repaired: "good"};
const TOKEN_COLUMNS = 32;
const state = {frame: 0, layer: 0, mode: "pruned", timer: null};

function bytes(text) {
  const raw = atob(text), out = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i++) out[i] = raw.charCodeAt(i);
  return out;
}
function make(tag, attributes = {}, text = null, parent = null) {
  const svg = ["line", "path", "text", "circle"].includes(tag);
  const node = svg ? document.createElementNS(SVG, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  if (text !== null) node.textContent = text;
  if (parent) parent.appendChild(node);
  return node;
}
const number = (value, digits) => (value === null || value === undefined ? "–" : value.toFixed(digits));
const palette = bytes(data.palette);

// --- views: built anew for each frame, painted anew for each layer and mode
let views = [];
function buildViews(frame) {
  const ring = byId("ring");
  ring.replaceChildren();
  ring.classList.toggle("six", frame.images.length === 6 && frame.images.every((image) => image.view in AREAS));
  views = frame.images.map((image, index) => {
    const name = image.view || `view ${index + 1}`;
    const figure = make("figure", {"data-view": name}, null, ring);
    if (ring.classList.contains("six")) figure.style.gridArea = AREAS[image.view];
    const picture = make("div", {class: "picture"}, null, figure);
    const img = make("img", {alt: `${name} camera`, width: image.width, height: image.height}, null, picture);
    img.src = image.src;
    const overlay = make("canvas", {width: 2 * Math.round(image.width / 4), height: 2 * Math.round(image.height / 4), "aria-hidden": "true"}, null, picture);
    const caption = make("figcaption", {}, null, figure);
    make("span", {}, name, caption);
    const counts = make("span", {class: "count"}, null, caption);
    const count = make("span", {}, "", counts);
    make("span", {class: "word"}, " tokens", counts);
    const rows = Math.ceil(image.tokens / TOKEN_COLUMNS);
    const tokens = make("canvas", {class: "tokens", width: TOKEN_COLUMNS * 10, height: rows * 10, role: "img"}, null, figure);
    const range = make("div", {class: "range"}, null, figure);
    return {name, image, overlay, count, tokens, range};
  });
}
function paintOverlay(view, index, sight, set) {
  const context = view.overlay.getContext("2d");
  context.clearRect(0, 0, view.overlay.width, view.overlay.height);
  if (!sight || state.mode === "unpruned") return;
  const [columns, rows] = view.image.cells, pixels = new ImageData(columns, rows), start = index * sight.patches;
  const levels = bytes(state.mode === "pruned" ? sight.share[set] : sight.heat[set]).subarray(start, start + columns * rows);
  levels.forEach((level, i) => {
    if (state.mode === "pruned") pixels.data.set([0, 0, 0, 210 * (1 - level / 255)], 4 * i);
    else pixels.data.set(palette.subarray(4 * level, 4 * level + 4), 4 * i);
  });
  const small = make("canvas", {width: columns, height: rows});
  small.getContext("2d").putImageData(pixels, 0, 0);
  context.imageSmoothingEnabled = false;
  context.drawImage(small, ...view.image.crop, 0, 0, view.overlay.width, view.overlay.height);
}
function paintTokens(view, index, sight, set, colours) {
  const context = view.tokens.getContext("2d");
  const flags = sight ? bytes(sight.kept[set]) : null;
  let lit = 0;
  context.clearRect(0, 0, view.tokens.width, view.tokens.height);
  const count = view.image.tokens;
  for (let token = 0; token < count; token++) {
    const bit = sight ? index * sight.width + token : 0;
    const on = state.mode === "unpruned" || (flags !== null && ((flags[bit >> 3] >> (7 - (bit & 7))) & 1) === 1);
    lit += on;
    context.fillStyle = on ? colours.lit : colours.dark;
    context.fillRect((token % TOKEN_COLUMNS) * 10 + 1, Math.floor(token / TOKEN_COLUMNS) * 10 + 1, 8, 8);
  }
  view.count.textContent = `${lit} of ${count}`;
  view.tokens.setAttribute("aria-label", `${view.name}: ${lit} of ${count} tokens enter layer ${state.layer}`);
}

// one scale for all views, layers and frames, so that noise cannot look like attention
function paintKey() {
  const bar = byId("key-bar"), context = bar.getContext("2d"), shown = state.mode !== "unpruned";
  byId("key").hidden = !shown;
  if (!shown) return;
  const heat = state.mode === "attribution";
  byId("key-low").textContent = heat ? "attribution: an even share of the view" : "share of a patch's attribution left: 0 %";
  byId("key-high").textContent = heat ? `×${number(data.heat_top, 1)} and more, a doubling the same step` : "100 %";
  const pixels = new ImageData(256, 1);
  for (let i = 0; i < 256; i++) {
    const [r, g, b, a] = heat ? palette.subarray(4 * i, 4 * i + 4) : [0, 0, 0, 210 * (1 - i / 255)];
    pixels.data.set([r, g, b, a], 4 * i);
  }
  const small = make("canvas", {width: 256, height: 1});
  small.getContext("2d").putImageData(pixels, 0, 0);
  context.fillStyle = "#9a9a9a";  // what an image would be
  context.fillRect(0, 0, bar.width, bar.height);
  context.drawImage(small, 0, 0, bar.width, bar.height);
}

function says(sight, set, index) {
  if (state.mode === "unpruned") return "";
  const left = sight.left[set][index], [low, high] = sight.extremes[set][index];
  if (left === 0) return "nothing left of this view";
  if (state.mode === "pruned") return `${number(100 * left, 1)} % of its attribution left`;
  return `×${number(low, 2)} to ×${number(high, 2)} of even`;
}

// --- texts, numbers, curve
function showAnswer(id, answer) {
  const node = byId(id);
  node.textContent = answer.text === null ? `no answer (${answer.reason})` : answer.text || "(empty)";
  node.className = answer.right === null ? "" : answer.right ? "right" : "wrong";
}
function showTexts(frame) {
  byId("label").textContent = frame.label || "(none)";
  showAnswer("unpruned", frame.unpruned);
  showAnswer("pruned", frame.pruned);
  byId("question").textContent = frame.question;
  const verdict = byId("verdict");
  verdict.className = frame.flip ? KINDS[frame.flip.kind] : "";
  verdict.textContent = frame.flip ? `${frame.flip.name.replaceAll("_", " ")}: ${frame.flip.meaning}`
    : frame.agrees === null ? "no comparison" : "both answers agree";
}
function showNumbers(frame) {
  const rows = [["question", String(frame.number)], ["scene", frame.scene], ["since the first frame", frame.time_s === null ? "–" : `${number(frame.time_s, 1)} s`], ["sample", frame.token.slice(0, 12)]];
  const trace = frame.trace;
  if (trace) {
    rows.push(["indicator (MI)", number(trace.mutual_information, 3)], ["steepness k", number(trace.k, 3)], ["inflexion x0", number(trace.x0, 2)],
      ["tokens entering this layer", `${trace.tokens_per_layer[state.layer]} of ${trace.visual_tokens}`],
      ["mean over layers", `${number(trace.average_tokens, 1)} (${number(100 * trace.retention_tokens, 1)} %)`],
      ["prefill FLOPs", `${number(100 * trace.flops_pruned / trace.flops_full, 1)} % of unpruned`]);
    if (trace.merged[state.layer]) rows.push(["of these merged", String(trace.merged[state.layer])]);
  }
  rows.push(["prefill unpruned", frame.unpruned.prefill_ms === null ? "–" : `${number(frame.unpruned.prefill_ms, 1)} ms`],
    ["prefill pruned", frame.pruned.prefill_ms === null ? "–" : `${number(frame.pruned.prefill_ms, 1)} ms`]);
  const body = byId("numbers");
  body.replaceChildren();
  for (const [name, value] of rows) {
    const row = make("tr", {}, null, body);
    make("td", {}, name, row);
    make("td", {}, value, row);
  }
}
function showCurve(frame) {
  const svg = byId("curve"), width = Math.max(260, Math.round(svg.clientWidth)), left = 34, right = width - 10, top = 8, bottom = 162, last = Math.max(1, data.layers - 1);
  svg.replaceChildren();
  svg.setAttribute("viewBox", `0 0 ${width} 190`);
  const most = Math.max(1, ...data.frames.flatMap((f) => (f.trace ? f.trace.tokens_per_layer : [])));
  const x = (layer) => left + (right - left) * layer / last, y = (count) => bottom - (bottom - top) * count / most;
  make("line", {class: "axis", x1: left, x2: right, y1: bottom, y2: bottom}, null, svg);
  make("line", {class: "axis", x1: left, x2: left, y1: top, y2: bottom}, null, svg);
  for (const count of [0, Math.round(most / 2), most]) make("text", {x: left - 4, y: y(count) + 4, "text-anchor": "end"}, String(count), svg);
  for (const layer of [0, Math.round(last / 2), last]) make("text", {x: x(layer), y: bottom + 14, "text-anchor": "middle"}, String(layer), svg);
  make("text", {x: (left + right) / 2, y: bottom + 27, "text-anchor": "middle"}, "layer", svg);
  const line = (counts) => counts.map((count, layer) => `${layer ? "L" : "M"}${x(layer)} ${y(count)}`).join("");
  const opacity = Math.max(0.06, Math.min(0.4, 4 / data.frames.length));  // many lines must not drown this one
  for (const other of data.frames) if (other !== frame && other.trace) make("path", {class: "other", "stroke-opacity": opacity, d: line(other.trace.tokens_per_layer)}, null, svg);
  const trace = frame.trace;
  if (trace) make("path", {class: "this", d: line(trace.tokens_per_layer)}, null, svg);
  make("line", {class: "here", x1: x(state.layer), x2: x(state.layer), y1: top, y2: bottom}, null, svg);
  if (trace) make("circle", {class: "dot", cx: x(state.layer), cy: y(trace.tokens_per_layer[state.layer]), r: 4}, null, svg);
  const others = data.frames.length - 1;
  byId("curve-text").textContent = trace
    ? `Visual tokens entering each layer: this question${others ? `, and the ${others} other${others > 1 ? "s" : ""} in grey` : ""}; layer ${state.layer}: ${trace.tokens_per_layer[state.layer]}.`
    : "No trace: this frame was not pruned.";
}

// --- state
function paint() {
  const frame = data.frames[state.frame], sight = frame.sight, set = sight ? sight.set_of_layer[state.layer] : 0;
  const style = getComputedStyle(document.documentElement);
  const colours = {lit: style.getPropertyValue("--lit").trim(), dark: style.getPropertyValue("--dark").trim()};
  views.forEach((view, index) => {
    paintOverlay(view, index, sight, set);
    paintTokens(view, index, sight, set, colours);
    view.range.textContent = sight ? says(sight, set, index) : "";
  });
  paintKey();
  showNumbers(frame);
  showCurve(frame);
  byId("layer").value = state.layer;
  byId("layer-text").textContent = `${state.layer} of 0–${data.layers - 1}`;
}
function setFrame(index) {
  state.frame = Math.min(Math.max(index, 0), data.frames.length - 1);
  const frame = data.frames[state.frame];
  buildViews(frame);
  showTexts(frame);
  byId("frame").value = state.frame;
  byId("frame-text").textContent = `${state.frame + 1} of ${data.frames.length}`;
  [...byId("timeline").children].forEach((button, i) => button.setAttribute("aria-current", String(i === state.frame)));
  const line = byId("timeline"), here = line.children[state.frame];
  line.scrollLeft = here.offsetLeft - line.offsetLeft - line.clientWidth / 2;
  paint();
}
function setLayer(layer) {
  state.layer = Math.min(Math.max(layer, 0), data.layers - 1);
  paint();
}
function setMode(mode) {
  state.mode = mode;
  document.querySelector(`input[name="mode"][value="${mode}"]`).checked = true;
  paint();
}
function play(on) {
  clearInterval(state.timer);
  state.timer = on ? setInterval(() => setFrame((state.frame + 1) % data.frames.length), 1000) : null;
  const button = byId("play");
  button.textContent = on ? "❚❚" : "▶";
  button.setAttribute("aria-pressed", String(on));
  button.setAttribute("aria-label", on ? "Pause" : "Play");
}

data.frames.forEach((frame, index) => {
  const failed = frame.agrees === null, kind = frame.flip ? KINDS[frame.flip.kind] : failed ? "failed" : "";
  const says = frame.flip ? frame.flip.name.replaceAll("_", " ") : failed ? "no comparison" : "agrees";
  const mark = frame.flip ? {bad: "!", odd: "~", good: "+"}[kind] : "";
  const button = make("button", {type: "button", class: kind, title: `frame ${index + 1}: ${says}`, "aria-label": `frame ${index + 1}: ${says}`}, mark, byId("timeline"));
  button.addEventListener("click", () => setFrame(index));
});
byId("frame").max = data.frames.length - 1;
byId("layer").max = data.layers - 1;
byId("frame").addEventListener("input", (event) => setFrame(Number(event.target.value)));
byId("layer").addEventListener("input", (event) => setLayer(Number(event.target.value)));
byId("play").addEventListener("click", () => play(state.timer === null));
for (const radio of document.querySelectorAll('input[name="mode"]')) radio.addEventListener("change", () => setMode(radio.value));
document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey) return;
  const target = event.target, radio = target.type === "radio", range = target.type === "range";
  const press = {
    ArrowLeft: range || radio ? null : () => setFrame(state.frame - 1),
    ArrowRight: range || radio ? null : () => setFrame(state.frame + 1),
    ArrowUp: radio ? null : () => setLayer(state.layer - 1),
    ArrowDown: radio ? null : () => setLayer(state.layer + 1),
    Home: range ? null : () => setFrame(0),
    End: range ? null : () => setFrame(data.frames.length - 1),
    1: () => setMode("unpruned"), 2: () => setMode("pruned"), 3: () => setMode("attribution"),
    " ": ["BUTTON", "SUMMARY"].includes(target.tagName) || radio ? null : () => play(state.timer === null),
  }[event.key];
  if (!press) return;
  event.preventDefault();
  press();
});
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", paint);
addEventListener("resize", () => showCurve(data.frames[state.frame]));
state.layer = Math.min(data.start_layer, data.layers - 1);
const linked = () => Number(/^#frame=(\d{1,6})$/.exec(location.hash)?.[1] ?? 1) - 1;  // a report links to its frames
setFrame(linked());
addEventListener("hashchange", () => setFrame(linked()));
document.documentElement.dataset.ready = "true";
