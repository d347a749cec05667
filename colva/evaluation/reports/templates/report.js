"use strict";
// the gallery's filters; without this script every card is shown
const cards = [...document.querySelectorAll("#gallery .card")];
const chosen = { run: document.getElementById("by-run"), type: document.getElementById("by-type"), why: document.getElementById("by-why") };

function offer(select, values) {
  for (const value of [...new Set(values)].filter(Boolean).sort()) {
    select.append(new Option(value, value));
  }
}

function show() {
  let shown = 0;
  for (const card of cards) {
    const fits =
      (!chosen.run?.value || card.dataset.wrong.split(" ").includes(chosen.run.value)) &&
      (!chosen.type.value || card.dataset.types.split(" ").includes(chosen.type.value)) &&
      (!chosen.why.value || card.dataset.why.split("|").includes(chosen.why.value));
    card.hidden = !fits;
    shown += fits;
  }
  document.getElementById("shown").textContent = `${shown} shown`;
}

offer(chosen.type, cards.flatMap((card) => card.dataset.types.split(" ")));
offer(chosen.why, cards.flatMap((card) => card.dataset.why.split("|")));
for (const select of Object.values(chosen)) select?.addEventListener("change", show);
show();
