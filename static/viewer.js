/**
 * The image viewer: zoom, pan, window and level, invert, ruler, magnifier, heat-map opacity, full
 * screen; an image beside moves along.
 * Heat map on and off and its class are native controls that CSS reads; they need no script.
 */

const MAX_PIXEL_SIZE = 12; // Screen pixels per image pixel.
const STEP = 1.25;
const LENS = 2.5; // How much the magnifier enlarges what is seen.
const PAN = 60;
const HEAT = "viewer-heat-map";

const viewer = document.getElementById("viewer");
const viewport = document.getElementById("viewport");
const stage = document.getElementById("stage");
const image = /** @type {HTMLImageElement} */ (document.getElementById("image"));
// The image itself, and one beside it.
const stages = /** @type {HTMLElement[]} */ ([...viewer.querySelectorAll(".viewports .stage")]);
const ruler = document.getElementById("ruler-label");
const lens = document.getElementById("lens");
const readout = document.getElementById("readout");
const invert = viewer.querySelector("[data-action=invert]");
const heat = /** @type {HTMLInputElement | null} */ (document.getElementById("heat-on"));
const [opacity, windowWidth, level] = ["opacity", "window", "level"].map(
  (id) => /** @type {HTMLInputElement | null} */ (document.getElementById(id)),
);

// scale 1 is the whole image in its frame; x and y move its centre, in CSS pixels.
const view = { scale: 1, x: 0, y: 0, inverted: false };
/** @typedef {{x: number, y: number}} Point In pixels of the image. */
/** @type {{tool: "ruler" | "lens" | null, from: Point | null, to: Point | null, isOpen: boolean, at: MouseEvent | null}} */
const measuring = { tool: null, from: null, to: null, isOpen: false, at: null };
/** @type {Map<number, {x: number, y: number}>} Pointers that are down. */
const pointers = new Map();
let drawing = 0;

/** CSS pixels per image pixel when the image fits its frame. */
function fitted() {
  return Math.min(
    viewport.clientWidth / Number(viewer.dataset.width),
    viewport.clientHeight / Number(viewer.dataset.height),
  );
}

/** The scale at which one image pixel is one screen pixel. */
function actual() {
  return 1 / (fitted() * devicePixelRatio);
}

/**
 * Linear window and level as CSS filter functions, which every browser runs on the GPU.
 * brightness(b) contrast(c) is the line c·b·x + (1 - c) / 2. It may clip after its first step, which is
 * harmless while width <= 2 level; below that the same line is drawn on the negative.
 * @param {number} width @param {number} centre Both as shares of the grey range.
 */
function windowFilter(width, centre, inverted) {
  if (width === 1 && centre === 0.5) return inverted ? "invert(1)" : "none";
  const negative = width > 2 * centre;
  const middle = negative ? 1 - centre : centre;
  const line = `brightness(${0.5 / middle}) contrast(${(2 * middle) / width})`;
  return `${negative ? "invert(1) " : ""}${line}${negative !== inverted ? " invert(1)" : ""}`;
}

function draw() {
  drawing = 0;
  const filter = windowFilter(windowWidth.value / 256, level.value / 256, view.inverted);
  for (const each of stages) {
    each.style.transform = `translate(${view.x}px, ${view.y}px) scale(${view.scale})`;
    /** @type {HTMLElement} */ (each.querySelector(".image")).style.filter = filter;
  }
  drawRuler();
  drawLens(filter);
  if (opacity) stage.style.setProperty("--heat-opacity", String(opacity.value / 100));
  viewer.classList.toggle("is-zoomed", view.scale > 1);
  invert.setAttribute("aria-pressed", String(view.inverted));
  readout.textContent = `${Math.round((100 * view.scale) / actual())} %   W ${windowWidth.value}   L ${level.value}`;
  for (const slider of [opacity, windowWidth, level]) {
    if (slider) slider.nextElementSibling.textContent = slider === opacity ? `${slider.value} %` : slider.value;
  }
}

/** The point of the image under the pointer. @param {MouseEvent} event @returns {Point} */
function pointAt(event) {
  const [x, y] = fromCentre(event);
  const pixel = view.scale * fitted();
  return {
    x: (x - view.x) / pixel + Number(viewer.dataset.width) / 2,
    y: (y - view.y) / pixel + Number(viewer.dataset.height) / 2,
  };
}

function drawRuler() {
  const { from, to } = measuring;
  ruler.hidden = !from || !to;
  for (const line of ["ruler-edge", "ruler-line"].map((id) => document.getElementById(id))) {
    line.toggleAttribute("hidden", ruler.hidden);
    if (ruler.hidden) continue;
    for (const [name, value] of Object.entries({ x1: from.x, y1: from.y, x2: to.x, y2: to.y })) line.setAttribute(name, String(value));
  }
  if (ruler.hidden) return;
  const pixels = Math.hypot(to.x - from.x, to.y - from.y);
  const length = viewer.dataset.mm ? (pixels * Number(viewer.dataset.mm)).toFixed(1) : String(Math.round(pixels));
  ruler.textContent = `${length} ${ruler.dataset.unit}`;
  const pixel = view.scale * fitted();
  const x = (to.x - Number(viewer.dataset.width) / 2) * pixel + view.x + viewport.clientWidth / 2;
  const y = (to.y - Number(viewer.dataset.height) / 2) * pixel + view.y + viewport.clientHeight / 2;
  ruler.style.left = `${Math.min(Math.max(x + 12, 4), viewport.clientWidth - ruler.offsetWidth - 4)}px`;
  ruler.style.top = `${Math.min(Math.max(y + 12, 4), viewport.clientHeight - ruler.offsetHeight - 4)}px`;
}

/** @param {string} filter */
function drawLens(filter) {
  lens.hidden = measuring.tool !== "lens" || !measuring.at;
  if (lens.hidden) return;
  if (!lens.firstChild) {
    const copy = new Image(Number(viewer.dataset.width), Number(viewer.dataset.height));
    copy.src = image.currentSrc;
    copy.alt = "";
    lens.append(copy);
  }
  const { x, y } = pointAt(measuring.at);
  const scale = Math.max(LENS * view.scale * fitted(), 1 / devicePixelRatio);
  const radius = lens.clientWidth / 2;
  const copy = /** @type {HTMLElement} */ (lens.firstChild);
  copy.style.transform = `translate(${radius - x * scale}px, ${radius - y * scale}px) scale(${scale})`;
  copy.style.filter = filter;
  const frame = viewport.getBoundingClientRect();
  lens.style.translate = `${measuring.at.clientX - frame.left - radius}px ${measuring.at.clientY - frame.top - radius}px`;
}

/** @param {"ruler" | "lens" | null} tool */
function take(tool) {
  measuring.tool = measuring.tool === tool ? null : tool;
  if (measuring.tool !== "ruler") Object.assign(measuring, { from: null, to: null, isOpen: false });
  for (const name of ["ruler", "lens"]) {
    viewer.querySelector(`[data-action=${name}]`).setAttribute("aria-pressed", String(measuring.tool === name));
  }
  viewer.classList.toggle("has-tool", measuring.tool !== null);
}

/** Many events a frame, one drawing. */
function redraw() {
  drawing ||= requestAnimationFrame(draw);
}

/** @param {number} scale @param {number} x @param {number} y The point that stays, from the frame's centre. */
function zoomTo(scale, x = 0, y = 0) {
  const smallest = Math.min(1, actual());
  const bounded = Math.min(Math.max(scale, smallest), Math.max(1, actual() * MAX_PIXEL_SIZE));
  const ratio = bounded / view.scale;
  view.scale = bounded;
  moveTo(x - (x - view.x) * ratio, y - (y - view.y) * ratio);
}

function moveTo(x, y) {
  // Some of the image always stays in the middle of the frame; at fit it rests.
  const reach = view.scale > 1 ? (fitted() * view.scale) / 2 : 0;
  const [reachX, reachY] = [reach * viewer.dataset.width, reach * viewer.dataset.height];
  view.x = Math.min(Math.max(x, -reachX), reachX);
  view.y = Math.min(Math.max(y, -reachY), reachY);
  redraw();
}

/** @param {HTMLInputElement} slider @param {number} change */
function nudge(slider, change) {
  slider.value = String(Number(slider.value) + change);
  redraw();
}

/** @param {"prev" | "next"} relation */
function follow(relation) {
  /** @type {HTMLAnchorElement | null} */ (document.querySelector(`.answer-near a[rel=${relation}]`))?.click();
}

/** @type {Record<string, () => void>} */
const actions = {
  in: () => zoomTo(view.scale * STEP),
  out: () => zoomTo(view.scale / STEP),
  fit: () => zoomTo(1),
  actual: () => zoomTo(actual()),
  invert: () => (view.inverted = !view.inverted),
  heat: () => heat?.click(),
  ruler: () => take("ruler"),
  lens: () => take("lens"),
  none: () => take(null),
  previous: () => follow("prev"),
  next: () => follow("next"),
  fullscreen: () => (document.fullscreenElement ? document.exitFullscreen() : viewer.requestFullscreen()),
  reset() {
    view.inverted = false;
    take(null);
    for (const slider of [opacity, windowWidth, level]) if (slider) slider.value = slider.defaultValue;
    zoomTo(1);
  },
  left: () => moveTo(view.x + PAN, view.y),
  right: () => moveTo(view.x - PAN, view.y),
  up: () => moveTo(view.x, view.y + PAN),
  down: () => moveTo(view.x, view.y - PAN),
  narrower: () => nudge(windowWidth, -8),
  wider: () => nudge(windowWidth, 8),
  lower: () => nudge(level, -4),
  higher: () => nudge(level, 4),
};

/** @type {Record<string, string>} */
const keys = {
  "+": "in", "=": "in", "-": "out", "0": "fit", "1": "actual",
  ArrowLeft: "left", ArrowRight: "right", ArrowUp: "up", ArrowDown: "down",
  m: "ruler", z: "lens", Escape: "none", p: "previous", n: "next",
  h: "heat", i: "invert", r: "reset", f: "fullscreen",
  w: "narrower", W: "wider", l: "lower", L: "higher",
};

/** @param {EventTarget | null} target Whether keys pressed there are text. */
function isTyping(target) {
  return target instanceof HTMLElement && target.matches("textarea, select, input:not([type=checkbox], [type=radio], [type=range])");
}

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || isTyping(event.target)) return;
  const arrow = event.key.startsWith("Arrow");
  // Arrows belong to a focused slider or radio button, and move the image only from its frame.
  if (arrow && event.target !== viewport) return;
  const action = actions[keys[event.key] ?? keys[event.key.toLowerCase()]];
  if (!action) return;
  event.preventDefault();
  action();
  redraw();
});

// The X-ray comes first. Who switches the heat map on sees it on the next image too.
if (heat) {
  heat.checked = localStorage.getItem(HEAT) === "on";
  heat.addEventListener("change", () => localStorage.setItem(HEAT, heat.checked ? "on" : "off"));
}

viewer.addEventListener("click", (event) => {
  const name = event.target.closest("[data-action]")?.dataset.action;
  if (name) actions[name]();
  redraw();
});
viewer.addEventListener("input", redraw);

/** @param {MouseEvent} event */
function fromCentre(event) {
  const frame = viewport.getBoundingClientRect();
  return [event.clientX - frame.left - frame.width / 2, event.clientY - frame.top - frame.height / 2];
}

/** The first end of a line, or its second one. @param {PointerEvent} event */
function measure(event) {
  const point = pointAt(event);
  if (measuring.isOpen) Object.assign(measuring, { to: point, isOpen: false });
  else Object.assign(measuring, { from: point, to: point, isOpen: true });
  redraw();
}

viewport.addEventListener("pointerdown", (event) => {
  viewport.setPointerCapture(event.pointerId);
  if (measuring.tool === "ruler" && event.button === 0) return measure(event);
  pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  viewport.classList.add("is-grabbed");
});
viewport.addEventListener("pointermove", (event) => {
  if (measuring.tool) {
    measuring.at = event;
    if (measuring.isOpen) measuring.to = pointAt(event);
    redraw();
  }
  const before = pointers.get(event.pointerId);
  if (!before) return;
  const [dx, dy] = [event.clientX - before.x, event.clientY - before.y];
  const other = [...pointers].find(([id]) => id !== event.pointerId)?.[1];
  pointers.set(event.pointerId, { x: event.clientX, y: event.clientY });
  if (other) {
    const [was, is] = [before, { x: event.clientX, y: event.clientY }].map((p) => Math.hypot(p.x - other.x, p.y - other.y));
    view.x += dx / 2;
    view.y += dy / 2;
    if (was > 0) zoomTo((view.scale * is) / was, ...fromCentre({ clientX: (event.clientX + other.x) / 2, clientY: (event.clientY + other.y) / 2 }));
  } else if (event.shiftKey || event.buttons & 2) {
    nudge(windowWidth, dx);
    nudge(level, dy);
  } else {
    moveTo(view.x + dx, view.y + dy);
  }
});
viewport.addEventListener("pointerup", (event) => {
  if (!measuring.isOpen) return;
  // A line that was dragged is done; after a click the second end follows.
  const { from } = measuring;
  const to = pointAt(event);
  measuring.isOpen = Math.hypot(to.x - from.x, to.y - from.y) * view.scale * fitted() < 4;
});
viewport.addEventListener("pointerleave", () => {
  measuring.at = null;
  redraw();
});
for (const type of ["pointerup", "pointercancel"]) {
  viewport.addEventListener(type, (event) => {
    pointers.delete(event.pointerId);
    viewport.classList.toggle("is-grabbed", pointers.size > 0);
  });
}
viewport.addEventListener("contextmenu", (event) => event.preventDefault()); // The right button sets the window.
viewport.addEventListener("dblclick", (event) => measuring.tool || zoomTo(view.scale > 1 ? 1 : 2.5, ...fromCentre(event)));
viewport.addEventListener(
  "wheel",
  (event) => {
    // A plain wheel keeps scrolling the page; a trackpad's pinch arrives as Ctrl and wheel.
    if (!event.ctrlKey && !document.fullscreenElement) return;
    event.preventDefault();
    zoomTo(view.scale * Math.exp(-event.deltaY / 300), ...fromCentre(event));
  },
  { passive: false },
);

new ResizeObserver(() => zoomTo(view.scale)).observe(viewport);
viewport.tabIndex = 0;
viewer.querySelector("[data-action=fullscreen]").hidden = !document.fullscreenEnabled;
viewer.classList.add("is-live");
redraw();
