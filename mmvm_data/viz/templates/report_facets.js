"use strict";
// Facets: what cases can be filtered by, each with its histogram. No case data goes through innerHTML anywhere.

const $ = (selector, root = document) => root.querySelector(selector);
const number = (value) => value.toLocaleString("en-GB");
const nounFor = (n, name) => (n === 1 ? name : `${name}s`);
// A count with its noun: "1 case", "48 cases".
const pluralize = (n, name) => `${number(n)} ${nounFor(n, name)}`;
const percent = (part, whole) => (whole ? `${((100 * part) / whole).toFixed(part && part < whole / 100 ? 2 : 1)} %` : "–");

// One element: attributes by name, "on…" as listeners, the rest as children (text or nodes; null is left out).
function el(tag, attributes = {}, ...children) {
  const svg = ["svg", "g", "rect", "line", "text", "title"].includes(tag);
  const node = svg ? document.createElementNS("http://www.w3.org/2000/svg", tag) : document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) node.addEventListener(name.slice(2), value);
    else if (value !== null && value !== undefined && value !== false) node.setAttribute(name, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined));
  return node;
}

const UNKNOWN = "unknown";
const short = (value) => (value >= 1 << 20 ? `${value / (1 << 20)}M` : value >= 1024 ? `${value / 1024}k` : `${value}`);
const octave = (area) => (area > 0 ? 2 ** Math.floor(Math.log2(area)) : 0);
const octaveText = (low) => (low ? `${number(low)} to ${number(2 * low - 1)} pixels` : "no pixel");

// Gaps get one bar each while they are few, otherwise about twelve bins of a round width.
function gapWidth(rows) {
  const gaps = rows.map((row) => row.gap).filter((gap) => gap !== null);
  const span = gaps.reduce((most, gap) => Math.max(most, gap), 0);
  if (new Set(gaps).size <= 16 && span <= 24) return 1;
  const raw = (span + 1) / 12;
  const power = 10 ** Math.floor(Math.log10(raw));
  return Math.max(1, [1, 2, 5, 10].map((step) => step * power).find((step) => step >= raw));
}

// key: name in the address; of: row -> values; text: value -> long label; tick: value -> label under the bar.
function facetsOf(data) {
  const width = gapWidth(data.rows);
  const gapText = (low) => (width === 1 ? `gap of ${low}` : `gap of ${low} to ${low + width - 1}`);
  const types = data.match_types;
  return [
    { key: "source", title: "Source", list: true, of: (row) => [row.source], text: (v) => v },
    { key: "candidates", title: "Candidates", axis: "candidates", of: (row) => [row.candidates.length], text: (v) => `${v} candidates` },
    { key: "answer", title: "Right option", axis: "letter", of: (row) => [row.letter ?? UNKNOWN], text: (v) => `option ${v}` },
    { key: "type", title: "Match type", list: true, of: (row) => (row.types.length ? row.types : [0]), text: (v) => (v ? `${types[v][0]} ${types[v][1]}` : "none given") },
    { key: "none", title: "Answer", list: true, of: (row) => [row.answer === null ? "none" : "object"], text: (v) => (v === "none" ? "none of the above" : "one of the candidates") },
    { key: "gap", title: "Gap between the images", axis: width === 1 ? "frames" : "frames, from", of: (row) => [row.gap === null ? UNKNOWN : Math.floor(row.gap / width) * width], text: (v) => (v === UNKNOWN ? v : gapText(v)) },
    { key: "area", title: "Query area", axis: "pixels, from", of: (row) => row.query.map((q) => octave(q.area)), text: octaveText, tick: short, counts: "query regions" },
    { key: "sizes", title: "Candidate areas", axis: "pixels, from", of: (row) => row.candidates.map((c) => octave(c.area)), text: octaveText, tick: short, counts: "candidates" },
    { key: "alike", title: "Look-alikes", axis: "of the query's category", of: (row) => [row.alike ?? UNKNOWN], text: (v) => (v === UNKNOWN ? v : v === 1 ? "1 look-alike" : `${v} look-alikes`) },
    { key: "prompt", title: "Prompt", list: true, of: (row) => [row.prompt], text: (v) => v },
    { key: "review", title: "Review", list: true, of: (row) => [row.review.state], text: (v) => v },
    { key: "category", title: "Query category", list: true, of: (row) => [row.query[0].category ?? UNKNOWN], text: (v) => v },
  ];
}

// Works out the values of every facet once, and counts them for any choice.
class Facets {
  constructor(data, host, changed) {
    this.rows = data.rows;
    this.changed = changed;
    this.all = facetsOf(data);
    for (const facet of this.all) {
      facet.chosen = new Set();
      facet.values = this.rows.map((row) => facet.of(row));
      facet.unit = facet.counts ?? "cases";
      const totals = new Map();
      for (const values of facet.values) for (const value of values) totals.set(value, (totals.get(value) ?? 0) + 1);
      facet.order = [...totals.keys()].sort(facet.list && facet.key !== "type" ? (a, b) => totals.get(b) - totals.get(a) || (a < b ? -1 : 1) : compare);
      if (!facet.list) facet.order = filled(facet, this.rows.length);
      facet.node = facet.list ? this.drawLines(facet) : this.drawColumns(facet);
      // A facet that cannot tell two cases apart is left out, except for the histograms that people expect.
      if (facet.order.length > 1 || ["source", "candidates", "answer", "type", "gap", "area", "sizes"].includes(facet.key)) host.append(facet.node);
    }
  }

  // Positions of the rows that pass; counts of each facet are taken under all other facets.
  apply(found) {
    for (const facet of this.all) facet.count = new Map();
    const active = this.all.filter((facet) => facet.chosen.size);
    const passed = [];
    const add = (facet, i) => facet.values[i].forEach((value) => facet.count.set(value, (facet.count.get(value) ?? 0) + 1));
    for (let i = 0; i < this.rows.length; i++) {
      if (!found(i)) continue;
      const against = active.filter((facet) => !facet.values[i].some((value) => facet.chosen.has(`${value}`)));
      if (!against.length) {
        passed.push(i);
        this.all.forEach((facet) => add(facet, i));
      } else if (against.length === 1) add(against[0], i);
    }
    this.all.forEach((facet) => this.update(facet));
    return passed;
  }

  toggle(facet, value) {
    const key = `${value}`;
    if (!facet.chosen.delete(key)) facet.chosen.add(key);
    this.changed();
  }

  update(facet) {
    facet.node.classList.toggle("chosen", facet.chosen.size > 0);
    const most = Math.max(1, ...facet.count.values());
    const total = [...facet.count.values()].reduce((sum, count) => sum + count, 0);
    if (facet.top) facet.top.textContent = number(most);
    facet.order.forEach((value, i) => {
      const count = facet.count.get(value) ?? 0;
      const bar = facet.bars[i];
      bar.label = `${facet.text(value)}: ${number(count)} ${facet.unit}, ${percent(count, total)}`;
      bar.node.setAttribute("aria-pressed", facet.chosen.has(`${value}`));
      bar.node.setAttribute("aria-label", bar.label);
      if (facet.list) {
        bar.node.classList.toggle("empty", !count);
        bar.fill.style.width = `${(100 * count) / most}%`;
        bar.value.textContent = number(count);
        bar.node.title = bar.label;
      } else {
        const height = count ? Math.max(1.5, (72 * count) / most) : 0;
        bar.fill.setAttribute("height", height);
        bar.fill.setAttribute("y", 82 - height);
      }
    });
  }

  drawLines(facet) {
    facet.bars = facet.order.map((value) => {
      const bar = { fill: el("i"), value: el("span", { class: "dim" }) };
      bar.node = el("button", { type: "button", class: "line", "data-value": value, onclick: () => this.toggle(facet, value) }, bar.fill, el("span", {}, facet.text(value)), bar.value);
      return bar;
    });
    const lines = el("div", { class: "lines" }, facet.bars.map((bar) => bar.node));
    return el("section", { class: "facet", "data-facet": facet.key, "aria-label": facet.title }, el("h3", {}, facet.title), lines);
  }

  drawColumns(facet) {
    const left = 34, right = 300, step = (right - left) / Math.max(facet.order.length, 6);
    const read = el("span", {}, facet.axis);
    const tick = facet.tick ?? ((value) => `${value === UNKNOWN ? "?" : value}`);
    const widest = facet.order.reduce((most, value) => Math.max(most, tick(value).length), 1);
    const every = Math.max(1, Math.ceil((widest * 6.2 + 4) / step));
    facet.top = el("text", { x: left - 5, y: 14, "text-anchor": "end" });
    facet.bars = facet.order.map((value, i) => {
      const x = left + i * step;
      const bar = { fill: el("rect", { class: "fill", x: x + step * 0.1, width: step * 0.8, rx: 1 }) };
      const say = () => (read.textContent = bar.label);
      bar.node = el("g", { class: "column", role: "button", tabindex: i ? -1 : 0, "data-value": value, onclick: () => this.toggle(facet, value),
        onmouseenter: say, onmouseleave: () => (read.textContent = facet.axis), onfocus: say, onblur: () => (read.textContent = facet.axis), onkeydown: (event) => this.key(event, facet, i) },
        el("rect", { class: "hit", x, y: 6, width: step, height: 92 }), bar.fill,
        i % every ? null : el("text", { x: x + step / 2, y: 95, "text-anchor": "middle" }, tick(value)));
      return bar;
    });
    const svg = el("svg", { viewBox: "0 0 300 100", role: "group", "aria-label": `${facet.title}, ${facet.axis}` },
      el("line", { class: "axis", x1: left, x2: right, y1: 10, y2: 10 }), el("line", { class: "axis", x1: left, x2: right, y1: 82.5, y2: 82.5 }),
      facet.top, el("text", { x: left - 5, y: 85, "text-anchor": "end" }, "0"), facet.bars.map((bar) => bar.node));
    return el("section", { class: "facet", "data-facet": facet.key, "aria-label": facet.title }, el("h3", {}, facet.title, read), svg);
  }

  // One tab stop a histogram: arrows move inside it, Enter and the space bar choose.
  key(event, facet, i) {
    const move = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
    if (event.key === "Enter" || event.key === " ") this.toggle(facet, facet.order[i]);
    else if (!move) return;
    else if (facet.bars[i + move]) {
      facet.bars[i].node.setAttribute("tabindex", -1);
      facet.bars[i + move].node.setAttribute("tabindex", 0);
      facet.bars[i + move].node.focus();
    }
    event.preventDefault();
  }
}

function compare(a, b) {
  if (a === UNKNOWN || b === UNKNOWN) return a === b ? 0 : a === UNKNOWN ? 1 : -1;
  return typeof a === "number" ? a - b : a < b ? -1 : a > b ? 1 : 0;
}

// Bars for the empty values between the first and the last, so that distances on the axis are true.
function filled(facet, cases) {
  const numbers = facet.order.filter((value) => typeof value === "number");
  if (numbers.length < 2) return facet.order;
  const gap = facet.key === "gap" ? Math.max(1, gapStep(numbers)) : 1;
  const next = facet.tick ? (value) => (value ? value * 2 : 1) : (value) => value + gap;
  const full = [];
  for (let value = numbers[0]; value <= numbers[numbers.length - 1] && full.length <= 40; value = next(value)) full.push(value);
  if (full.length > 40) return facet.order;
  return [...full, ...facet.order.filter((value) => typeof value !== "number")];
}

function gapStep(numbers) {
  const divide = (a, b) => (b ? divide(b, a % b) : a);
  return numbers.reduce((a, b) => divide(a, b));
}
