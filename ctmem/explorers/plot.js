// Lines over one axis, with a marker that can be moved. view.LinePlot describes the traits.

const SVG = "http://www.w3.org/2000/svg";
const MARGIN = { left: 62, right: 14, top: 10, bottom: 42 };

function make(tag, attributes, parent, namespace = SVG) {
  const node = namespace ? document.createElementNS(namespace, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  parent.append(node);
  return node;
}

// About `count` round numbers between low and high, at least `least` apart, and how to write them: very large and very
// small ones as multiples of a power of ten, which is the axis's to tell.
function ticks(low, high, count, least = 0) {
  const raw = Math.max((high - low) / count, least) || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * ([1, 2, 5].find((times) => times * power >= raw * 0.999) ?? 10);
  const [from, to] = [Math.ceil(low / step - 1e-9), Math.floor(high / step + 1e-9)];
  const values = Array.from({ length: Math.min(Math.max(to - from + 1, 0), 50) }, (_, i) => (from + i) * step);
  const largest = Math.max(Math.abs(low), Math.abs(high));
  const exponent = largest >= 1e5 || largest < 1e-3 ? Math.floor(Math.log10(largest)) : 0;
  const digits = Math.min(Math.max(Math.ceil(exponent - Math.log10(step) - 1e-9), 0), 6);
  return { values, exponent, labels: values.map((value) => (value / 10 ** exponent).toFixed(digits)) };
}

const raised = (exponent) => [...String(exponent)].map((sign) => "⁻⁰¹²³⁴⁵⁶⁷⁸⁹"["-0123456789".indexOf(sign)]).join("");
const named = (label, exponent) => (exponent ? `${label} × 10${raised(exponent)}` : label);

// The smallest distance between neighbouring values; 0 where there are none.
function closest(values) {
  const steps = values.slice(1).map((value, i) => Math.abs(value - values[i])).filter((step) => step > 0);
  return steps.length ? Math.min(...steps) : 0;
}

const ink = (colour) => (colour === "#000000" ? "currentColor" : colour); // black is the theme's own: white on dark
const finite = (values) => values.filter((value) => value !== null);

function render({ model, el }) {
  const root = make("figure", { class: "ctmem-plot" }, el, null);
  const title = make("figcaption", { class: "ctmem-title" }, root, null);
  const frame = make("div", { class: "ctmem-plot-frame", role: "application", "data-lm-suppress-shortcuts": "true" }, root, null);
  const svg = make("svg", {}, frame);
  const legend = make("div", { class: "ctmem-legend" }, root, null);
  let scale = null; // [x → px, y → px]

  function ranges() {
    const lines = model.get("lines");
    const xs = [...model.get("positions"), ...lines.flatMap((line) => finite(line.x))];
    const ys = [...lines.flatMap((line) => finite(line.y)), ...model.get("limits")];
    const wide = (low, high) => {
      const [size, half] = [Math.max(Math.abs(low), Math.abs(high)), Math.abs(low) / 2 || 0.5];
      return high - low > 1e-9 * size ? [low, high] : [low - half, low + half];
    };
    const span = (values) => values.reduce(([a, b], v) => [Math.min(a, v), Math.max(b, v)], [Infinity, -Infinity]);
    const [left, right] = xs.length ? wide(...span(xs)) : [0, 1];
    const [bottom, top] = ys.length ? wide(...span(ys)) : [0, 1];
    return [left, right, bottom - 0.02 * (top - bottom), top + 0.04 * (top - bottom)];
  }

  function draw() {
    const [width, height] = [model.get("width"), model.get("height")];
    const [left, right, bottom, top] = ranges();
    const inner = { width: width - MARGIN.left - MARGIN.right, height: height - MARGIN.top - MARGIN.bottom };
    const x = (value) => MARGIN.left + ((value - left) / (right - left)) * inner.width;
    const y = (value) => MARGIN.top + (1 - (value - bottom) / (top - bottom)) * inner.height;
    scale = [x, y];
    const places = model.get("positions").length ? model.get("positions") : finite(model.get("lines")[0]?.x ?? []);
    Object.entries({ width, height, viewBox: `0 0 ${width} ${height}` }).forEach((pair) => svg.setAttribute(...pair));
    svg.replaceChildren();
    axes(ticks(left, right, 7, closest(places)), ticks(bottom, top, 5), x, y, width, height);
    for (const line of model.get("lines")) drawLine(line, x, y);
    drawMarker();
    drawLegend();
    title.textContent = model.get("name");
    const pickable = model.get("positions").length > 0;
    if (pickable) frame.setAttribute("tabindex", "0");
    else frame.removeAttribute("tabindex");
    frame.classList.toggle("ctmem-pickable", pickable);
    frame.setAttribute("aria-label", `${model.get("name")}: ${model.get("y_label")} over ${model.get("x_label")}`);
  }

  function axes(xs, ys, x, y, width, height) {
    const [ground, wall] = [height - MARGIN.bottom, MARGIN.left];
    const write = (place, words) => { make("text", place, svg).textContent = words; };
    xs.values.forEach((value, i) => {
      make("line", { x1: x(value), x2: x(value), y1: MARGIN.top, y2: ground, class: "ctmem-grid" }, svg);
      write({ x: x(value), y: ground + 16, "text-anchor": "middle" }, xs.labels[i]);
    });
    ys.values.forEach((value, i) => {
      make("line", { x1: wall, x2: width - MARGIN.right, y1: y(value), y2: y(value), class: "ctmem-grid" }, svg);
      write({ x: wall - 6, y: y(value) + 4, "text-anchor": "end" }, ys.labels[i]);
    });
    make("path", { d: `M${wall} ${MARGIN.top}V${ground}H${width - MARGIN.right}`, class: "ctmem-axis" }, svg);
    const middle = (MARGIN.top + ground) / 2;
    write({ x: (wall + width - MARGIN.right) / 2, y: height - 6, "text-anchor": "middle" }, named(model.get("x_label"), xs.exponent));
    write({ x: 14, y: middle, "text-anchor": "middle", transform: `rotate(-90 14 ${middle})` }, named(model.get("y_label"), ys.exponent));
  }

  // A line breaks where a value is null; a value between two breaks is a dot. With `points` there are dots only.
  function drawLine(line, x, y) {
    const colour = ink(line.colour);
    const group = make("g", { class: "ctmem-line", "data-name": line.name }, svg);
    const there = (i) => (line.x[i] ?? null) !== null && (line.y[i] ?? null) !== null;
    const dot = (i, kind) => make("circle", { cx: x(line.x[i]), cy: y(line.y[i]), fill: colour, ...kind }, group);
    const numbers = [...line.x.keys()].filter(there);
    if (line.points) {
      for (const i of numbers) dot(i, { r: 5, class: "ctmem-point" });
      return;
    }
    const path = numbers.map((i) => `${there(i - 1) ? "L" : "M"}${x(line.x[i]).toFixed(1)} ${y(line.y[i]).toFixed(1)}`).join("");
    make("path", { d: path, fill: "none", ...pen(line), "stroke-linejoin": "round", "stroke-linecap": "round" }, group);
    for (const i of numbers.filter((i) => !there(i - 1) && !there(i + 1))) dot(i, { r: 1 + line.width / 2 });
  }

  const pen = (line) => ({ stroke: ink(line.colour), "stroke-dasharray": line.dash || "none", "stroke-width": line.width });

  function drawMarker() {
    svg.querySelector(".ctmem-marker")?.remove();
    const at = model.get("positions")[model.get("marker")];
    if (at === undefined || !scale) return;
    const place = scale[0](at);
    make("line", { x1: place, x2: place, y1: MARGIN.top, y2: model.get("height") - MARGIN.bottom, class: "ctmem-marker" }, svg);
  }

  function drawLegend() {
    legend.replaceChildren();
    legend.hidden = !model.get("legend");
    for (const line of model.get("lines").filter((one) => one.name && one.legend)) {
      const entry = make("span", { class: "ctmem-entry" }, legend, null);
      const sample = make("svg", { width: 26, height: 12 }, entry);
      if (line.points) make("circle", { cx: 13, cy: 6, r: 5, fill: ink(line.colour), class: "ctmem-point" }, sample);
      else make("line", { x1: 1, x2: 25, y1: 6, y2: 6, ...pen(line) }, sample);
      entry.append(line.name);
    }
  }

  function pick(marker) {
    model.set("marker", Math.min(Math.max(marker, 0), model.get("positions").length - 1));
    model.save_changes();
  }

  function pickAt(event) {
    const box = svg.getBoundingClientRect();
    const distances = model.get("positions").map((value) => Math.abs(scale[0](value) - (event.clientX - box.left)));
    if (distances.length) pick(distances.indexOf(Math.min(...distances)));
  }

  frame.addEventListener("pointerdown", (event) => {
    if (event.button !== 0) return;
    frame.setPointerCapture(event.pointerId);
    pickAt(event);
  });
  frame.addEventListener("pointermove", (event) => frame.hasPointerCapture(event.pointerId) && pickAt(event));
  frame.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (!step || !model.get("positions").length) return;
    pick(model.get("marker") + step * (event.shiftKey ? 10 : 1));
    event.preventDefault();
    event.stopPropagation();
  });

  const events = "change:lines change:positions change:limits change:name change:x_label change:y_label change:width change:height change:legend";
  model.on(events, draw);
  model.on("change:marker", drawMarker);
  draw();
  return () => {
    model.off(events, draw);
    model.off("change:marker", drawMarker);
  };
}

export default { render };
