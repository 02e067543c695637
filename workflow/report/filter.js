// Filters studies, and the rows of tables that begin with variant and ε.
const shown = (cell) => {
  const part = cell.querySelector(".quiet") ?? cell.firstChild ?? cell;
  return part.textContent.trim().replace(/, not private$/, "");
};
const armTables = [...document.querySelectorAll("#studies ~ section table")].filter((table) => {
  const heads = [...table.tHead.rows[0].cells].map((cell) => cell.textContent.trim().split(" ")[0]);
  return heads[0] === "Variant" && heads[1] === "ε";
});
const armRows = armTables.flatMap((table) => [...table.tBodies[0].rows]);
const sections = [...document.querySelectorAll('section[id^="study-"]')];
if (sections.length) {
  const bar = document.createElement("form");
  bar.className = "filter";
  bar.setAttribute("aria-label", "Filter studies");
  const told = document.createElement("output");
  const choices = {
    study: ["Study", sections.map((section) => section.id.slice("study-".length))],
    variant: ["Variant", armRows.map((row) => shown(row.cells[0]))],
    epsilon: ["ε", armRows.map((row) => shown(row.cells[1]))],
  };
  for (const [key, [text, values]] of Object.entries(choices)) {
    const label = document.createElement("label"), select = document.createElement("select");
    select.name = key;
    select.append(new Option("all", ""), ...[...new Set(values)].map((value) => new Option(value, value)));
    label.append(`${text} `, select);
    bar.append(label);
  }
  bar.append(told);
  bar.onchange = () => {
    const { study, variant, epsilon } = Object.fromEntries(new FormData(bar));
    sections.forEach((section) => (section.hidden = study && section.id !== `study-${study}`));
    armRows.forEach((row) => {
      row.hidden = (variant && shown(row.cells[0]) !== variant) || (epsilon && shown(row.cells[1]) !== epsilon);
    });
    const left = armRows.filter((row) => !row.hidden && !row.closest("section").hidden).length;
    told.value = study || variant || epsilon ? `${left} of ${armRows.length} rows of tables; figures show all` : "";
  };
  sections[0].before(bar);
}
// what a link points into is shown, whatever the filter says
const unfilter = (part) => {
  if (!part?.closest("[hidden]")) return;
  document.querySelector("form.filter").reset();
  document.querySelector("form.filter").onchange();
};
