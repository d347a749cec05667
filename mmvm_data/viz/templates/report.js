// The page: state <-> address, gallery, large view, rejects, build. Thumbnails stay text until a card needs them.

const data = JSON.parse($("#data").textContent);
const rows = data.rows;
const PAGE = 24;
const TABS = ["cases", "audit", "rejects", "build"];
const SHOWN_OPTIONS = 12; // of a card; more than this many and two are folded
const SORTS = {
  set: ["of the set", (a, b) => a - b],
  shuffled: ["shuffled", (a, b) => mixed(a) - mixed(b)],
  few: ["fewest candidates", by((row) => row.candidates.length)],
  many: ["most candidates", by((row) => -row.candidates.length)],
  alike: ["most look-alikes", by((row) => -(row.alike ?? -1))],
  small: ["smallest query", by((row) => row.query[0].area)],
  large: ["largest query", by((row) => -row.query[0].area)],
  far: ["largest gap", by((row) => -(row.gap ?? -1))],
  near: ["smallest gap", by((row) => row.gap ?? Infinity)],
};
const state = { tab: "cases", q: "", sort: "set", page: 0, reveal: false, open: null };
const shown = { order: [], guesses: new Map(), revealed: new Set(), unfolded: new Set(), opener: null };

function by(key) {
  return (a, b) => key(rows[a]) - key(rows[b]) || a - b;
}

// A fixed shuffle: the same order whenever the file is opened.
function mixed(i) {
  let x = Math.imul(i + 1, 0x9e3779b1);
  x = Math.imul(x ^ (x >>> 15), 0x85ebca6b);
  return (x ^ (x >>> 13)) >>> 0;
}

const texts = [];
function textOf(i) {
  if (texts[i] === undefined) {
    const row = rows[i];
    const words = [row.id, row.source, row.video, row.prompt, data.strings[row.question], row.rationale, row.review.state, row.review.by, row.review.reason,
      ...row.query.map((q) => q.category), ...row.candidates.map((c) => c.category), ...row.types.map((t) => data.match_types[t].join(" ")), ...row.tracks, ...row.frames.map((f) => f.path)];
    texts[i] = words.filter((word) => word).join("\n").toLowerCase();
  }
  return texts[i];
}

const facets = new Facets(data, $("#facets"), () => change({ page: 0 }));

// ---- thumbnails

const chunks = new Map();
function thumbs(i) {
  const k = Math.floor(i / data.chunk);
  if (!chunks.has(k)) {
    const holder = document.getElementById(`thumbs-${k}`);
    if (!holder) return null;
    if (chunks.size > 40) chunks.delete(chunks.keys().next().value);
    chunks.set(k, JSON.parse(holder.textContent));
  }
  return chunks.get(k)[i % data.chunk];
}

// A "!" before a thumbnail: the image file has an orientation tag. Browsers rotate such a file, also where the style of a
// page on the disk forbids it, while the marks and masks are on the pixels as stored; so its thumbnail is shown.
const ROTATED = "!";
function isRotated(i, image) {
  const list = thumbs(i);
  return Boolean(list && list[image] && list[image].startsWith(ROTATED));
}

function picture(i, image, text) {
  const list = thumbs(i);
  if (list && list[image]) return el("img", { src: `data:image/webp;base64,${list[image].replace(ROTATED, "")}`, alt: text, decoding: "async" });
  return el("span", { class: "gone" }, list || document.readyState !== "loading" ? "picture missing" : "loading");
}

// A dense screen shows more than a preview holds: there, pictures that come into view are replaced by the image files,
// unless these turn out not to lie beside the page.
const files = { known: new WeakMap(), there: true };
const watch = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) if (isIntersecting) sharpen(target);
}, { rootMargin: "200px" });

function sharpen(img) {
  watch.unobserve(img);
  const { path, width, height } = files.known.get(img);
  const preview = Math.min(1, data.thumb[0] / width, data.thumb[1] / height);
  const wanted = Math.min(1, Math.min(img.clientWidth / width, img.clientHeight / height) * devicePixelRatio);
  if (!files.there || wanted < 1.2 * preview) return;
  const full = new Image();
  full.src = address(path);
  full.decode().then(() => (img.src = full.src), () => (files.there = false));
}

function cardPicture(i, image) {
  const row = rows[i], node = picture(i, image, altOf(row, image));
  if (node.tagName === "IMG" && !isRotated(i, image)) {
    files.known.set(node, row.images[image]);
    watch.observe(node);
  }
  return node;
}

function altOf(row, image) {
  if (image < row.images.length - 1) return `Image ${image + 1}: the query, ${row.query[image].category ?? "an object"}, is marked in cyan`;
  return `Image ${image + 1}: ${row.candidates.length} numbered candidates`;
}

// ---- cards

function solved(i) {
  return state.reveal || shown.revealed.has(i) || shown.guesses.has(i);
}

function optionsOf(i, folds = false) {
  const row = rows[i];
  const open = solved(i);
  const isFolded = folds && row.options.length > SHOWN_OPTIONS + 2 && !shown.unfolded.has(i);
  const isKept = ([letter], k) => !isFolded || k < SHOWN_OPTIONS || (open && (letter === row.letter || letter === shown.guesses.get(i)));
  const kept = row.options.filter(isKept);
  const rest = el("button", { type: "button", class: "option rest", onclick: () => { shown.unfolded.add(i); refreshOptions(i); } }, `${row.options.length - kept.length} more`);
  return el("div", { class: "options", role: "group", "aria-label": "Options" }, kept.map(([letter, value]) => {
    const right = open && letter === row.letter;
    const wrong = open && !right && shown.guesses.get(i) === letter;
    const name = value === null ? "none" : `${value}`;
    const said = right ? ", right answer" : wrong ? ", your answer, wrong" : "";
    return el("button", { type: "button", class: `option${right ? " right" : wrong ? " wrong" : ""}`, "aria-label": `${letter}, ${value === null ? "none of the above" : `object ${value}`}${said}`, onclick: () => guess(i, letter) },
      el("b", {}, letter), name, right ? " ✓" : wrong ? " ✗" : null);
  }), isFolded ? rest : null);
}

function guess(i, letter) {
  if (!shown.guesses.has(i)) shown.guesses.set(i, letter);
  refreshOptions(i);
  tally();
}

function tally() {
  const right = [...shown.guesses].filter(([i, said]) => rows[i].letter === said).length;
  $("#tally").textContent = shown.guesses.size ? `You: ${right} of ${shown.guesses.size} right` : "";
}

function refreshOptions(i) {
  for (const holder of document.querySelectorAll(`[data-options="${i}"]`)) {
    const at = [...holder.querySelectorAll("button")].indexOf(document.activeElement);
    holder.replaceChildren(optionsOf(i, "folds" in holder.dataset));
    if (at >= 0) holder.querySelectorAll("button")[at]?.focus();
  }
  if (state.open === i) showSolution(i);
}

function typesOf(row) {
  return row.types.length ? el("span", { class: "types" }, row.types.map((t) => el("abbr", { title: data.match_types[t][1] }, data.match_types[t][0]))) : null;
}

function card(i) {
  const row = rows[i];
  const last = row.images.length - 1;
  const facts = [`${row.candidates.length} candidates`, row.gap === null ? null : `gap ${number(row.gap)}`, row.alike ? `${row.alike} look-alike${row.alike > 1 ? "s" : ""}` : null,
    row.query[0].category, row.prompt === "box" ? "boxes" : null].filter((fact) => fact);
  return el("article", { class: "card", "data-case": row.id, "aria-label": row.id },
    el("button", { type: "button", class: "pair", "aria-label": `Open ${row.id}`, onclick: (event) => { shown.opener = event.currentTarget; change({ open: i }, "open"); } },
      cardPicture(i, 0), cardPicture(i, last), last > 1 ? el("span", { class: "more" }, `+${last - 1}`) : null),
    el("div", { class: "text" },
      el("div", { class: "first" }, el("b", { class: "mono" }, row.id), copyButton(row.id), el("span", { title: `${row.source} ${row.video ?? ""}` }, row.source, row.video ? ` · ${row.video}` : "")),
      el("div", { class: "facts" }, facts.map((fact) => el("span", {}, fact)), typesOf(row),
        row.review.state === "proposed" ? null : el("span", { class: `state ${row.review.state}` }, row.review.state)),
      el("div", { "data-options": i, "data-folds": true }, optionsOf(i, true))));
}

function drawGallery() {
  const pages = Math.max(1, Math.ceil(shown.order.length / PAGE));
  state.page = Math.min(state.page, pages - 1);
  const from = state.page * PAGE;
  const page = shown.order.slice(from, from + PAGE);
  watch.disconnect();
  const none = el("p", { class: "nothing" }, rows.length ? "No case matches." : "There are no cases here.");
  $("#cards").replaceChildren(...(page.length ? page.map(card) : [none]));
  $("#count").textContent = shown.order.length === rows.length ? pluralize(rows.length, "case") : `${number(shown.order.length)} of ${pluralize(rows.length, "case")}`;
  const go = (to) => { change({ page: to }, "page"); $("#cards").focus({ preventScroll: true }); showFirst(); };
  const jump = el("input", { type: "number", min: 1, max: pages, value: state.page + 1, "aria-label": "Page", onchange: (event) => go(Math.min(pages, Math.max(1, Math.trunc(event.target.value) || 1)) - 1) });
  $("#pager").hidden = pages < 2;
  $("#pager").replaceChildren(el("button", { type: "button", disabled: !state.page, onclick: () => go(state.page - 1) }, "‹ Previous"), jump, `of ${number(pages)}`,
    el("button", { type: "button", disabled: state.page > pages - 2, onclick: () => go(state.page + 1) }, "Next ›"));
  const chips = facets.all.flatMap((facet) => facet.order.filter((value) => facet.chosen.has(`${value}`)).map((value) =>
    el("button", { type: "button", "aria-label": `Remove filter ${facet.text(value)}`, onclick: () => facets.toggle(facet, value) }, `${facet.text(value)} ×`)));
  if (chips.length || state.q) chips.push(el("button", { type: "button", class: "clear", onclick: clear }, "Clear all"));
  $("#chips").replaceChildren(...chips);
}

// new cases begin at their first one, wherever the page was scrolled to; the bar above stays
function showFirst() {
  const top = $(`#${state.tab}`).offsetTop - 60;
  if (window.scrollY > top) window.scrollTo({ top });
}

function clear() {
  facets.all.forEach((facet) => facet.chosen.clear());
  change({ q: "", page: 0 });
}

// ---- large view

function address(path) {
  return data.base + path.split("/").map(encodeURIComponent).join("/");
}

function figure(i, image) {
  const row = rows[i];
  const { path, original, width, height } = row.images[image];
  const preview = picture(i, image, altOf(row, image));
  const note = el("span");
  preview.setAttribute("width", width);
  preview.setAttribute("height", height);
  const full = new Image();
  full.onload = () => { full.alt = altOf(row, image); full.width = width; full.height = height; preview.replaceWith(full); };
  full.onerror = () => { note.textContent = "Preview only: the image file is not beside this page."; };
  if (isRotated(i, image)) note.textContent = "Preview only: the image file has an orientation tag, which its masks do not follow.";
  else full.src = address(path);
  return el("figure", {}, paneOf(`Image ${image + 1}`, el("a", { href: address(path), target: "_blank", rel: "noopener", title: "Open the image file" }, preview)),
    el("figcaption", {}, el("span", {}, image < row.images.length - 1 ? `Image ${image + 1}: query` : `Image ${image + 1}: candidates`), el("span", {}, `${width} × ${height}`),
      el("a", { href: address(original), target: "_blank", rel: "noopener" }, "without marks"), note));
}

function pairs(entries) {
  return el("dl", { class: "pairs" }, entries.filter(([, value]) => value !== null && value !== undefined && value !== "").flatMap(([name, value]) => [el("dt", {}, name), el("dd", {}, value instanceof Node ? value : `${value}`)]));
}

function drawLarge() {
  const dialog = $("#large");
  if (state.open === null) {
    if (dialog.open) dialog.close();
    return;
  }
  const i = state.open, row = rows[i], at = shown.order.indexOf(i), review = row.review;
  $("#large-name").textContent = row.id;
  $("#large-copy").replaceChildren(copyButton(row.id));
  $("#large-place").textContent = at >= 0 ? `${number(at + 1)} of ${number(shown.order.length)}` : "";
  $("#previous").disabled = at <= 0;
  $("#next").disabled = at < 0 || at >= shown.order.length - 1;
  const show = el("button", { type: "button", id: "show", title: "Show or hide the answer (r)", onclick: () => turn(i) });
  const frames = row.frames.map((f) => `${f.path} (frame ${f.index}${f.time === null ? "" : `, ${f.time.toFixed(2)} s`})`).join("\n");
  const list = el("div", { class: "scroll" }, el("table", {}, el("thead", {}, el("tr", {}, ["number", "category", "track", "pixels"].map((name) => el("th", { scope: "col" }, name)))),
    el("tbody", {}, el("tr", {}, el("td", {}, "query"), el("td", {}, row.query[0].category ?? ""), el("td", { class: "mono" }, row.tracks[0] ?? ""), el("td", { class: "number" }, number(row.query[0].area))),
      row.candidates.map((c) => el("tr", { class: c.number === row.answer ? "right" : null }, el("td", { class: "number" }, `${c.number}`), el("td", {}, c.category ?? ""), el("td", { class: "mono" }, c.track), el("td", { class: "number" }, number(c.area)))))));
  $("#large-body").replaceChildren(
    el("div", { class: "images" }, row.images.map((_, image) => figure(i, image))),
    el("div", { class: "columns" },
      el("div", {}, el("h3", {}, "Question"), el("p", { class: "question" }, data.strings[row.question].trim()), el("div", { class: "ask" }, el("div", { "data-options": i }, optionsOf(i)), show),
        el("div", { id: "solution" }, row.rationale ? [el("h3", {}, "Why"), el("p", { class: "question" }, row.rationale)] : null, el("h3", {}, "Candidates"), list)),
      el("div", {}, el("h3", {}, "Where it comes from"),
        pairs([["source", row.source], ["video", row.video], ["frames", frames ? el("span", { class: "mono", style: "white-space: pre-line" }, frames) : null], ["gap", row.gap], ["query", `${row.query.map((q) => `${q.category ?? "object"}, ${number(q.area)} pixels`).join("; ")}`],
          ["match types", row.types.map((t) => data.match_types[t].join(" ")).join(", ")], ["look-alikes", row.alike], ["visible objects", row.visible], ["seed, ordinal", row.seed === null ? null : `${row.seed}, ${row.ordinal}`],
          ["versions", data.strings[row.versions]], ["more", row.extra]]),
        el("h3", {}, "Review"), pairs([["state", review.state], ["by", review.by], ["at", review.at], ["seconds", review.seconds], ["reason", review.reason]]))));
  showSolution(i);
  setZoom(1);
  $("#large-body").scrollTop = 0;
  if (!dialog.open) dialog.showModal();
}

// What would give the answer away stays hidden until it is asked for.
function showSolution(i) {
  $("#solution").hidden = !solved(i);
  $("#show").textContent = solved(i) ? "Hide the answer" : "Show the answer";
  $("#show").hidden = state.reveal;
}

function turn(i) {
  if (solved(i)) [shown.revealed, shown.guesses].forEach((kept) => kept.delete(i));
  else shown.revealed.add(i);
  refreshOptions(i);
  tally();
}

function step(by) {
  const to = shown.order[shown.order.indexOf(state.open) + by];
  if (shown.order.includes(state.open) && to !== undefined) change({ open: to }, "open");
}

// ---- rejects and build

function table(heads, lines, numeric = []) {
  return el("div", { class: "scroll" }, el("table", {}, el("thead", {}, el("tr", {}, heads.map((head) => el("th", { scope: "col" }, head)))),
    el("tbody", {}, lines.map((line) => el("tr", {}, line.map((cell, k) => el("td", { class: numeric.includes(k) ? "number" : heads[k] === "reason" ? "wide" : null }, cell instanceof Node ? cell : `${cell ?? ""}`)))))));
}

let rejectsShown = 200;
function drawRejects() {
  const words = wordsOf(state.q);
  const found = data.rejects.filter((line) => words.every((word) => line.join("\n").toLowerCase().includes(word)));
  const kinds = Object.entries(data.stats.reasons).sort((a, b) => b[1] - a[1]);
  const more = found.length > rejectsShown ? el("button", { type: "button", onclick: () => { rejectsShown += 1000; drawRejects(); } }, `Show more (${number(found.length - rejectsShown)} left)`) : null;
  const cut = data.stats.rejects > data.rejects.length ? el("p", { class: "dim" }, `The first ${number(data.rejects.length)} of ${number(data.stats.rejects)} rejects are listed here; rejects.jsonl has all.`) : null;
  const problems = data.problems.filter((line) => words.every((word) => line.join("\n").toLowerCase().includes(word)));
  const wrong = data.stats.problems ? [el("h2", {}, `${number(data.stats.problems)} problem${data.stats.problems === 1 ? "" : "s"} found while reading`), table(["where", "what"], problems.slice(0, 1000))] : [];
  $("#rejects").replaceChildren(...wrong, ...(data.stats.rejects ? [el("h2", {}, "By reason"), table(["reason", "rejects"], kinds.slice(0, 50).map(([kind, count]) => [kind, number(count)]), [1]),
    el("h2", {}, `${number(found.length)} reject${found.length === 1 ? "" : "s"}`), ...(cut ? [cut] : []),
    table(["source", "video", "case", "reason", "file", "field"], found.slice(0, rejectsShown).map((line) => line.map((cell, k) => (k === 2 && cell < 0 ? "whole video" : cell)))), ...(more ? [more] : [])]
    : wrong.length ? [] : [el("p", { class: "nothing" }, "Nothing was rejected.")]));
}

// JSON as lines of (names on the way, value): tables inside tables leave a phone no room for the values.
function leaves(value, way = []) {
  const flat = Array.isArray(value) && value.every((item) => item === null || typeof item !== "object");
  if (value === null || typeof value !== "object" || flat) return [[way.join(" / "), flat ? value.join(", ") : `${value ?? "–"}`]];
  return Object.entries(value).flatMap(([name, item]) => leaves(item, [...way, name]));
}

// Sources of a recipe, which have the same options: a column each.
function sideBySide(items) {
  const columns = items.map((item) => new Map(leaves(item)));
  const names = [...new Set(columns.flatMap((column) => [...column.keys()]))].filter((name) => name !== "name");
  return table(["source of the recipe", ...items.map((item, k) => `${item?.name ?? k + 1}`)], names.map((name) => [name, ...columns.map((column) => column.get(name) ?? "")]));
}

function drawBuild() {
  const sources = data.build?.request?.recipe?.sources, recipe = Array.isArray(sources) ? sources : [];
  const lines = Object.entries(data.stats.sources).map(([name, s]) => [name, number(s.cases), number(s.videos), s.cases ? (s.candidates / s.cases).toFixed(1) : "–", percent(s.none, s.cases), number(s.rejects)]);
  $("#build").replaceChildren(el("h2", {}, "Sources"), table(["source", "cases", "videos", "mean candidates", "none of the above", "rejects"], lines, [1, 2, 3, 4, 5]),
    ...(recipe.length > 1 ? [el("h2", {}, "Recipe"), sideBySide(recipe)] : []),
    ...(data.build ? [el("h2", {}, "build.json"), table(["name", "value"], leaves(data.build).filter(([name]) => recipe.length < 2 || !name.startsWith("request / recipe / sources / ")))] : []));
}

// ---- state

function wordsOf(query) {
  return query.toLowerCase().split(/\s+/).filter((word) => word);
}

function writeAddress() {
  const params = new URLSearchParams();
  if (state.tab !== "cases") params.set("tab", state.tab);
  if (state.q) params.set("q", state.q);
  for (const facet of facets.all) for (const value of facet.chosen) params.append(facet.key, value);
  if (state.sort !== "set") params.set("sort", state.sort);
  if (state.page) params.set("page", state.page + 1);
  if (state.reveal) params.set("answers", 1);
  if (state.open !== null) params.set("case", rows[state.open].id);
  const hash = `#${params}`;
  if (hash !== (location.hash || "#")) history.replaceState(null, "", hash);
}

function readAddress() {
  const params = new URLSearchParams(location.hash.slice(1));
  for (const facet of facets.all) {
    const known = new Set(facet.order.map((value) => `${value}`));
    facet.chosen = new Set(params.getAll(facet.key).filter((value) => known.has(value)));
  }
  const open = params.has("case") ? rows.findIndex((row) => row.id === params.get("case")) : -1;
  change({ tab: TABS.includes(params.get("tab")) ? params.get("tab") : "cases", q: params.get("q") ?? "", sort: Object.hasOwn(SORTS, params.get("sort")) ? params.get("sort") : "set",
    page: Math.max(0, (Math.trunc(params.get("page")) || 1) - 1), reveal: params.has("answers"), open: open < 0 ? null : open });
}

// The one way in which anything changes: new state, then whatever shows it. "what" says how much has to be drawn again:
// the large view alone ("open"), another page of the same cases ("page"), or everything.
function change(update, what = "all") {
  Object.assign(state, update);
  if (what === "all") {
    const words = wordsOf(state.tab === "rejects" ? "" : state.q);
    shown.order = facets.apply((i) => words.every((word) => textOf(i).includes(word))).sort(SORTS[state.sort][1]);
  }
  for (const tab of TABS) $(`#${tab}`).hidden = tab !== state.tab;
  for (const button of document.querySelectorAll("[data-tab]")) button.setAttribute("aria-pressed", button.dataset.tab === state.tab);
  for (const node of document.querySelectorAll(".for-cases")) node.hidden = state.tab !== "cases";
  $(".search").hidden = ["audit", "build"].includes(state.tab);
  if ($("#search").value !== state.q) $("#search").value = state.q;
  $("#sort").value = state.sort;
  $("#reveal").checked = state.reveal;
  if (state.tab === "audit") drawAudit();
  if (state.tab === "rejects") drawRejects();
  if (state.tab === "build") drawBuild();
  if (what !== "open") drawGallery();
  drawLarge();
  writeAddress();
}

function counted(count, name) {
  return [nounFor(count, name), number(count)];
}

function start() {
  const s = data.stats, title = data.title;
  document.title = `${title}: ${pluralize(s.cases, "case")}`;
  $("#title").textContent = title;
  const kept = rows.filter((row) => row.review.state !== "rejected");
  const candidates = kept.reduce((sum, row) => sum + row.candidates.length, 0);
  const chance = kept.reduce((sum, row) => sum + (row.options.length ? 1 / row.options.length : 0), 0);
  const totals = [counted(s.cases, "case"), counted(s.videos, "video"), counted(Object.keys(s.sources).length, "source"), ["mean candidates", kept.length ? (candidates / kept.length).toFixed(1) : "–"],
    ["none of the above", percent(s.none, s.cases)], ["right by chance", percent(chance, kept.length)], counted(s.rejects, "reject"), ...(s.rejected ? [["rejected by people, not counted", String(s.rejected)]] : []), ...(s.problems ? [counted(s.problems, "problem")] : [])];
  $("#totals").append(...totals.map(([name, value]) => el("div", {}, el("dt", {}, name), el("dd", {}, value))));
  $("#sort").append(...Object.entries(SORTS).map(([key, [name]]) => el("option", { value: key }, name)));
  $("#side").open = !matchMedia("(max-width: 900px)").matches;
  let wait = 0;
  $("#search").addEventListener("input", (event) => { state.q = event.target.value; clearTimeout(wait); wait = setTimeout(() => { change({ page: 0 }); showFirst(); }, 120); });
  $("#sort").addEventListener("change", (event) => { change({ sort: event.target.value, page: 0 }); showFirst(); });
  $("#reveal").addEventListener("change", (event) => change({ reveal: event.target.checked }));
  $("#skip").addEventListener("click", (event) => { event.preventDefault(); $("#cards").focus(); });
  $(".tabs").addEventListener("click", (event) => { if (event.target.dataset.tab) change({ tab: event.target.dataset.tab }); });
  $("#previous").addEventListener("click", () => step(-1));
  $("#next").addEventListener("click", () => step(1));
  $("#smaller").addEventListener("click", () => zoomBy(-1));
  $("#larger").addEventListener("click", () => zoomBy(1));
  $("#close").addEventListener("click", () => $("#large").close());
  $("#large").addEventListener("click", (event) => { if (event.target === $("#large")) $("#large").close(); });
  $("#large").addEventListener("close", () => { if (state.open !== null) change({ open: null }, "open"); if (shown.opener?.isConnected) shown.opener.focus(); });
  document.addEventListener("keydown", (event) => {
    const typing = event.target.closest("input:not([type=checkbox]), select");
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (state.open !== null) {
      if (zoom > 1 && event.key.startsWith("Arrow") && event.target.closest(".pane")) return; // which it scrolls
      if (event.key === "ArrowLeft") step(-1);
      else if (event.key === "ArrowRight") step(1);
      else if (event.key === "r" && !state.reveal) turn(state.open);
      else if (event.key === "+" || event.key === "=") zoomBy(1);
      else if (event.key === "-") zoomBy(-1);
      else return;
      event.preventDefault();
    } else if (event.key === "/" && !typing) {
      event.preventDefault();
      $("#search").focus();
    } else if (event.key === "Escape" && event.target === $("#search")) $("#search").blur();
  });
  addEventListener("hashchange", readAddress);
  // Cards are on screen before the thumbnails further down the file are read.
  document.addEventListener("DOMContentLoaded", () => { drawGallery(); drawLarge(); });
  readAddress();
}

start();
