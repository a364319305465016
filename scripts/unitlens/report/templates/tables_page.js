"use strict";
const tables = [...document.querySelectorAll("table")].map((table) => ({
  body: table.tBodies[0],
  rows: [...table.tBodies[0].rows],
  heads: [...table.tHead.rows[0].cells],
  count: table.closest("section").querySelector("output"),
}));
const order = new Intl.Collator("en", { numeric: true });

function sort(table, column) {
  const head = table.heads[column];
  const down = head.getAttribute("aria-sort") === "ascending";
  for (const each of table.heads) each.removeAttribute("aria-sort");
  head.setAttribute("aria-sort", down ? "descending" : "ascending");
  const keyed = table.rows.map((row) => [row, row.cells[column].textContent]);
  const numbers = keyed.every(([, text]) => text === "" || /^[-+]?(\d+\.?\d*(e[-+]?\d+)?|inf)$/.test(text));
  const value = (text) => Number(text.replace("inf", "Infinity"));
  const sign = down ? -1 : 1;
  keyed.sort(([, a], [, b]) => {
    if (a === "" || b === "") return (a === "") - (b === "");  // what is missing comes last in both orders
    return sign * (numbers ? value(a) - value(b) || 0 : order.compare(a, b));
  });
  table.body.append(...keyed.map(([row]) => row));
}

function filter(query) {
  const words = query.toLowerCase().split(/\s+/).filter(Boolean);
  for (const table of tables) {
    let shown = 0;
    for (const row of table.rows) {
      const text = row.textContent.toLowerCase();
      row.hidden = !words.every((word) => text.includes(word));
      shown += !row.hidden;
    }
    const all = Number(table.count.dataset.all);
    const rows = `${all.toLocaleString("en")} ${all === 1 ? "row" : "rows"}`;
    table.count.textContent = words.length ? `${shown.toLocaleString("en")} of ${rows}` : rows;
  }
}

for (const table of tables) {
  table.heads.forEach((head, column) => head.firstChild.addEventListener("click", () => sort(table, column)));
}
document.querySelector("#query").addEventListener("input", (event) => filter(event.target.value));
document.querySelector("form").addEventListener("submit", (event) => event.preventDefault());
