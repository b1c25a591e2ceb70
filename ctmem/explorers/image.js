// One image, or one frame of a stack of images, with a cursor and marks. view.ImageView describes the traits.

const SVG = "http://www.w3.org/2000/svg";
const SMALLEST_MARK = 9; // screen pixels: what is smaller is drawn larger, or nobody would see it
const REST_MS = 100; // a hand that has not moved for so long rests
const ARROWS = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
const ZOOMS = { "+": 2, "=": 2, "-": 0.5, "0": 0 };

const clamp = (value, low, high) => Math.min(Math.max(value, low), high);

function make(tag, attributes, parent, namespace) {
  const node = namespace ? document.createElementNS(namespace, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  parent.append(node);
  return node;
}

// The bytes of frame number `frame`, or null while the kernel has not sent it.
function bytesOf(model, trait, frame) {
  const data = model.get(trait);
  const length = model.get("height") * model.get("width") * model.get("channels");
  const place = model.get("frames") === 1 ? 0 : frame - model.get("first");
  if (place < 0 || !data || (place + 1) * length > data.byteLength) return null;
  return new Uint8Array(data.buffer, data.byteOffset + place * length, length);
}

function paint(canvas, model, trait) {
  const bytes = bytesOf(model, trait, model.get("frame"));
  if (!bytes) return false;
  const [height, width] = [model.get("height"), model.get("width")];
  if (canvas.width !== width || canvas.height !== height) Object.assign(canvas, { width, height });
  const context = canvas.getContext("2d", { willReadFrequently: true });
  const picture = context.createImageData(width, height);
  if (model.get("channels") === 4) {
    picture.data.set(bytes);
  } else {
    const { buffer, byteOffset } = model.get("palette");
    const palette = new Uint32Array(buffer.slice(byteOffset, byteOffset + 1024));
    const out = new Uint32Array(picture.data.buffer);
    for (let i = 0; i < bytes.length; i++) out[i] = palette[bytes[i]];
  }
  context.putImageData(picture, 0, 0);
  canvas.dataset.frame = model.get("frame"); // which frame is on show
  return true;
}

// A kernel that ends, by itself or restarted, answers nothing any more: the explorer around the image gets the class by
// which style.css says so. ipywidgets gives it after a restart only.
const GONE = ["autorestarting", "dead", "restarting", "terminating"];
function watchKernel(model, el) {
  const kernel = model.widget_manager?.kernel;
  const look = () => {
    if (!GONE.includes(kernel.status)) return;
    el.closest(".ctmem-explorer")?.classList.add("jupyter-widgets-disconnected");
  };
  kernel?.statusChanged?.connect(look);
  return () => kernel?.statusChanged?.disconnect(look);
}

// ipywidgets gives its sliders no name for screen readers: each gets that of its label, once the explorer is on the page.
function nameSliders(el) {
  let tries = 0;
  const timer = setInterval(() => {
    const root = el.closest(".ctmem-explorer");
    for (const handle of root?.querySelectorAll(".noUi-handle:not([aria-label])") ?? []) {
      const label = handle.closest(".widget-inline-hbox")?.querySelector(".widget-label");
      if (label) handle.setAttribute("aria-label", label.textContent);
    }
    if (++tries === 20) clearInterval(timer);
  }, 250);
  return () => clearInterval(timer);
}

function render({ model, el }) {
  const root = make("figure", { class: "ctmem-image" }, el);
  const title = make("figcaption", { class: "ctmem-title" }, root);
  const frame = make(
    "div",
    { class: "ctmem-frame", tabindex: "0", role: "application", "data-lm-suppress-shortcuts": "true" },
    root,
  );
  const layer = make("div", { class: "ctmem-layer" }, frame);
  const canvas = make("canvas", { class: "ctmem-canvas" }, layer);
  const clip = make("div", { class: "ctmem-clip" }, frame);
  const over = make("div", { class: "ctmem-layer" }, clip);
  const second = make("canvas", { class: "ctmem-canvas ctmem-second" }, over);
  const svg = make("svg", { class: "ctmem-marks", preserveAspectRatio: "none" }, make("div", { class: "ctmem-layer" }, frame), SVG);
  const handle = make(
    "div",
    { class: "ctmem-handle", tabindex: "0", role: "slider", "aria-valuemin": "0", "aria-valuemax": "100",
      "aria-label": "divider between two images", "data-lm-suppress-shortcuts": "true" },
    frame,
  );
  const spoken = make("span", { class: "ctmem-spoken", "aria-live": "polite" }, root); // for screen readers
  const bar = make("div", { class: "ctmem-bar" }, root);
  const low = make("span", {}, bar);
  const ramp = make("canvas", { class: "ctmem-ramp", width: "255", height: "1" }, bar);
  const high = make("span", {}, bar);
  const unit = make("span", { class: "ctmem-unit" }, bar);

  const grid = () => (model.get("grid").length ? model.get("grid") : [model.get("height"), model.get("width")]);

  function side() {
    const [rows, columns] = grid();
    const scale = Math.min(model.get("size") / columns, model.get("size") / rows);
    return [rows * scale, columns * scale, scale];
  }

  function draw() {
    const whole = paint(canvas, model, "data") & (!swiping() || paint(second, model, "other"));
    frame.setAttribute("aria-busy", String(!whole));
    drawBar();
    if (whole) lookAhead();
  }

  // Of a large stack, which is not in the browser whole, the neighbours are asked for when the hand rests.
  let resting = null;
  function lookAhead() {
    clearTimeout(resting);
    const near = [-1, 1].map((step) => model.get("frame") + step);
    const lacking = near.some((one) => one >= 0 && one < model.get("frames") && !bytesOf(model, "data", one));
    if (lacking) resting = setTimeout(() => model.send({ ask: "neighbours" }), REST_MS);
  }

  function drawBar() {
    const limits = model.get("limits");
    const at = limits[limits.length === 1 ? 0 : model.get("frame") - model.get("first")];
    bar.classList.toggle("ctmem-empty", model.get("channels") !== 1 || !at);
    if (model.get("channels") !== 1 || !at) return;
    [low.textContent, high.textContent] = at.map((value) => number(value));
    unit.textContent = model.get("unit");
    const context = ramp.getContext("2d");
    const picture = context.createImageData(255, 1);
    const palette = model.get("palette");
    picture.data.set(new Uint8Array(palette.buffer, palette.byteOffset + 4, 255 * 4));
    context.putImageData(picture, 0, 0);
  }

  function number(value) {
    const size = Math.abs(value);
    if (size && (size < 1e-3 || size >= 1e5)) return value.toExponential(1);
    return size < 10 ? value.toFixed(size < 1 ? 3 : 2) : value.toFixed(size < 100 ? 1 : 0);
  }

  const swiping = () => model.get("swipe") >= 0;

  // What a zoomed view is centred on: where the cursor was when the zoom changed, or when it left the part on show. A hand
  // that points at a pixel does not move the image under itself.
  let centre = null;
  let zoomed = 1;
  function follow() {
    const [zoom, counts] = [model.get("zoom"), grid()];
    const place = model.get("cursor").map((value) => Math.max(value, 0));
    const hidden = (axis) => {
      const begin = (offset(centre[axis], counts[axis]) / -zoom) * counts[axis];
      return place[axis] < begin - 0.5 || place[axis] + 0.5 > begin + counts[axis] / zoom;
    };
    if (centre === null || zoom !== zoomed || hidden(0) || hidden(1)) [centre, zoomed] = [place, zoom];
  }

  // How far the zoomed image is shifted, in sides of the frame: 0 … 1 − zoom.
  const offset = (place, count) => clamp(0.5 - ((place + 0.5) / count) * model.get("zoom"), 1 - model.get("zoom"), 0);

  function arrange() {
    const [height, width] = side();
    Object.assign(frame.style, { width: `${width}px`, height: `${height}px` });
    root.style.width = `${Math.max(width, model.get("span") || model.get("size"))}px`;
    title.textContent = title.title = model.get("name");
    const keys = `arrow keys move the cursor, with shift by ten; ${model.get("pinning") ? "Enter pins it; " : ""}+, − and 0 zoom`;
    frame.title = `click, or ${keys}`;
    frame.setAttribute("aria-label", `${model.get("name")}: ${keys}`);
    const zoom = model.get("zoom");
    const [rows, columns] = grid();
    follow();
    for (const one of frame.querySelectorAll(".ctmem-layer")) {
      Object.assign(one.style, {
        width: `${zoom * 100}%`, height: `${zoom * 100}%`,
        top: `${(100 * offset(centre[0], rows)).toFixed(3)}%`, left: `${(100 * offset(centre[1], columns)).toFixed(3)}%`,
      });
    }
    canvas.style.imageRendering = second.style.imageRendering = side()[2] * zoom >= 1 ? "pixelated" : "auto";
    clip.hidden = handle.hidden = !swiping();
    const share = (100 * clamp(model.get("swipe"), 0, 1)).toFixed(1);
    clip.style.clipPath = `inset(0 0 0 ${share}%)`;
    handle.style.left = `${share}%`;
    handle.setAttribute("aria-valuenow", share);
    drawMarks();
  }

  function drawMarks() {
    const [rows, columns] = grid();
    svg.setAttribute("viewBox", `0 0 ${columns} ${rows}`);
    svg.replaceChildren();
    const least = SMALLEST_MARK / (side()[2] * model.get("zoom"));
    for (const mark of model.get("marks")) outline(mark, least);
    const [row, column] = model.get("cursor");
    spoken.textContent = row >= 0 && frame === document.activeElement ? `row ${row}, column ${column}` : "";
    if (row >= 0) outline({ row, column, rows: 1, columns: 1, colour: "#ffffff", cursor: true }, least);
  }

  // A rectangle in the image's pixels with a rim, at least `least` pixels large, and a text beside it.
  function outline(mark, least) {
    const grow = (start, count) => [start - Math.max(0, least - count) / 2, Math.max(count, least)];
    const [[y, height], [x, width]] = [grow(mark.row, mark.rows), grow(mark.column, mark.columns)];
    const shape = { x, y, width, height, fill: "none", class: mark.cursor ? "ctmem-cursor" : "ctmem-mark" };
    for (const [stroke, thick] of [[mark.cursor ? "#000000" : "#ffffff", 4], [mark.colour, 2]]) {
      make("rect", { ...shape, stroke, "stroke-width": thick, "vector-effect": "non-scaling-stroke" }, svg, SVG);
    }
    if (!mark.text) return;
    const scale = side()[2] * model.get("zoom");
    const room = (8 * mark.text.length + 4) / scale; // beside the rectangle, or above it where neither side has any
    const [right, left] = [x + width + room < grid()[1], x - room > 0];
    const beside = right ? { x: x + width + 4 / scale, "text-anchor": "start" } : { x: x - 4 / scale, "text-anchor": "end" };
    const place = right || left ? { ...beside, y: y + 11 / scale } : { x, y: Math.max(y - 4 / scale, 11 / scale) };
    const style = { fill: mark.colour, "font-size": 13 / scale, "stroke-width": 4 / scale, class: "ctmem-mark-text" };
    make("text", { ...place, ...style }, svg, SVG).textContent = mark.text;
  }

  // --- hands ---------------------------------------------------------------------------------------------------

  // The pixel under the pointer; null outside of the image.
  function place(event) {
    const seen = frame.getBoundingClientRect();
    if (event.clientX < seen.left || event.clientX >= seen.right || event.clientY < seen.top || event.clientY >= seen.bottom) return null;
    const box = canvas.getBoundingClientRect();
    const [rows, columns] = grid();
    const row = Math.floor(((event.clientY - box.top) / box.height) * rows);
    const column = Math.floor(((event.clientX - box.left) / box.width) * columns);
    return row >= 0 && column >= 0 && row < rows && column < columns ? [row, column] : null;
  }

  function go(pixel) {
    if (!pixel) return;
    model.set("cursor", pixel);
    model.set("clicks", model.get("clicks") + 1); // a click where the cursor stands already is a click, too
    model.save_changes();
  }

  function togglePin(pixel) {
    if (!pixel || !model.get("pinning")) return;
    const pins = model.get("pins");
    const rest = pins.filter((pin) => String(pin) !== String(pixel));
    model.set("pins", rest.length < pins.length ? rest : [...pins, pixel]);
    model.save_changes();
  }

  frame.addEventListener("pointerdown", (event) => {
    if (event.button !== 0 || event.target === handle) return;
    const pixel = place(event);
    go(pixel);
    if (event.shiftKey) togglePin(pixel);
    else frame.setPointerCapture(event.pointerId);
  });
  frame.addEventListener("pointermove", (event) => {
    if (frame.hasPointerCapture(event.pointerId)) go(place(event));
  });
  frame.addEventListener("keydown", (event) => {
    if (event.target !== frame || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in ARROWS) {
      const step = model.get("step") * (event.shiftKey ? 10 : 1);
      const from = model.get("cursor").map((value) => Math.max(value, 0));
      go(from.map((value, axis) => clamp(value + step * ARROWS[event.key][axis], 0, grid()[axis] - 1)));
    } else if (event.key === "Enter" || event.key === " ") {
      togglePin(model.get("cursor")[0] >= 0 ? [...model.get("cursor")] : null);
    } else if (event.key in ZOOMS) {
      model.set("zoom", ZOOMS[event.key] ? clamp(model.get("zoom") * ZOOMS[event.key], 1, 16) : 1);
      model.save_changes();
    } else return;
    event.preventDefault();
    event.stopPropagation();
  });

  function divide(share) {
    model.set("swipe", clamp(share, 0, 1));
    model.save_changes();
  }
  handle.addEventListener("pointerdown", (event) => handle.setPointerCapture(event.pointerId));
  handle.addEventListener("pointermove", (event) => {
    const box = frame.getBoundingClientRect();
    if (handle.hasPointerCapture(event.pointerId)) divide((event.clientX - box.left) / box.width);
  });
  handle.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -0.05, ArrowRight: 0.05 }[event.key];
    if (!step) return;
    divide(model.get("swipe") + step);
    event.preventDefault();
    event.stopPropagation();
  });

  const listeners = [
    ["change:data change:other change:frame change:palette change:limits change:unit change:swipe", draw],
    ["change:name change:grid change:height change:width change:size change:span change:cursor change:zoom change:swipe change:marks", arrange],
  ];
  for (const [events, listener] of listeners) model.on(events, listener);
  const unwatch = watchKernel(model, el);
  const unname = nameSliders(el);
  arrange();
  draw();
  return () => {
    unwatch();
    unname();
    clearTimeout(resting);
    listeners.forEach(([events, listener]) => model.off(events, listener));
  };
}

export default { render };
