"use strict";
// Everything from the model or a question file reaches the page as text (textContent), never as markup.
const data = JSON.parse(document.getElementById("data").textContent);
const byId = (id) => document.getElementById(id);
const PAGE = 100;
let start = 0;

function make(tag, text, parent, name = "") {
  const node = document.createElement(tag);
  node.textContent = text;
  if (name) node.className = name;
  parent.appendChild(node);
  return node;
}
const mark = (right) => (right === null ? "" : right ? "✓ " : "✗ ");
const words = (row) => [row.number, row.scene, row.label, row.unpruned, row.pruned, row.flip || ""].join("\n").toLowerCase();
for (const row of data.rows) row.words = words(row);
for (const type of [...new Set(data.rows.map((row) => row.type))]) make("option", type, byId("type"));

function fits(row) {
  const search = byId("search").value.trim().toLowerCase(), kind = byId("kind").value, right = byId("right").value, type = byId("type").value;
  if (search && !(/^\d+$/.test(search) ? String(row.number) === search || row.words.includes(search) : row.words.includes(search))) return false;
  return (!kind || row.kind === kind) && (!type || row.type === type) && (!right || row.right[1] === (right === "right"));
}
function show() {
  const found = data.rows.filter(fits), body = byId("rows");
  start = Math.min(start, Math.max(0, found.length - 1));
  start -= start % PAGE;
  body.replaceChildren();
  for (const row of found.slice(start, start + PAGE)) {
    const line = document.createElement("tr");
    const head = make("th", "", line);
    head.scope = "row";
    if (row.frame !== null && data.replay !== null) make("a", String(row.number), head).href = `${data.replay}#frame=${row.frame}`;
    else head.textContent = String(row.number);
    make("td", row.flip || (row.kind === "same" ? "" : "other words"), line, `words ${row.kind}`);
    make("td", row.label || "(none)", line, "words");
    make("td", mark(row.right[0]) + row.unpruned, line, "words");
    make("td", mark(row.right[1]) + row.pruned, line, "words");
    make("td", row.scene, line, "words");
    make("td", row.type, line, "words");
    body.appendChild(line);
  }
  const last = Math.min(start + PAGE, found.length);
  byId("count").textContent = found.length ? `${start + 1} to ${last} of ${found.length} (${data.rows.length} in all)` : `none of ${data.rows.length}`;
  byId("before").disabled = start === 0;
  byId("after").disabled = last === found.length;
}
const again = () => { start = 0; show(); };
byId("search").addEventListener("input", again);
for (const id of ["kind", "right", "type"]) byId(id).addEventListener("change", again);
byId("filters").addEventListener("submit", (event) => event.preventDefault());
byId("before").addEventListener("click", () => { start -= PAGE; show(); });
byId("after").addEventListener("click", () => { start += PAGE; show(); });
show();
document.documentElement.dataset.ready = "true";
