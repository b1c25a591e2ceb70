// The band explorer of the site: a slider, an image to click or walk through, a spectrum. No kernel, no library.
// `window.ctmemCube` comes from cube.js, which the build makes: see docs/site/cube.py.
"use strict";
{
  const cube = window.ctmemCube;
  const [rows, columns, bands] = cube.shape;
  const bytes = Uint8Array.from(atob(cube.data), (letter) => letter.charCodeAt(0)); // one plane a band
  const size = rows * columns;
  const state = { band: cube.views["true colour"][0], view: "true colour", row: rows >> 1, column: columns >> 1 };
  const part = (name) => document.getElementById(`explorer-${name}`);
  const [image, plot] = [part("image"), part("plot")];

  const value = (band, row, column) => {
    const [low, high] = cube.limits[band];
    return low + ((high - low) * bytes[band * size + row * columns + column]) / 255;
  };

  // The 1st and 99th percentile of a band, in its bytes.
  const stretch = (band) => {
    const sorted = bytes.slice(band * size, (band + 1) * size).sort();
    return [sorted[Math.floor(0.01 * size)], sorted[Math.floor(0.99 * size)]];
  };
  const stretches = Array.from({ length: bands }, (_, band) => stretch(band));

  const shown = () => cube.views[state.view] ?? [state.band, state.band, state.band];

  const drawImage = () => {
    const small = new OffscreenCanvas(columns, rows);
    const pixels = new ImageData(columns, rows);
    shown().forEach((band, channel) => {
      const [low, high] = stretches[band];
      for (let place = 0; place < size; place += 1) {
        const share = Math.min(1, Math.max(0, (bytes[band * size + place] - low) / Math.max(1, high - low)));
        pixels.data[4 * place + channel] = 255 * share ** 0.7;
        pixels.data[4 * place + 3] = 255;
      }
    });
    small.getContext("2d").putImageData(pixels, 0, 0);
    const pen = image.getContext("2d");
    const zoom = image.width / columns;
    pen.imageSmoothingEnabled = false;
    pen.drawImage(small, 0, 0, image.width, image.height);
    for (const [width, colour] of [[5, "#fff"], [2, "#000"]]) { // seen on dark ground and on bright
      pen.lineWidth = width;
      pen.strokeStyle = colour;
      pen.strokeRect((state.column - 0.5) * zoom, (state.row - 0.5) * zoom, 2 * zoom, 2 * zoom);
    }
  };

  const box = { left: 56, top: 36, width: 560, height: 310 }; // of the plot, in units of its canvas
  const nm = cube.wavelengths_nm;
  const x = (band) => box.left + (box.width * (nm[band] - nm[0])) / (nm[bands - 1] - nm[0]);
  const y = (share) => box.top + box.height * (1 - share);

  const drawAxes = (pen, ink) => {
    pen.clearRect(0, 0, plot.width, plot.height);
    pen.font = "21px system-ui, sans-serif";
    pen.fillStyle = pen.strokeStyle = ink;
    pen.lineWidth = 1;
    pen.strokeRect(box.left, box.top, box.width, box.height);
    pen.textAlign = "center";
    for (let mark = 500; mark <= nm[bands - 1]; mark += 500) {
      const at = box.left + (box.width * (mark - nm[0])) / (nm[bands - 1] - nm[0]);
      pen.fillRect(at, box.top + box.height, 1, 5);
      pen.fillText(mark, at, box.top + box.height + 27);
    }
    pen.fillText("wavelength / nm", box.left + box.width / 2, box.top + box.height + 56);
    pen.textAlign = "left";
    pen.fillText("radiance (scaled)", box.left, box.top - 12);
    pen.textAlign = "right";
    for (const mark of [0, 0.5, 1]) pen.fillText(mark, box.left - 8, y(mark) + 7);
  };

  const drawPlot = () => {
    const pen = plot.getContext("2d");
    const ink = getComputedStyle(plot).color;
    drawAxes(pen, ink);
    pen.setLineDash([4, 4]);
    pen.strokeRect(x(state.band), box.top, 0, box.height);
    pen.setLineDash([]);
    pen.lineWidth = 2.5;
    pen.strokeStyle = getComputedStyle(plot).getPropertyValue("--line");
    pen.beginPath();
    for (let band = 0; band < bands; band += 1) {
      const gap = band === 0 || nm[band] - nm[band - 1] > 60; // where water vapour leaves no light
      pen[gap ? "moveTo" : "lineTo"](x(band), y(value(band, state.row, state.column)));
    }
    pen.stroke();
  };

  const say = () => {
    const here = `${Math.round(nm[state.band])} nm`;
    const number = value(state.band, state.row, state.column).toFixed(2);
    part("said").textContent = `Row ${state.row}, column ${state.column}: ${number} at ${here}`;
    part("band").value = state.band;
    part("band").setAttribute("aria-valuetext", here);
    part("nm").textContent = here;
  };

  const show = (change) => {
    Object.assign(state, change);
    const within = (number, most) => Math.min(most - 1, Math.max(0, number));
    state.row = within(state.row, rows);
    state.column = within(state.column, columns);
    state.band = within(state.band, bands);
    drawImage();
    drawPlot();
    say();
  };

  const place = (event, canvas) => {
    const frame = canvas.getBoundingClientRect();
    return [(event.clientX - frame.left) / frame.width, (event.clientY - frame.top) / frame.height];
  };
  const nearest = (wanted) => nm.reduce((best, _, band) =>
    Math.abs(x(band) - wanted) < Math.abs(x(best) - wanted) ? band : best, 0);

  const steps = { ArrowUp: [-1, 0], ArrowDown: [1, 0], ArrowLeft: [0, -1], ArrowRight: [0, 1] };
  image.addEventListener("keydown", (event) => {
    const step = steps[event.key];
    if (!step || event.altKey || event.ctrlKey || event.metaKey) return;
    event.preventDefault();
    const far = event.shiftKey ? 10 : 1;
    show({ row: state.row + far * step[0], column: state.column + far * step[1] });
  });
  image.addEventListener("click", (event) => {
    const [across, down] = place(event, image);
    show({ row: Math.floor(down * rows), column: Math.floor(across * columns) });
  });
  plot.addEventListener("click", (event) => {
    const [across] = place(event, plot);
    show({ band: nearest(across * plot.width) });
  });
  part("band").addEventListener("input", (event) => {
    part("view").value = "one band";
    show({ band: Number(event.target.value), view: "one band" });
  });
  part("view").addEventListener("change", (event) => show({ view: event.target.value }));
  new MutationObserver(() => show({})).observe(document.body, { attributes: true, attributeFilter: ["data-theme"] });
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => show({}));

  part("band").max = bands - 1;
  show({});
}
