// Compares two runs that the reader chooses: what their configurations differ in, and what came out.
const runRows = new Map([...document.querySelectorAll('tr[id^="run-"]')].map((row) => [row.id.slice("run-".length), row]));
const recipes = JSON.parse(document.getElementById("recipes")?.textContent ?? "{}");
const labels = (table) => [...table.tHead.rows[0].cells].map((cell) => cell.textContent.trim());
const told = (row, from) => {
  const names = labels(row.closest("table"));
  return [...row.cells].slice(from).map((cell, i) => [names[i + from], cell.textContent.trim()]);
};
const configuration = (id) => {
  const [recipe, network, variant, epsilon, seed] = id.split("/");
  const parts = { recipe, network, variant, "ε": epsilon.slice(3), seed: seed.slice(4) };
  const values = Object.entries(recipes[recipe] ?? {}).map(([key, value]) => [`recipe: ${key}`, value]);
  return { ...parts, ...Object.fromEntries(values) };
};
const outcome = (row) => {
  const made = document.querySelector(row.querySelector('a[href^="#made-of-"]').hash);
  return Object.fromEntries([...told(row, 1), ...told(made, 2)].filter(([name]) => name !== "Made of"));
};
const twoRuns = (first, second) => {
  const table = document.createElement("table");
  const caption = table.createCaption();
  caption.append(Object.assign(document.createElement("span"), { textContent: `${first} and ${second}` }));
  const head = table.createTHead().insertRow();
  for (const name of ["What", "First", "Second", "Second minus first"]) {
    head.append(Object.assign(document.createElement("th"), { textContent: name, scope: "col" }));
  }
  const body = table.createTBody();
  const add = (name, x, y, difference = "") => {
    const row = body.insertRow();
    row.append(Object.assign(document.createElement("th"), { textContent: name, scope: "row" }));
    for (const text of [x, y, difference]) row.insertCell().textContent = text;
  };
  const [one, other] = [configuration(first), configuration(second)];
  for (const key of new Set([...Object.keys(one), ...Object.keys(other)])) {
    if (one[key] !== other[key]) add(key, one[key] ?? "–", other[key] ?? "–");
  }
  const [mine, theirs] = [outcome(runRows.get(first)), outcome(runRows.get(second))];
  for (const key of Object.keys(mine)) {
    const [x, y] = [Number(plain(mine[key])), Number(plain(theirs[key]))];
    const number = Number.isFinite(x) && Number.isFinite(y);
    const difference = number ? `${y > x ? "+" : ""}${Number((y - x).toPrecision(4))}`.replace("-", "−") : "";
    if (number || mine[key] !== theirs[key]) add(key, mine[key], theirs[key], difference);
  }
  return table;
};
if (runRows.size > 1) {
  const [form, list, result] = ["form", "datalist", "div"].map((tag) => document.createElement(tag));
  form.className = "filter";
  form.setAttribute("aria-label", "Compare two runs");
  list.id = "run-ids";
  list.append(...[...runRows.keys()].map((id) => new Option(id)));
  for (const text of ["First run", "Second run"]) {
    const label = document.createElement("label"), input = document.createElement("input");
    input.name = text.split(" ")[0].toLowerCase();
    input.size = 36;
    input.placeholder = [...runRows.keys()][0];
    input.setAttribute("list", list.id);
    label.append(`${text} `, input);
    form.append(label);
  }
  form.append(list);
  result.className = "scroll";
  result.setAttribute("aria-live", "polite");
  form.onsubmit = (event) => event.preventDefault();
  form.oninput = () => {
    const { first, second } = Object.fromEntries(new FormData(form));
    result.replaceChildren(...(runRows.has(first) && runRows.has(second) ? [twoRuns(first, second)] : []));
  };
  const title = Object.assign(document.createElement("h3"), { textContent: "Compare two runs" });
  document.querySelector("#provenance + p").after(title, form, result);
}
