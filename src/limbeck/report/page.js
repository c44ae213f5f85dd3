"use strict";
// Pictures: one Plotly figure per .plot, recoloured to the page, relaid for paper.
const figures = {};
for (const source of document.querySelectorAll("[data-plot]")) {
  figures[source.dataset.plot] = JSON.parse(source.textContent);
}
let printing = false;

const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

function dressed(layout, element) {
  const [ink, line] = printing ? ["#1c2330", "#ccd2da"] : [colour("--ink"), colour("--line")];
  const small = printing || element.clientWidth < 500;
  const axis = (given) => ({
    ...given, linecolor: line, tickcolor: line, gridcolor: line, zerolinecolor: line,
    title: { ...(given || {}).title, standoff: 8 }, fixedrange: true,
  });
  const margin = layout.margin || {};
  return {
    ...layout,
    title: undefined,
    height: Number(element.dataset.height) * (printing ? 0.6 : small ? 0.85 : 1),
    width: element.clientWidth,
    paper_bgcolor: "rgba(0,0,0,0)",
    plot_bgcolor: "rgba(0,0,0,0)",
    dragmode: false,
    font: { color: ink, size: printing ? 9 : small ? 11 : 13, family: getComputedStyle(document.body).fontFamily },
    margin: { l: small ? Math.min(margin.l, 52) : margin.l, r: small ? Math.min(margin.r, 46) : margin.r, t: layout.showlegend === false ? 14 : 40, b: printing ? 36 : margin.b },
    xaxis: axis(layout.xaxis),
    yaxis: axis(layout.yaxis),
  };
}

function draw(id) {
  const element = document.getElementById(id);
  const figure = figures[id];
  const narrow = element.clientWidth < 500;
  const traces = figure.data.map((trace) => (narrow && trace.mode === "markers+text" ? { ...trace, mode: "markers" } : trace));
  Plotly.react(element, traces, dressed(figure.layout, element), { displayModeBar: false, responsive: false });
}

const drawAll = () => Object.keys(figures).forEach(draw);
let width = window.innerWidth;
window.addEventListener("resize", () => { if (window.innerWidth !== width) { width = window.innerWidth; drawAll(); } });
window.matchMedia("(prefers-color-scheme: dark)").addEventListener("change", drawAll);
function paper(on) { printing = on; document.documentElement.classList.toggle("printing", on); drawAll(); }
window.addEventListener("beforeprint", () => paper(true));
window.addEventListener("afterprint", () => paper(false));

// Quantities as people write them.
function scientific(value, digits = 2) {
  const [mantissa, exponent] = value.toExponential(digits - 1).split("e");
  return `${Number(mantissa)}e${Number(exponent)}`;
}
function si(value, digits = 2) {
  const rounded = Number(value.toPrecision(digits));
  const power = 3 * Math.floor(Math.log10(Math.abs(rounded)) / 3 + 1e-12);
  if (power > 12 || Math.abs(rounded) < 0.01) return scientific(value, digits);
  const prefix = { 3: " k", 6: " M", 9: " B", 12: " T" }[power] || "";
  return Number((rounded / 10 ** Math.max(power, 0)).toPrecision(Math.max(digits, 3))) + prefix;
}
function digits(value, uncertainty) {
  if (!uncertainty) return Number(value.toPrecision(4)).toString();
  const power = Math.floor(Math.log10(uncertainty) + 1e-12);
  const places = -(uncertainty / 10 ** power <= 3.54 ? power - 1 : power);
  return places > 0 ? value.toFixed(places) : si(value, 3);
}

// The planner: the law's own formula on its own draws.
function planner(data) {
  const x = Object.fromEntries(data.columns.map((c) => [c.name, c.start]));
  const column = Object.fromEntries(data.columns.map((c) => [c.name, c]));
  const percent = `${Math.round(100 * data.level)} %`;
  const shifted = (value, shock) =>
    data.space === "log" ? value * Math.exp(shock) : data.space === "relative" ? value * (1 + shock) : value + shock;

  function quantile(sorted, q) {
    const place = q * (sorted.length - 1), low = Math.floor(place), high = Math.ceil(place);
    return sorted[low] + (sorted[high] - sorted[low]) * (place - low);
  }
  function interval(values) {
    const sorted = Float64Array.from(values).sort();
    return [quantile(sorted, (1 - data.level) / 2), quantile(sorted, (1 + data.level) / 2)];
  }
  function predict(at, noise = data.noise) {
    const mean = law(data.parameters, at);
    if (!data.draws.length) return { mean };
    const values = data.draws.flatMap((p) => { const value = law(p, at); return noise.map((shock) => shifted(value, shock)); });
    const [low, high] = interval(values), k = data.stretch;
    if (data.space === "log") return { mean, lower: mean * (low / mean) ** k, upper: mean * (high / mean) ** k };
    return { mean, lower: mean + k * (low - mean), upper: mean + k * (high - mean) };
  }
  const grid = (low, high, count) => Array.from({ length: count }, (_, i) => low * (high / low) ** (i / (count - 1)));
  const budget = () => 6 * x.params * x.tokens;
  const atBudget = (params) => ({ ...x, params, tokens: budget() / (6 * params) });

  function bestSplit() {
    const sizes = grid(column.params.low / 10, column.params.high, 121);
    const settings = sizes.map(atBudget);
    const best = (p) => {
      const values = settings.map((at) => law(p, at)), i = values.indexOf(Math.min(...values));
      if (i <= 0 || i === sizes.length - 1) return i === 0 ? sizes[0] : sizes[sizes.length - 1];
      const [a, b, c] = values.slice(i - 1, i + 2); // the vertex of the parabola through the three lowest points
      return sizes[i] * (sizes[1] / sizes[0]) ** (a - 2 * b + c > 0 ? (a - c) / 2 / (a - 2 * b + c) : 0);
    };
    const params = best(data.parameters);
    if (params === sizes[0] || params === sizes[sizes.length - 1]) return null;
    return { at: atBudget(params), params, spread: data.draws.length ? interval(data.draws.map(best)) : null };
  }

  const sliders = data.split
    ? {
        budget: {
          low: 6 * column.params.low * column.tokens.low, high: 6 * column.params.high * column.tokens.high, log: true, get: budget,
          set: (value) => { const ratio = x.tokens / x.params; x.params = Math.sqrt(value / 6 / ratio); x.tokens = ratio * x.params; },
          text: (value) => `${scientific(value)} FLOP`,
        },
        params: { ...column.params, get: () => x.params, set: (value) => Object.assign(x, atBudget(value)), text: (value) => `${si(value)} parameters` },
        ratio: {
          low: column.tokens.low / column.params.high, high: column.tokens.high / column.params.low, log: true, get: () => x.tokens / x.params,
          set: (value) => Object.assign(x, atBudget(Math.sqrt(budget() / 6 / value))), text: (value) => si(value),
        },
      }
    : {};
  for (const c of data.columns) {
    if (data.split && (c.name === "params" || c.name === "tokens")) continue;
    sliders[c.name] = { ...c, get: () => x[c.name], set: (value) => { x[c.name] = value; }, text: (value) => (c.log ? si(value) : Number(value.toPrecision(4))) + (c.unit ? ` ${c.unit}` : "") };
  }
  const output = (id) => document.querySelector(`output[for="${id}"]`);
  for (const [id, s] of Object.entries(sliders)) {
    const input = document.getElementById(id);
    Object.assign(input, s.log ? { min: Math.log10(s.low), max: Math.log10(s.high) } : { min: s.low, max: s.high });
    input.addEventListener("input", () => { s.set(s.log ? 10 ** Number(input.value) : Number(input.value)); show(id); });
  }
  const take = document.getElementById("take");
  if (take) take.addEventListener("click", () => { const best = bestSplit(); if (best) { Object.assign(x, best.at); show(); } });

  function show(moved) {
    for (const [id, s] of Object.entries(sliders)) {
      const value = s.get();
      if (id !== moved) document.getElementById(id).value = s.log ? Math.log10(value) : value;
      output(id).textContent = s.text(value);
      output(id).dataset.value = value;
    }
    const p = predict(x), half = (p.upper - p.lower) / 2, result = document.getElementById("prediction");
    result.innerHTML = `${data.target} <strong>${digits(p.mean, half)}</strong> ${data.unit}` + (half ? `<br>${percent}: ${digits(p.lower, half)} – ${digits(p.upper, half)}` : "");
    Object.assign(result.dataset, p, { columns: JSON.stringify(x) });
    const factor = size(x) / data.largest;
    document.getElementById("reach").textContent =
      (data.split ? `on ${si(x.tokens)} tokens · ` : "") + (factor <= 1 + 1e-9 ? "no larger than the runs of the fit" : `${Number(factor.toPrecision(2))}× beyond the largest run`);
    const warnings = [];
    if (factor > 30) warnings.push("This is far beyond the runs: the form of the law decides, not the data.");
    if (data.unique && x.tokens > 4 * data.unique) warnings.push(`More than four passes over ${si(data.unique)} tokens of text: the law does not know repetition.`);
    document.getElementById("warning").textContent = warnings.join(" ");
    if (data.split) {
      const best = bestSplit();
      document.getElementById("best").textContent = best
        ? `Best split of this budget: ${si(best.params)} parameters` + (best.spread ? ` (${percent}: ${si(best.spread[0])} – ${si(best.spread[1])})` : "") + ` on ${si(best.at.tokens)} tokens, ${data.target} ${digits(law(data.parameters, best.at), half)}.`
        : "The best split of this budget lies outside the sliders.";
      take.disabled = !best;
    }
    curve();
  }

  function curve() {
    const across = data.split ? column.params : data.columns.find((c) => c.log) || data.columns[0];
    const near = data.split ? [x.params, (bestSplit() || { params: x.params }).params] : [across.low * 20, across.high / 20];
    const xs = across.log ? grid(Math.min(...near) / 20, Math.max(...near) * 20, 41) : Array.from({ length: 41 }, (_, i) => across.low + (i / 40) * (across.high - across.low));
    const settings = xs.map((value) => (data.split ? atBudget(value) : { ...x, [across.name]: value }));
    const noise = data.noise.filter((_, i) => i % 3 === 0);
    const values = settings.map((at) => predict(at, noise)), now = predict(x);
    const beyond = settings.map((at) => size(at) > data.largest * (1 + 1e-9));
    const blue = "#3b82c4", orange = "#e07b22";
    const part = (keep, dash) => ({ x: xs, y: values.map((v, i) => (keep(i) ? v.mean : null)), mode: "lines", line: { color: blue, dash, width: 2 }, hoverinfo: "skip" });
    const traces = [
      part((i) => !beyond[i], "solid"),
      part((i) => beyond[i] || beyond[i + 1] || beyond[i - 1], "dash"),
      { x: [x[across.name]], y: [now.mean], mode: "markers", marker: { color: orange, size: 11 }, hoverinfo: "skip",
        error_y: now.upper ? { type: "data", symmetric: false, array: [now.upper - now.mean], arrayminus: [now.mean - now.lower], color: orange, thickness: 2 } : undefined },
    ];
    if (data.draws.length) traces.unshift({ x: [...xs, ...xs.slice().reverse()], y: [...values.map((v) => v.upper), ...values.map((v) => v.lower).reverse()], fill: "toself", fillcolor: blue, opacity: 0.15, mode: "lines", line: { width: 0 }, hoverinfo: "skip" });
    const same = across.unit.toLowerCase().startsWith(across.name.toLowerCase().replace(/s$/, ""));
    const name = same ? across.unit : across.unit ? `${across.name} (${across.unit})` : across.name;
    const powers = grid(1e-3, 1e21, 25);
    const decades = { type: "log", tickvals: powers, ticktext: powers.map((v) => si(v)) };
    const tick = { showline: true, ticks: "outside", showgrid: false, zeroline: false };
    figures["planner-plot"] = {
      data: traces,
      layout: {
        showlegend: false, margin: { l: 60, r: 16, t: 14, b: 52 },
        xaxis: { ...tick, ...(across.log ? decades : { type: "linear" }), title: { text: data.split ? `${name} at this budget` : name } },
        yaxis: { ...tick, title: { text: data.unit ? `${data.target} (${data.unit})` : data.target } },
      },
    };
    draw("planner-plot");
  }
  show();
}

drawAll();
const source = document.getElementById("planner-data");
if (source) planner(JSON.parse(source.textContent));
