// Sorts tables by value, copies numbers as numbers, saves tables and figures, opens what a link points into.
const plain = (text) => text.trim().replaceAll("−", "-").replaceAll("∞", "Infinity").replace(/(\d),(?=\d{3})/g, "$1");
const value = (row, i) => plain(row.cells[i].textContent).replace(/^[[+]+/, "");
const known = (text) => text !== "" && text !== "–";
const compare = (i, sign) => (one, other) => {
  const [x, y] = [value(one, i), value(other, i)];
  if (!known(x) || !known(y)) return known(y) - known(x); // what was not measured is last, whichever way
  const [p, q] = [parseFloat(x), parseFloat(y)];
  return sign * (isNaN(p) || isNaN(q) ? x.localeCompare(y, undefined, { numeric: true }) : p - q);
};
const NEXT = { ascending: "descending", descending: null };
document.querySelectorAll("table.sortable").forEach((table) => {
  const body = table.tBodies[0], original = [...body.rows];
  table.querySelectorAll("thead th").forEach((head, i) => {
    const button = document.createElement("button");
    button.type = "button";
    button.title = "Sort: up, down, as it was";
    button.append(...head.childNodes);
    head.append(button);
    button.onclick = () => {
      const way = head.ariaSort in NEXT ? NEXT[head.ariaSort] : "ascending";
      table.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
      if (way) head.ariaSort = way;
      table.classList.toggle("sorted", Boolean(way)); // lines between groups mean nothing then
      body.append(...(way ? original.toSorted(compare(i, way === "ascending" ? 1 : -1)) : original));
    };
  });
});

document.addEventListener("copy", (event) => {
  event.clipboardData.setData("text/plain", getSelection().toString().replaceAll("−", "-"));
  event.preventDefault();
});

const save = (name, type, text) => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  URL.revokeObjectURL(link.href);
};
const cells = (row) => [...row.cells].map((cell) => {
  const copy = cell.cloneNode(true);
  copy.querySelectorAll(".link").forEach((link) => link.remove());
  copy.querySelectorAll("br").forEach((line) => line.replaceWith(" "));
  const text = plain(copy.textContent).replace(/\s+/g, " ");
  return known(text) ? text : "";
});
const quoted = (text) => (/[",\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);
const csv = (table) => [...table.rows].map((row) => cells(row).map(quoted).join(",") + "\n").join("");
const json = (table) => {
  const [head, ...rows] = [...table.rows].map(cells);
  return JSON.stringify(rows.map((row) => Object.fromEntries(row.map((cell, i) => [head[i] ?? i, cell]))), null, 1);
};
const offer = (place, name, kinds) => {
  const line = document.createElement("span");
  line.className = "save";
  for (const [kind, type, text] of kinds) {
    const button = document.createElement("button");
    button.type = "button";
    button.textContent = kind;
    button.setAttribute("aria-label", `Save ${name} as ${kind}`);
    button.onclick = () => save(`${name.replace(/[^\w.=-]+/g, "-")}.${kind.toLowerCase()}`, type, text());
    line.append(button);
  }
  place.append(line);
};
document.querySelectorAll("table").forEach((table) => {
  if (table.caption) {
    const name = table.caption.textContent.trim();
    const kinds = [["CSV", "text/csv", () => csv(table)], ["JSON", "application/json", () => json(table)]];
    offer(table.caption.firstElementChild, name, kinds);
  }
});
document.querySelectorAll("figure svg").forEach((svg) => {
  const text = () => {
    const copy = svg.cloneNode(true);
    copy.setAttribute("color", "black"); // of currentColor, where no page gives one
    return new XMLSerializer().serializeToString(copy);
  };
  offer(svg.closest("figure").querySelector("figcaption"), svg.id, [["SVG", "image/svg+xml", text]]);
});

// only what scrolls is a tab stop
const tabStops = () => document.querySelectorAll(".scroll, pre").forEach((box) => {
  const scrolls = box.scrollWidth > box.clientWidth + 1;
  const name = box.querySelector("caption, title")?.firstChild.textContent.trim() ?? "Text";
  const told = { tabindex: "0", role: "region", "aria-label": name };
  for (const [key, value] of Object.entries(told)) scrolls ? box.setAttribute(key, value) : box.removeAttribute(key);
});
addEventListener("resize", tabStops);
document.addEventListener("toggle", tabStops, true);
tabStops();

const follow = () => {
  const part = document.getElementById(location.hash.slice(1));
  for (let fold = part?.closest("details"); fold; fold = fold.parentElement.closest("details")) fold.open = true;
  unfilter(part);
  part?.scrollIntoView();
};
addEventListener("hashchange", follow);
if (location.hash) follow();

// paper has no folds: all are printed, and folded again
let folded = [];
addEventListener("beforeprint", () => {
  folded = [...document.querySelectorAll("details:not([open])")].filter((fold) => !fold.classList.contains("long"));
  folded.forEach((fold) => (fold.open = true));
});
addEventListener("afterprint", () => folded.forEach((fold) => (fold.open = false)));
