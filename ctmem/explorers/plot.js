// Lines over one axis, with a marker that can be moved. view.LinePlot describes the traits.

const SVG = "http://www.w3.org/2000/svg";
const MARGIN = { left: 62, right: 14, top: 10, bottom: 42 };

function make(tag, attributes, parent, namespace = SVG) {
  const node = namespace ? document.createElementNS(namespace, tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  parent.append(node);
  return node;
}

// About `count` round numbers between low and high, at least `least` apart.
function ticks(low, high, count, least = 0) {
  const raw = Math.max((high - low) / count, least) || 1;
  const power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((times) => times * power >= raw * 0.999);
  const found = [];
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + 1e-9 * step; k++) found.push(k * step);
  return [found, Math.max(0, Math.ceil(-Math.log10(step) - 1e-9))];
}

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
    const wide = (low, high) => (high > low ? [low, high] : [low - 0.5, low + 0.5]);
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

  function axes([xs, xDigits], [ys, yDigits], x, y, width, height) {
    const [ground, wall] = [height - MARGIN.bottom, MARGIN.left];
    for (const value of xs) {
      make("line", { x1: x(value), x2: x(value), y1: MARGIN.top, y2: ground, class: "ctmem-grid" }, svg);
      make("text", { x: x(value), y: ground + 16, "text-anchor": "middle" }, svg).textContent = value.toFixed(xDigits);
    }
    for (const value of ys) {
      make("line", { x1: wall, x2: width - MARGIN.right, y1: y(value), y2: y(value), class: "ctmem-grid" }, svg);
      make("text", { x: wall - 6, y: y(value) + 4, "text-anchor": "end" }, svg).textContent = value.toFixed(yDigits);
    }
    make("path", { d: `M${wall} ${MARGIN.top}V${ground}H${width - MARGIN.right}`, class: "ctmem-axis" }, svg);
    const middle = (MARGIN.top + ground) / 2;
    make("text", { x: (wall + width - MARGIN.right) / 2, y: height - 6, "text-anchor": "middle" }, svg).textContent = model.get("x_label");
    make("text", { x: 14, y: middle, "text-anchor": "middle", transform: `rotate(-90 14 ${middle})` }, svg).textContent = model.get("y_label");
  }

  // A line breaks where a value is null; with `points` there are dots instead.
  function drawLine(line, x, y) {
    const style = { stroke: ink(line.colour), "stroke-dasharray": line.dash || "none", "stroke-width": line.width || 2 };
    const group = make("g", { class: "ctmem-line", "data-name": line.name }, svg);
    if (line.points) {
      line.x.forEach((value, i) => line.y[i] !== null && make("circle", { cx: x(value), cy: y(line.y[i]), r: 5, fill: ink(line.colour), class: "ctmem-point" }, group));
      return;
    }
    let path = "";
    let pen = false;
    line.x.forEach((value, i) => {
      const drawn = value !== null && line.y[i] !== null;
      if (drawn) path += `${pen ? "L" : "M"}${x(value).toFixed(1)} ${y(line.y[i]).toFixed(1)}`;
      pen = drawn;
    });
    make("path", { d: path, fill: "none", "stroke-linejoin": "round", "stroke-linecap": "round", ...style }, group);
  }

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
    for (const line of model.get("lines").filter((one) => one.name)) {
      const entry = make("span", { class: "ctmem-entry" }, legend, null);
      const sample = make("svg", { width: 26, height: 12 }, entry);
      if (line.points) make("circle", { cx: 13, cy: 6, r: 5, fill: ink(line.colour), class: "ctmem-point" }, sample);
      else make("line", { x1: 1, x2: 25, y1: 6, y2: 6, stroke: ink(line.colour), "stroke-dasharray": line.dash || "none", "stroke-width": line.width || 2 }, sample);
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
