"use strict";
// What the page does: the controls pick cells, the picked cells go into the charts. Text from the table enters the page
// as text only (textContent, or Vega's own escaping), never as HTML.
(async function () {
  const content = JSON.parse(document.getElementById("content").textContent);
  const { axes, cells, rows, learners, charts, measures } = content;
  const ALL = -2, NO_VALUE = -1; // a choice of every value; a cell to which an axis does not apply
  const byName = Object.fromEntries(axes.map((axis) => [axis.name, axis]));
  const nCells = cells.failed.length;
  const rowsOf = Array.from({ length: nCells }, () => []);
  rows.cell.forEach((c, i) => rowsOf[c].push(i));

  const choice = {}; // axis -> place of the chosen value, or ALL
  const hidden = new Set(); // places of learners switched off
  // The betas a map can show: those that most cells share, and where cells end at different ones, the end of each.
  const betas = [...content.map_betas.map((b) => Number(b.toPrecision(7))), ...(content.one_end ? [] : [null])];
  const map = { learner: 0, row: null, beta: betas.length - 1 };
  const SLID = ["reg", "fraction"];
  const chosen = axes.filter((axis) => content.settings.includes(axis.name));
  for (const axis of chosen) choice[axis.name] = axis.name === "repeat" ? ALL : 0;

  // ---- cells ----
  const fits = (c, axis) => {
    const want = choice[axis.name], have = cells[axis.name][c];
    return want === ALL || have === want || have === NO_VALUE;
  };
  const pick = (free) => {
    const held = chosen.filter((axis) => !free.includes(axis.name));
    const found = [];
    for (let c = 0; c < nCells; c++) if (held.every((axis) => fits(c, axis))) found.push(c);
    return found;
  };
  const visible = (c) => !hidden.has(cells.learner[c]);
  const textOf = (axis, c) => (cells[axis.name][c] === NO_VALUE ? "–" : axis.texts[cells[axis.name][c]]);
  const describe = (c, datum) => {
    datum.cell = c;
    datum.learner_label = textOf(byName.learner, c);
    axes.forEach((axis, i) => { datum["t" + i] = textOf(axis, c); });
    return datum;
  };
  // After a change, move the other settings to values that were run together with it, so that no view is empty by chance.
  function settle(changed) {
    let left = Array.from({ length: nCells }, (_, c) => c);
    for (const axis of [...chosen].sort((a, b) => (b.name === changed) - (a.name === changed))) {
      let next = left.filter((c) => fits(c, axis));
      if (!next.length) {
        choice[axis.name] = Math.min(...left.map((c) => cells[axis.name][c]).filter((v) => v >= 0));
        next = left.filter((c) => fits(c, axis));
      }
      left = next;
    }
  }

  // ---- what goes into the charts ----
  function curveRows() {
    const data = [];
    for (const c of pick([]).filter(visible)) {
      for (const i of rowsOf[c]) {
        const datum = describe(c, { beta: rows.beta[i], ok: rows.ok[i], message: rows.message[i] });
        for (const m of measures) datum[m] = rows.ok[i] ? rows[m][i] : null;
        data.push(datum);
      }
    }
    return data;
  }
  function domains(data) {
    const wide = document.getElementById("same-axes").checked;
    const found = {};
    for (const m of ["loss_triggered", "loss_clean", "bk", "accuracy_clean"].filter((m) => measures.includes(m))) {
      if (m === "bk") { found[m] = [-0.02, 1.02]; continue; }
      let values = data.map((d) => d[m]);
      if (wide) values = pick(SLID).flatMap((c) => rowsOf[c].map((i) => (rows.ok[i] ? rows[m][i] : null)));
      values = values.filter((v) => v !== null);
      let low = values.reduce((a, b) => Math.min(a, b), Infinity), high = values.reduce((a, b) => Math.max(a, b), -Infinity);
      if (low > high) [low, high] = [0, 1];
      if (m.startsWith("loss") && low > 0 && low < 0.5 * high) low = 0; // a loss axis starts at 0 unless that hides the curve
      const pad = 0.04 * (high - low) || 0.02 * Math.abs(high) || 0.02;
      found[m] = [low === 0 ? -0.5 * pad : low - pad, high + pad];
    }
    return found;
  }
  function scatterCells() {
    return pick(SLID).filter(visible).map((c) => {
      const datum = describe(c, { reg: byName.reg.values[cells.reg[c]], message: cells.message[c] });
      for (const name of ["slope", "beta_low", "beta_high", ...measures]) datum[name] = cells[name][c];
      datum.x = cells.slope[c] === null ? null : charts.slope_sign * cells.slope[c];
      return datum;
    });
  }
  const median = (values) => {
    const sorted = [...values].sort((a, b) => a - b), half = sorted.length >> 1;
    return sorted.length % 2 ? sorted[half] : (sorted[half - 1] + sorted[half]) / 2;
  };
  const short = (v) => Number(v.toPrecision(4)).toString().replace("-", "−");
  const rangeText = (values) => {
    if (!values.length) return "–";
    const low = Math.min(...values), high = Math.max(...values);
    return values.length === 1 ? short(low) : `${short(median(values))} (median; ${short(low)} to ${short(high)})`;
  };
  function rowAt(c) { // the row of the cell at the map's beta
    const good = rowsOf[c].filter((i) => rows.beta[i] !== null);
    if (betas[map.beta] === null) return good.at(-1);
    return good.find((i) => rows.beta[i] === betas[map.beta]);
  }
  const betaText = (beta) => (beta === null ? "largest of each cell" : short(beta));
  const heldAxes = () => chosen.filter((axis) => ![map.row, "reg", "repeat"].includes(axis.name));
  function heldText(c) {
    const parts = heldAxes().filter((axis) => cells[axis.name][c] !== NO_VALUE);
    return parts.map((axis) => `${axis.symbol} = ${textOf(axis, c)}`).join(", ");
  }
  function mapCells() {
    const groups = new Map();
    for (const c of pick(["reg", map.row])) {
      if (cells.learner[c] !== map.learner || cells[map.row][c] === NO_VALUE || cells.reg[c] === NO_VALUE) continue;
      const key = cells.reg[c] + "/" + cells[map.row][c];
      if (!groups.has(key)) groups.set(key, []);
      groups.get(key).push(c);
    }
    return [...groups.values()].map((group) => {
      const first = group[0], values = { bk: [], accuracy_clean: [] }, reasons = new Set();
      let failed = 0, finished = 0;
      for (const c of group) {
        const i = rowAt(c);
        if (i !== undefined && rows.ok[i]) {
          finished += 1;
          for (const m of ["bk", "accuracy_clean"]) if (measures.includes(m) && rows[m][i] !== null) values[m].push(rows[m][i]);
        } else if (cells.failed[c]) {
          failed += 1;
          reasons.add((i !== undefined && rows.message[i]) || cells.message[c]);
        }
      }
      const row = byName[map.row], datum = {
        learner_label: textOf(byName.learner, first), n_failed: failed, message: [...reasons].join("; ") || "–",
        map_x: textOf(byName.reg, first), xi: cells.reg[first], map_y: textOf(row, first), yi: cells[map.row][first],
        here: `${byName.reg.symbol} = ${textOf(byName.reg, first)}, ${row.symbol} = ${textOf(row, first)}`,
        beta_text: betaText(betas[map.beta]),
        held: heldText(first) || "–", runs: `${finished} finished, ${failed} failed`,
      };
      for (const m of ["bk", "accuracy_clean"]) {
        datum[m] = values[m].length ? median(values[m]) : null;
        datum[m + "_text"] = rangeText(values[m]);
      }
      return datum;
    });
  }

  // ---- controls ----
  const element = (tag, properties = {}, ...children) => {
    const made = Object.assign(document.createElement(tag), properties);
    made.append(...children);
    return made;
  };
  function slider(name, label, texts, get, set) {
    const output = element("output");
    const input = element("input", { type: "range", min: 0, max: texts.length - 1, step: 1, id: "slider-" + name });
    const show = () => {
      input.value = get();
      output.textContent = `${texts[get()]} (${get() + 1} of ${texts.length})`;
      input.setAttribute("aria-valuetext", texts[get()]);
    };
    input.addEventListener("input", () => { set(Number(input.value)); });
    output.htmlFor = input.id;
    return { node: element("label", { className: "slider" }, label, input, output), show };
  }
  function select(name, label, options, get, set) {
    const input = element("select", { id: "select-" + name });
    for (const [value, text] of options) input.append(element("option", { value, textContent: text }));
    input.addEventListener("change", () => set(Number(input.value)));
    return { node: element("label", {}, label, input), show: () => { input.value = get(); } };
  }
  const shown = [];
  const addTo = (id, control) => { document.getElementById(id).append(control.node); shown.push(control.show); };
  const change = (name) => (value) => { choice[name] = value; settle(name); update(); };

  for (const axis of chosen) {
    const get = () => choice[axis.name];
    if (SLID.includes(axis.name)) addTo("sliders", slider(axis.name, axis.label, axis.texts, get, change(axis.name)));
    else {
      const options = axis.texts.map((text, i) => [i, text]);
      if (axis.name === "repeat") options.unshift([ALL, "all"]);
      addTo("settings", select(axis.name, axis.label, options, get, change(axis.name)));
    }
  }
  learners.forEach((learner, place) => {
    const button = element("button", { type: "button" });
    button.setAttribute("aria-pressed", "true");
    const make = (tag, attributes) => {
      const made = document.createElementNS("http://www.w3.org/2000/svg", tag);
      for (const [key, value] of Object.entries(attributes)) made.setAttribute(key, value);
      return made;
    };
    const swatch = make("svg", { width: 34, height: 14, "aria-hidden": "true" });
    swatch.append(
      make("line", { x1: 0, x2: 34, y1: 7, y2: 7, stroke: learner.color, "stroke-width": 2, "stroke-dasharray": learner.dash }),
      make("path", { d: learner.shape, transform: "translate(17 7) scale(4.5)", fill: learner.color }));
    button.append(swatch, learner.label);
    button.addEventListener("click", () => {
      const off = !hidden.delete(place);
      if (off) hidden.add(place);
      button.setAttribute("aria-pressed", String(!off));
      update();
    });
    document.getElementById("legend").append(button);
  });

  // A learner's map can have an axis as rows only if that learner has values on it.
  const rowAxes = () => ["fraction", "gamma"].filter((name) => byName[name] &&
    cells[name].some((v, c) => v !== NO_VALUE && cells.learner[c] === map.learner));
  function rebuildMapControls() {
    const place = document.getElementById("map-controls");
    place.replaceChildren();
    map.shown = [];
    const add = (control) => { place.append(control.node); map.shown.push(control.show); };
    const several = (name) => new Set(cells[name].filter((_, c) => cells.learner[c] === map.learner)).size;
    const possible = rowAxes().sort((a, b) => (several(b) > 1) - (several(a) > 1));
    if (!possible.includes(map.row)) map.row = possible[0] ?? null;
    if (learners.length > 1) {
      add(select("map-learner", "learner", learners.map((l, i) => [i, l.label]), () => map.learner, (v) => {
        map.learner = v; rebuildMapControls(); update(); document.getElementById("select-map-learner").focus();
      }));
    }
    if (possible.length > 1) {
      add(select("map-row", "rows", possible.map((name, i) => [i, byName[name].label]), () => possible.indexOf(map.row),
        (v) => { map.row = possible[v]; update(); }));
    }
    if (betas.length > 1) {
      add(slider("map-beta", "β", betas.map(betaText), () => map.beta, (v) => { map.beta = v; update(); }));
    }
  }

  // ---- drawing ----
  const options = {
    mode: "vega-lite", renderer: nCells > 3000 ? "canvas" : "svg", defaultStyle: true,
    actions: { export: true, source: false, compiled: false, editor: false },
  };
  const views = {}; // place -> { view, chart }
  async function draw(id, chart, name, data, signals = {}) {
    const now = views[id];
    if (now && now.chart === chart) {
      for (const [signal, value] of Object.entries(signals)) now.view.signal(signal, value);
      now.view.data(name, data);
      await now.view.runAsync();
      return;
    }
    const spec = JSON.parse(chart);
    spec.datasets = { [name]: data };
    for (const param of spec.params ?? []) if (param.name in signals) param.value = signals[param.name];
    if (now) now.view.finalize();
    const made = await vegaEmbed("#" + id, spec, { ...options, downloadFileName: id });
    views[id] = { view: made.view, chart };
  }
  const note = (id, text) => { document.getElementById(id).textContent = text; };
  const count = (n, word) => `${n} ${word}${n === 1 ? "" : "s"}`;
  function curvesNote(data) {
    const drawn = new Set(data.map((d) => d.cell));
    const bad = [...drawn].filter((c) => cells.failed[c]);
    const reasons = [...new Set(bad.map((c) => cells.message[c]))];
    const where = chosen.filter((axis) => choice[axis.name] !== ALL)
      .map((axis) => `${axis.symbol} = ${axis.texts[choice[axis.name]]}`).join(", ");
    let text = `${count(drawn.size, "cell")}${where ? " at " + where : ""}, one line each.`;
    if (bad.length) text += ` × ${bad.length} of them failed: ${reasons.slice(0, 3).join("; ")}${reasons.length > 3 ? "; ..." : ""}`;
    return text;
  }
  function scatterNote(data) {
    const lost = data.filter((d) => d.x === null || d.bk === null).length;
    const ends = (name) => [...new Set(data.map((d) => d[name]).filter((v) => v !== null))];
    const low = ends("beta_low"), high = ends("beta_high");
    const at = (values, word) => (values.length === 1 ? `β = ${short(values[0])}` : `the ${word} β of each cell`);
    return `${count(data.length, "cell")} at all λ and p: slope at ${at(low, "smallest")}, accuracies at ${at(high, "largest")}.` +
      (lost ? ` × on an edge: ${count(lost, "cell")} without a slope or without accuracies.` : "");
  }
  async function paint() {
    const curve = curveRows(), ends = {};
    for (const [m, [low, high]] of Object.entries(domains(curve))) { ends[m + "_low"] = low; ends[m + "_high"] = high; }
    const spread = document.getElementById("spread").checked;
    note("curves-note", curvesNote(curve));
    await draw("curves", spread ? texts.curves_spread : texts.curves, "rows", curve, ends);
    const points = scatterCells();
    note("scatter-note", scatterNote(points));
    await draw("scatter", texts.scatter, "cells", points);
    if (map.row === null) {
      note("map-note", "No map: this learner has neither `fraction` nor `gamma` in the table.");
      document.getElementById("map").hidden = true;
      return;
    }
    document.getElementById("map").hidden = false;
    const tiles = mapCells(), held = tiles.length ? tiles[0].held : "–";
    const repeats = choice.repeat === ALL ? " Medians over repeats." : "";
    const lost = tiles.filter((t) => t.n_failed > 0).length;
    note("map-note", `${learners[map.learner].label} at ${held === "–" ? "" : held + ", "}β = ${betaText(betas[map.beta])}.${repeats} Grey: not run.` +
      (lost ? ` × ${count(lost, "place")} with failed cells.` : ""));
    await draw("map", texts.maps.replaceAll(content.row_title, byName[map.row].label), "map", tiles);
  }
  const texts = Object.fromEntries(["curves", "curves_spread", "scatter", "maps"].map((k) => [k, JSON.stringify(charts[k])]));
  // One painting at a time; a slider that moves on meanwhile asks for one more, at its last place.
  let busy = null, again = false, painted = 0;
  function update() {
    for (const show of [...shown, ...map.shown]) show();
    if (busy) { again = true; return; }
    busy = (async () => {
      do { again = false; await paint(); } while (again);
      busy = null;
      document.body.dataset.painted = String(++painted);
    })().catch((error) => { busy = null; note("curves-note", "The charts could not be drawn: " + error.message); console.error(error); });
  }
  for (const id of ["same-axes", "spread"]) document.getElementById(id).addEventListener("change", update);
  rebuildMapControls();
  if (chosen.length) settle(chosen[0].name);
  update();
})();
