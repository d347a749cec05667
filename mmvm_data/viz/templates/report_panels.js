// Parts of the page: the audit, pictures that can be enlarged, ids that can be copied.

// ---- audit

const LEVELS = ["easy", "medium", "hard"]; // by the number of look-alikes: 0, 1 to 2, 3 or more
const levelOf = (row) => (row.alike === null ? null : LEVELS[row.alike ? (row.alike <= 2 ? 1 : 2) : 0]);

// Sources as the recipe names them; otherwise as the readers do.
function sourceLines() {
  const sources = new Map();
  for (const row of rows.filter((row) => row.review.state !== "rejected")) {
    const name = row.part ?? row.source;
    if (!sources.has(name)) sources.set(name, { cases: 0, none: 0, candidates: 0, videos: new Set(), easy: 0, medium: 0, hard: 0 });
    const line = sources.get(name), level = levelOf(row);
    line.cases += 1;
    line.none += row.answer === null ? 1 : 0;
    line.candidates += row.candidates.length;
    if (row.video !== null) line.videos.add(`${row.source}\n${row.video}`);
    if (level) line[level] += 1;
  }
  return [...sources].map(([name, s]) => [name, number(s.cases), number(s.videos.size), ...LEVELS.map((level) => number(s[level])), (s.candidates / s.cases).toFixed(1), percent(s.none, s.cases)]);
}

const share = (value) => `${(100 * value).toFixed(1)} %`;

// The interval of a score as a line on an axis from 0 to 100 %, with a mark at chance.
function scoreBar(s) {
  const x = (value) => 4 + 152 * value;
  return el("svg", { class: `score${s.beats_chance ? " above" : ""}`, viewBox: "0 0 160 16", role: "img", "aria-label": `${share(s.low)} to ${share(s.high)}, chance ${share(s.chance)}` },
    el("line", { class: "axis", x1: x(0), x2: x(1), y1: 8, y2: 8 }), el("line", { class: "chance", x1: x(s.chance), x2: x(s.chance), y1: 1, y2: 15 }),
    el("rect", { x: x(s.low), y: 6, width: Math.max(1, x(s.high) - x(s.low)), height: 4 }), el("rect", { x: x(s.score) - 1.5, y: 3, width: 3, height: 10 }));
}

function auditParts(audit) {
  if (!audit) return [el("p", { class: "dim" }, "This page was written without an audit.")];
  const lines = audit.baselines.map((s) => [s.baseline.replaceAll("_", " "), share(s.score), scoreBar(s), `${share(s.low)} to ${share(s.high)}`, share(s.chance), number(s.cases), s.beats_chance ? "beats chance" : ""]);
  const parts = [el("ul", { class: "findings" }, (audit.shortage ? [audit.shortage, ...audit.warnings] : audit.warnings.length ? audit.warnings : ["no warnings"]).map((text) => el("li", {}, text)))];
  if (lines.length) parts.push(table(["baseline", "score", "", "interval", "chance", "cases", "finding"], lines, [1, 3, 4, 5]), el("p", { class: "dim" }, "Baselines answer without looking at what an object is. Bars are intervals, the upright line is chance."));
  const learned = audit.learned_baseline;
  if (learned.reason) parts.push(el("p", { class: "dim" }, `Learned baseline: ${learned.reason}.`));
  const importance = Object.entries(learned.importance);
  if (importance.length) parts.push(el("h3", {}, "What the learned baseline uses"), table(["features", "accuracy lost without"], importance.map(([name, loss]) => [name, share(loss)]), [1]));
  const near = audit.near_duplicates;
  if (near && near.pairs.length) parts.push(el("h3", {}, `${pluralize(near.videos, "video")} with frames of another video`), table(["video", "video", "pairs of frames", "nearest"], near.pairs.slice(0, 50).map((pair) => [...pair.videos, number(pair.pairs), pair.cases.join(", ")]), [2]));
  return parts;
}

function drawAudit() {
  const missed = data.build && Array.isArray(data.build.shortfalls) ? data.build.shortfalls : [];
  $("#audit").replaceChildren(el("h2", {}, "Cases by source and difficulty"), table(["source", "cases", "videos", ...LEVELS, "mean candidates", "none of the above"], sourceLines(), [1, 2, 3, 4, 5, 6, 7]),
    el("p", { class: "dim" }, "Easy, medium, hard: 0, 1 to 2, 3 or more other candidates of the query's category."),
    ...(missed.length ? [el("h2", {}, "Not reached"), el("ul", { class: "findings" }, missed.map((text) => el("li", {}, `${text}`)))] : []),
    el("h2", {}, "Audit"), ...auditParts(data.audit));
}

// ---- pictures that can be enlarged

const ZOOMS = [1, 2, 3, 4, 6, 8];
let zoom = 1;

// All pictures of the case at once, each around the middle of what it shows.
function setZoom(value) {
  const before = zoom;
  zoom = value;
  for (const pane of document.querySelectorAll(".pane")) {
    const middle = [(pane.scrollLeft + pane.clientWidth / 2) / before, (pane.scrollTop + pane.clientHeight / 2) / before];
    if (zoom > 1 && before === 1) pane.style.height = `${pane.clientHeight}px`;
    if (zoom === 1) pane.style.height = "";
    pane.classList.toggle("zoomed", zoom > 1);
    pane.style.setProperty("--zoom", zoom);
    pane.scrollTo(middle[0] * zoom - pane.clientWidth / 2, middle[1] * zoom - pane.clientHeight / 2);
  }
  $("#zoom").textContent = `${100 * zoom} %`;
  $("#smaller").disabled = zoom === ZOOMS[0];
  $("#larger").disabled = zoom === ZOOMS[ZOOMS.length - 1];
}

function zoomBy(step) {
  setZoom(ZOOMS[Math.min(ZOOMS.length - 1, Math.max(0, ZOOMS.indexOf(zoom) + step))]);
}

// An enlarged picture is moved with the mouse; a click that did not move it follows the link.
function paneOf(label, link) {
  const pane = el("div", { class: "pane", tabindex: 0, role: "group", "aria-label": label }, link);
  let hasMoved = false;
  pane.addEventListener("dragstart", (event) => zoom > 1 && event.preventDefault());
  pane.addEventListener("click", (event) => hasMoved && event.preventDefault());
  pane.addEventListener("pointerdown", (event) => {
    hasMoved = false;
    if (zoom === 1 || event.pointerType !== "mouse" || event.button) return;
    const start = [event.clientX + pane.scrollLeft, event.clientY + pane.scrollTop];
    const move = (now) => {
      hasMoved ||= Math.abs(now.clientX - event.clientX) + Math.abs(now.clientY - event.clientY) > 3;
      pane.scrollTo(start[0] - now.clientX, start[1] - now.clientY);
    };
    addEventListener("pointermove", move);
    addEventListener("pointerup", () => removeEventListener("pointermove", move), { once: true });
  });
  return pane;
}

// ---- ids

function copyButton(text) {
  const button = el("button", { type: "button", class: "copy", title: "Copy the id", "aria-label": `Copy ${text}`, onclick: async () => {
    const done = await copyText(text);
    button.textContent = done ? "copied" : "not copied";
    setTimeout(() => (button.textContent = "copy"), 1500);
  } }, "copy");
  return button;
}

// Pages that were opened from a disk may not use the clipboard's own interface.
async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const field = el("textarea", { "aria-hidden": "true", class: "hidden" }, text);
    ($("#large").open ? $("#large") : document.body).append(field);
    field.select();
    const done = document.execCommand("copy");
    field.remove();
    return done;
  }
}
