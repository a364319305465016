"use strict";
const PAGE = 24; // cards that are made at once
const AHEAD = 1500; // pixels below the window for which there are cards
const byId = (id) => document.getElementById(id);
const data = JSON.parse(byId("data").textContent);
byId("data").remove();
const fields = ["query", "runners", "place", "category", "status", "sort"].map(byId);
const dialog = document.querySelector("dialog");
let shown = [];
let open = null;
let view = null; // of the chart, once it has been opened

for (const unit of data.units) {
  const group = data.groups[unit.group];
  unit.model = group.model;
  unit.place = `${group.model}/${group.layer}`;
  unit.key = `${unit.place}/${unit.unit}`;
  unit.words = [unit.concept, unit.mask_word].filter(Boolean);
  unit.claims = [unit.status, unit.mask_claim];
  unit.label = unit.words.join("; ").toLowerCase();
  unit.all = [...unit.words, ...unit.best].join("; ").toLowerCase();
}
const byKey = new Map(data.units.map((unit) => [unit.key, unit]));

function element(name, properties = {}, children = []) {
  const made = Object.assign(document.createElement(name), properties);
  made.append(...children);
  return made;
}

function format(value, column, digits = 3) {
  if (value === null) return "–";
  if (column.share) return `${+(100 * value).toPrecision(digits)}\u00a0%`;
  if (digits < 3 && value > 0 && value < 0.001) return "<\u00a00.001";
  return String(+value.toPrecision(digits)).replaceAll("-", "\u2212");
}

function path(region) {
  const made = document.createElementNS("http://www.w3.org/2000/svg", "path");
  made.setAttribute("d", region);
  return made;
}

function thumbnail(image) {
  const made = element("span", { className: "image", title: data.ids[image.thumb] }, [
    element("img", {
      alt: `Source image ${data.ids[image.thumb]}`,
      loading: "lazy",
      decoding: "async",
      src: `data:image/webp;base64,${data.thumbs[image.thumb]}`,
    }),
  ]);
  if (image.region) {
    const svg = document.createElementNS("http://www.w3.org/2000/svg", "svg");
    svg.setAttribute("viewBox", `0 0 ${data.canvas} ${data.canvas}`);
    svg.setAttribute("preserveAspectRatio", "none"); // outlines are on a square, images need not be
    svg.setAttribute("aria-hidden", "true");
    svg.append(path(image.region), path(image.region));
    made.append(svg);
  }
  return made;
}

function heading(unit) {
  if (unit.status === "named" || unit.status === "theme") return [unit.title];
  return [element("span", { className: "none", textContent: unit.title })];
}

function where(unit) {
  const group = data.groups[unit.group];
  const marks = [unit.status, unit.category].filter((text) => text && text !== unit.title);
  const chips = marks.flatMap((text) => [" ", element("span", { className: `chip ${text.replaceAll(" ", "-")}`, textContent: text })]);
  return [`${group.model} · ${group.layer} · unit ${unit.unit}`, ...chips];
}

function also(unit) {
  const nearest = unit.status !== "named";
  const others = unit.best.filter((concept, rank) => rank > 0 || nearest);
  if (!others.length) return "";
  return `${nearest ? "nearest" : "then"}: ${others.join(", ")}`;
}

const MORE = [(unit) => unit.masks && `by masks: ${unit.masks}`, also, (unit) => unit.linear && `linear: ${unit.linear}`];

function card(unit) {
  const evidence = data.columns
    .map((column, index) => [column, unit.values[index]])
    .filter(([column, value]) => column.on_card && value !== null)
    .map(([column, value]) =>
      element("div", { title: column.meaning }, [
        element("dt", { textContent: column.name }),
        element("dd", { textContent: format(value, column, 2) }),
      ]),
    );
  const [masks, ...more] = MORE.map((say) => element("p", { className: "also", textContent: say(unit) }));
  const link = element("a", { href: `#${unit.key}` }, heading(unit));
  const article = element("article", {}, [
    element("h2", {}, [link]),
    element("p", { className: "place" }, where(unit)),
    masks,
    element("dl", {}, evidence),
    element("div", { className: "images" }, unit.images.map(thumbnail)),
    ...more,
  ]);
  article.addEventListener("click", (event) => {
    if (event.target !== link) link.click();
  });
  return element("li", {}, [article]);
}

function grow() {
  const cards = byId("cards");
  while (cards.childElementCount < shown.length && cards.getBoundingClientRect().bottom < innerHeight + AHEAD) {
    const made = cards.childElementCount;
    cards.append(...shown.slice(made, made + PAGE).map(card));
  }
}

// The filters as they stand in the address: #search=dog&model=net&layer=layer4&category=&status=&sort=q_value
function address() {
  const [model, ...layer] = byId("place").value.split("/");
  const told = { search: byId("query").value, runners: byId("runners").checked ? "1" : "", model, layer: layer.join("/") };
  for (const name of ["category", "status", "sort"]) told[name] = byId(name).value;
  return new URLSearchParams(Object.entries(told).filter(([, value]) => value)).toString();
}

function adopt() {
  const before = address();
  const told = new URLSearchParams(location.hash.slice(1));
  byId("query").value = told.get("search") ?? "";
  byId("runners").checked = told.has("runners");
  byId("place").value = ["model", "layer"].map((name) => told.get(name)).filter(Boolean).join("/");
  for (const name of ["category", "status", "sort"]) byId(name).value = told.get(name) ?? "";
  for (const field of fields) if (field.selectedIndex === -1) field.selectedIndex = 0; // what this page does not have
  if (address() !== before) search();
}

function search() {
  const [query, runners, place, category, status, sort] = fields.map((field) =>
    field.type === "checkbox" ? field.checked : field.value,
  );
  const exact = /^"(.*)"$/.exec(query.trim());
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  shown = data.units.filter(
    (unit) =>
      (!place || unit.place === place || unit.model === place) &&
      (!category || unit.category === category) &&
      (!status || unit.claims.includes(status)) &&
      (exact ? unit.words.includes(exact[1]) : words.every((word) => (runners ? unit.all : unit.label).includes(word))),
  );
  if (!sort) shown.sort((one, other) => one.rank - other.rank);
  const column = data.columns.findIndex((each) => each.column === sort);
  if (column >= 0) {
    const best = data.columns[column].low ? 1 : -1; // what says most for the label comes first, what has no value last
    const value = (unit) => unit.values[column] ?? best * Infinity;
    shown.sort((one, other) => best * (value(one) - value(other)) || 0);
  }
  byId("none").hidden = shown.length > 0;
  byId("count").textContent = `${shown.length.toLocaleString("en")} of ${data.units.length.toLocaleString("en")} units`;
  byId("cards").replaceChildren();
  grow();
  view?.data("units", points()).runAsync();
}

function points() {
  const [across, up] = [byId("across").value, byId("up").value];
  return shown
    .filter((unit) => unit.values[across] !== null && unit.values[up] !== null)
    .map((unit) => ({ ...unit, label: unit.title, x: unit.values[across], y: unit.values[up] }));
}

async function draw() {
  if (!byId("scatter").open) return;
  const spec = structuredClone(data.chart);
  spec.data = { name: "units", values: points() };
  spec.encoding.x.title = data.columns[byId("across").value].name;
  spec.encoding.y.title = data.columns[byId("up").value].name;
  const options = { actions: { export: true, source: false, compiled: false, editor: false }, ast: true };
  ({ view } = await vegaEmbed("#chart", spec, options));
  view.addEventListener("click", (event, item) => item?.datum?.key && (location.hash = item.datum.key));
}

function follow() {
  open = byKey.get(decodeURIComponent(location.hash.slice(1)));
  if (open) return enlarge(open);
  dialog.close();
  adopt();
}

function enlarge(unit) {
  byId("title").replaceChildren(...heading(unit));
  dialog.querySelector(".place").replaceChildren(...where(unit));
  dialog.querySelector(".large").replaceChildren(
    ...unit.images.map((image) =>
      element("figure", {}, [
        thumbnail(image),
        element("figcaption", { textContent: `${data.ids[image.thumb]}: ${format(image.activation, {})}` }),
      ]),
    ),
  );
  dialog.querySelectorAll(".also").forEach((line, place) => (line.textContent = MORE[place](unit)));
  dialog.querySelector("tbody").replaceChildren(
    ...data.columns.map((column, index) =>
      element("tr", {}, [
        element("th", { scope: "row", textContent: column.name }),
        element("td", { className: "number", textContent: format(unit.values[index], column) }),
        element("td", { textContent: column.meaning }),
      ]),
    ),
  );
  const same = unit.concept && data.units.filter((other) => other.words.includes(unit.concept)).length;
  byId("same").hidden = !same;
  byId("same").textContent = `Units with “${unit.concept}”: ${same}`;
  const at = shown.indexOf(unit);
  byId("previous").disabled = at < 1;
  byId("next").disabled = at < 0 || at + 1 >= shown.length;
  if (!dialog.open) dialog.showModal();
}

function step(by) {
  const other = shown[shown.indexOf(open) + by];
  if (open && other) location.hash = other.key;
}

function fill(select, options) {
  select.append(...options.map(([value, text]) => new Option(text, value)));
}

const distinct = (name) => [...new Set(data.units.map((unit) => unit[name]))].filter(Boolean).sort();
for (const model of new Set(data.groups.map((group) => group.model))) {
  fill(byId("place"), [[model, `${model}, all layers`]]);
  const groups = data.groups.filter((group) => group.model === model);
  fill(byId("place"), groups.map((group) => [`${model}/${group.layer}`, `${model}, ${group.layer}`]));
}
fill(byId("category"), distinct("category").map((name) => [name, name]));
fill(byId("status"), data.statuses.map((name) => [name, name]));
fill(byId("sort"), data.columns.map((column) => [column.column, column.name]));

for (const name of ["across", "up"]) {
  fill(byId(name), data.columns.map((column, index) => [index, column.name]));
  byId(name).addEventListener("input", draw);
}
byId("across").value = Math.max(0, data.columns.findIndex((column) => column.column === "held_out_correlation"));
byId("up").value = Math.max(0, data.columns.findIndex((column) => column.column === "margin"));
byId("scatter").addEventListener("toggle", draw);
function filter() {
  history.replaceState(null, "", `#${address() || "/"}`);
  search();
}
for (const field of fields) field.addEventListener("input", filter);
document.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
byId("outlines").addEventListener("input", (event) => document.body.classList.toggle("plain", !event.target.checked));
byId("previous").addEventListener("click", () => step(-1));
byId("next").addEventListener("click", () => step(1));
byId("close").addEventListener("click", () => dialog.close());
byId("same").addEventListener("click", () => (location.hash = new URLSearchParams({ search: `"${open.concept}"` })));
byId("all").addEventListener("click", () => (location.hash = "#/")); // names nothing, so the page does not jump
dialog.addEventListener("close", () => {
  if (open) location.hash = `#${address() || "/"}`;
});
dialog.addEventListener("click", (event) => event.target === dialog && dialog.close());
document.addEventListener("keydown", (event) => {
  if (dialog.open && event.key === "ArrowLeft") step(-1);
  if (dialog.open && event.key === "ArrowRight") step(1);
  if (event.key === "/" && !dialog.open && event.target.tagName !== "INPUT") {
    event.preventDefault();
    byId("query").focus();
  }
});
addEventListener("hashchange", follow);
addEventListener("scroll", grow, { passive: true });
addEventListener("resize", grow);
search();
follow();
