// Layers, tables and snippets.

const layerTable = layers => make("table", {}, headRow(["layer", "norm of the change", "relative, %", "cosine"]),
  make("tbody", {}, ...layers.map(layer => make("tr", {}, make("th", {scope: "row", class: "text"}, layer.name),
    make("td", {}, plain(layer.norm)), make("td", {}, percent(layer.relative)), make("td", {}, plain(layer.cosine))))));

const WHOLE = "all";

PARTS.layers = (part, run, charts) => {
  const models = [...new Set(run.layers.map(layer => layer.model))].map(name =>
    ({name, layers: run.layers.filter(layer => layer.model === name)}));
  return oneOf("Model", part, models, (place, {layers}) => {
    const whole = layers.find(layer => layer.name === WHOLE), own = layers.filter(layer => layer !== whole);
    if (whole) {
      place.append(make("p", {}, `The image tower as a whole: ${percent(whole.relative)} %, cosine ${plain(whole.cosine)}.`));
    }
    const grid = make("div", {class: "grid"});
    place.append(grid);
    const rows = own.map(layer => ({
      ...layer, tip: `${layer.name}\nrelative change ${percent(layer.relative)} %\ncosine ${plain(layer.cosine)}`,
    }));
    for (const [name, title] of [["relative", "Relative change"], ["cosine", "Cosine similarity"]]) {
      new Chart(grid, charts[name], {layers: rows}, {lines: rows.length})
        .set({}, `${title} of every layer; the table below holds the numbers.`);
    }
    place.append(make("details", {}, make("summary", {}, "The layers as a table"), layerTable(layers)));
    return () => {};
  });
};

// A table of texts and numbers, whose columns are known only by their names.
const showTable = (part, {title, columns, percent: shares, rows}) => {
  const isText = columns.map((_, c) => rows.some(row => typeof row[c] === "string"));
  const look = c => isText[c] ? "text" : undefined;
  const cell = (value, c) => typeof value === "string" ? value : shares.includes(columns[c]) ? percent(value) : plain(value);
  const body = make("tbody", {}, ...rows.map(row => make("tr", {}, ...row.map((value, c) =>
    make(c ? "td" : "th", {scope: c ? undefined : "row", class: look(c)}, cell(value, c))))));
  const head = make("thead", {}, make("tr", {}, ...columns.map((column, c) =>
    make("th", {scope: "col", class: look(c)}, shares.includes(column) ? `${column}, %` : column))));
  part.append(make("div", {class: "wide", tabindex: 0, role: "region", "aria-label": title}, make("table", {}, head, body)));
};

PARTS.table = (part, run) => {
  showTable(part, run.tables[Number(part.dataset.table)]);
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
  const at = make("p", {"aria-live": "polite"});
  part.append(at);
  const blocks = run.snippets.map(snippet => {
    const code = make("code"), button = make("button", {type: "button", "aria-label": `Copy: ${snippet.title}`}, "Copy");
    button.addEventListener("click", () => copy(code, button));
    const only = make("p", {class: "note"}, `Move the slider to ${snippet.points.length === run.points.length - 1
      ? `any other ${part.dataset.noun}` : snippet.points.map(i => pointLabel(run, i)).join(" or ")}.`);
    const block = make("div", {}, make("pre", {tabindex: 0, "aria-label": snippet.title}, code), button);
    part.append(make(levelBelow(part), {}, ...withCode(snippet.title)), block, only);
    return {snippet, code, block, only};
  });
  return i => {
    const {revision, label, coefficients} = run.points[i];
    at.textContent = `This is for ${slider.name(i)}.`;
    const values = {revision, alpha: coefficients ? JSON.stringify(coefficients) : label, brace: "{"};
    for (const {snippet, code, block, only} of blocks) {
      code.textContent = snippet.code.replace(/\{(revision|alpha|brace)\}/g, (_, name) => values[name]);
      block.hidden = !snippet.points.includes(i);
      only.hidden = !block.hidden;
    }
  };
};
