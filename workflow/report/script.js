// Sorts tables by a click on a heading, and opens what a link points into.
const value = (row, i) => row.cells[i].textContent.trim().replace("−", "-").replace("∞", "Infinity").replaceAll(",", "");
document.querySelectorAll("table.sortable").forEach((table) => {
  table.querySelectorAll("thead th").forEach((head, i) => {
    const button = document.createElement("button");
    button.append(...head.childNodes);
    head.append(button);
    button.onclick = () => {
      const down = head.getAttribute("aria-sort") === "ascending";
      table.querySelectorAll("th").forEach((other) => other.removeAttribute("aria-sort"));
      head.setAttribute("aria-sort", down ? "descending" : "ascending");
      const order = (a, b) => {
        const [x, y] = [value(a, i), value(b, i)], [p, q] = [parseFloat(x), parseFloat(y)];
        return isNaN(p) && isNaN(q) ? x.localeCompare(y) : isNaN(p) - isNaN(q) || p - q || 0;
      };
      const rows = [...table.tBodies[0].rows].sort(order);
      table.tBodies[0].append(...(down ? rows.reverse() : rows));
    };
  });
});
const follow = () => { const part = document.querySelector(location.hash || "details[open]"); if (part) part.open = true; };
addEventListener("hashchange", follow);
follow();
