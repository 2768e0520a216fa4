"use strict";
// What is shown, and in which order, stands in the address: #sort=doubt&order=ascending&show=done&find=chest
const numbers = ["right", "left", "total", "doubt", "seconds"];
const words = new Intl.Collator(undefined, { numeric: true });
const headings = [...document.querySelectorAll("#cases thead th")];
const columns = Object.fromEntries(headings.map((heading, at) => [heading.dataset.key, at]));
const body = document.querySelector("#cases tbody");
const form = document.getElementById("choices");
const rows = [...body.rows].map((row) => ({
  row,
  states: row.dataset.show.split(" "),
  name: row.cells[columns.case].textContent.toLowerCase(),
  cells: row.cells,
}));

function valueOf(entry, key) {
  const cell = entry.cells[columns[key]];
  const text = (cell.dataset.value ?? cell.textContent).trim();
  if (!numbers.includes(key)) return text;
  return text === "" ? null : Number(text.replaceAll(",", ""));
}

function compare(one, other) {
  return typeof one === "number" ? one - other : words.compare(one, other);
}

// What is missing comes last, whichever way the rest goes.
function inOrder(key, order) {
  const sign = order === "descending" ? -1 : 1;
  const keyed = rows.map((entry) => [valueOf(entry, key), entry]);
  const isMissing = (value) => value === null || value === "";
  keyed.sort(([one], [other]) =>
    isMissing(one) || isMissing(other) ? isMissing(one) - isMissing(other) : sign * compare(one, other));
  return keyed.map(([, entry]) => entry);
}

function choices() {
  return new URLSearchParams(location.hash.slice(1));
}

function choose(changes) {
  const next = choices();
  for (const [name, value] of Object.entries(changes)) {
    if (value) next.set(name, value);
    else next.delete(name);
  }
  location.hash = next;
}

function firstOrder(key) {
  return numbers.includes(key) ? "descending" : "ascending";
}

function show() {
  const chosen = choices();
  const key = chosen.get("sort") in columns ? chosen.get("sort") : "doubt";
  const order = chosen.get("order") ?? firstOrder(key);
  const state = chosen.get("show") ?? "";
  const find = (chosen.get("find") ?? "").toLowerCase();
  for (const heading of headings) {
    if (heading.dataset.key === key) heading.setAttribute("aria-sort", order);
    else heading.removeAttribute("aria-sort");
  }
  let shown = 0;
  const sorted = document.createDocumentFragment();
  for (const entry of inOrder(key, order)) {
    const isShown = (!state || entry.states.includes(state)) && entry.name.includes(find);
    entry.row.hidden = !isShown;
    shown += isShown;
    sorted.append(entry.row);
  }
  body.append(sorted);
  form.elements.show.value = state;
  if (document.activeElement !== form.elements.find) form.elements.find.value = chosen.get("find") ?? "";
  document.getElementById("shown").value = `${shown} of ${rows.length} cases`;
}

for (const heading of headings.filter((heading) => heading.dataset.key)) {
  heading.querySelector("button").addEventListener("click", () => {
    const key = heading.dataset.key;
    const now = heading.getAttribute("aria-sort");
    const other = now === "ascending" ? "descending" : "ascending";
    choose({ sort: key, order: now ? other : firstOrder(key) });
  });
}
form.elements.show.addEventListener("change", (event) => choose({ show: event.target.value }));
form.elements.find.addEventListener("input", (event) => choose({ find: event.target.value }));
form.addEventListener("submit", (event) => event.preventDefault());
window.addEventListener("hashchange", show);
show();
