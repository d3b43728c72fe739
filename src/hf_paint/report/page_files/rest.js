// Layers, tables and snippets.

PARTS.layers = (part, run, charts) => {
  const grid = make("div", {class: "grid"});
  part.append(grid);
  const rows = run.layers.map(layer => ({
    ...layer, tip: `${layer.name}\nrelative change ${percent(layer.relative)} %\ncosine ${plain(layer.cosine)}`,
  }));
  for (const [name, title] of [["relative", "Relative change"], ["cosine", "Cosine similarity"]]) {
    new Chart(grid, charts[name], {layers: rows}, {lines: rows.length}).set({}, `${title} of every layer; the table below holds the numbers.`);
  }
  const body = make("tbody", {}, ...run.layers.map(layer => make("tr", {}, make("th", {scope: "row", class: "text"}, layer.name),
    make("td", {}, plain(layer.norm)), make("td", {}, percent(layer.relative)), make("td", {}, plain(layer.cosine)))));
  const table = make("table", {}, headRow(["layer", "norm of the change", "relative, %", "cosine"]), body);
  part.append(make("details", {}, make("summary", {}, "The layers as a table"), table));
  return () => {};
};

PARTS.table = (part, run) => {
  const {columns, percent: shares, rows} = run.tables[Number(part.dataset.table)];
  const isText = columns.map((_, c) => rows.some(row => typeof row[c] === "string"));
  const cell = (value, c) => typeof value === "string" ? value : shares.includes(columns[c]) ? percent(value) : plain(value);
  const body = make("tbody", {}, ...rows.map(row => make("tr", {}, ...row.map((value, c) =>
    make(c ? "td" : "th", {scope: c ? undefined : "row", class: isText[c] ? "text" : undefined}, cell(value, c))))));
  const head = make("thead", {}, make("tr", {}, ...columns.map((column, c) =>
    make("th", {scope: "col", class: isText[c] ? "text" : undefined}, shares.includes(column) ? `${column}, %` : column))));
  part.append(make("table", {}, head, body));
  const label = part.parentElement.querySelector("h2, h3").textContent;
  for (const [name, value] of [["tabindex", 0], ["role", "region"], ["aria-label", label]]) part.setAttribute(name, value);
  return () => {};
};

const copy = async (code, button) => {
  try {
    await navigator.clipboard.writeText(code.textContent);
    button.textContent = "Copied";
  } catch {
    getSelection().selectAllChildren(code);
    button.textContent = "Selected: press Ctrl+C";
  }
  setTimeout(() => { button.textContent = "Copy"; }, 2000);
};

PARTS.snippets = (part, run, charts, slider) => {
  const level = part.parentElement.querySelector("h2") ? "h3" : "h4";
  const at = make("p");
  part.append(at);
  const blocks = Object.entries(run.snippets).map(([title, text]) => {
    const code = make("code"), button = make("button", {type: "button", "aria-label": `Copy: ${title}`}, "Copy");
    button.addEventListener("click", () => copy(code, button));
    part.append(make(level, {}, title), make("pre", {tabindex: 0}, code), button);
    return [code, text];
  });
  return i => {
    const point = run.points[i];
    at.textContent = `For ${slider.name(i)}.`;
    const values = {revision: point.revision, alpha: point.label, folder: point.folder ?? ""};
    for (const [code, text] of blocks) code.textContent = text.replace(/\{(revision|alpha|folder)\}/g, (_, name) => values[name]);
  };
};
