// Charts over all points: the trade-off, accuracy against alpha, robustness; and the runs side by side.

const tip = (slider, i, ...lines) => [slider.name(i), ...lines].join("\n");

// The points that have a name, with one label for those that are the same point.
const marked = (run, rows) => {
  const {zero_shot, chosen, fine_tuned, fine_tuned_label} = run;
  const names = new Map();
  for (const [i, name] of [[zero_shot, "zero-shot"], [chosen, "chosen"], [fine_tuned, fine_tuned_label]]) {
    if (i !== null) names.set(i, [...(names.get(i) ?? []), name]);
  }
  const xs = rows.map(row => row.x), middle = (Math.min(...xs) + Math.max(...xs)) / 2;
  return rows.filter(row => names.has(row.i))
    .map(row => ({x: row.x, y: row.y, text: names.get(row.i).join(", "), left: row.x > middle, above: row.i === chosen}));
};

const tradeOffRows = (run, tipOf) => {
  const {patching, supported} = run.means;
  return run.points.map((_, i) => ({i, x: supported[i], y: patching[i], tip: tipOf(i)}))
    .filter(row => isNumber(row.x) && isNumber(row.y));
};

const pathCaption = ensemble =>
  `Orange: the point of the slider.${ensemble ? " Dotted: averaging the outputs of both models instead of their weights." : ""}`;

PARTS.trade_off = (part, run, charts, slider) => {
  const {patching, supported} = run.means;
  const numbers = i => [`patching ${percent(patching[i])} %`, `supported ${percent(supported[i])} %`];
  const rows = tradeOffRows(run, i => tip(slider, i, ...numbers(i)));
  const ensemble = run.ensemble?.map(([x, y], i) => ({i, x, y})).filter(row => isNumber(row.x) && isNumber(row.y));
  const corner = {x: supported[run.zero_shot], y: Math.max(...rows.map(row => row.y)), text: "no trade-off"};
  corner.left = rows.some(row => row.x < corner.x);
  const chart = new Chart(part, charts.trade_off, {
    none_patching: [corner], none_supported: [corner],
    corner: [corner],
    points: rows, marks: marked(run, rows), ensemble,
  }, {caption: pathCaption(ensemble)});
  return i => chart.set({current: i}, `Patching accuracy against supported accuracy. At ${slider.name(i)}: ${numbers(i).join(", ")}.`);
};

PARTS.accuracy = (part, run, charts, slider) => {
  const grid = make("div", {class: "grid"});
  part.append(grid);
  const byAlpha = run.points.every(point => point.alpha !== null), x = i => byAlpha ? run.points[i].alpha : i;
  const updates = run.tasks.map(task => {
    const rows = task.accuracy.map((value, i) => value && {
      i, x: x(i), y: value.value, low: value.low, high: value.high,
      tip: tip(slider, i, `${percent(value.value)} %`, range(value, percent)),
    }).filter(Boolean);
    const marks = run.chosen === null ? [] : [{x: x(run.chosen), colour: "var(--soft)"}];
    const at = make("span", {class: "note"});
    const chart = new Chart(grid, charts.accuracy, {points: rows, marks}, {caption: make("span", {}, `${task.name} `, at)});
    return i => {
      const value = task.accuracy[i];
      at.textContent = value ? `${percent(value.value)} %` : "";
      chart.set({current: i}, `Accuracy on ${task.name} at every point. At ${slider.name(i)}: ${percent(value?.value)} %.`);
    };
  });
  part.append(make("p", {class: "note"},
    `${run.connected ? "Bands" : "Bars"} are 95 % intervals; the dashed line is at the chosen ${part.dataset.noun}.`));
  return i => updates.forEach(update => update(i));
};

const logit = share => {
  const inside = Math.min(Math.max(share, 0.001), 0.999);
  return Math.log(inside / (1 - inside));
};

PARTS.scatter = (part, run, charts, slider) => {
  const {x, y, baseline, effective, ensemble: outputs} = run.scatter;
  const numbers = i => [`reference ${percent(x[i])} %`, `shifted ${percent(y[i])} %`];
  const rows = run.points.map((_, i) => i).filter(i => isNumber(x[i]) && isNumber(y[i]))
    .map(i => ({i, x: logit(x[i]), y: logit(y[i]), tip: tip(slider, i, ...numbers(i))}));
  const xs = rows.map(row => row.x), ends = [Math.min(...xs), Math.max(...xs)];
  const chart = new Chart(part, charts.scatter, {
    points: rows, marks: marked(run, rows),
    baseline: baseline && ends.map(end => ({x: end, y: baseline[0] + baseline[1] * end})),
    ensemble: outputs?.map(([across, up], i) => ({i, x: across, y: up})).filter(row => isNumber(row.x) && isNumber(row.y))
      .map(row => ({...row, x: logit(row.x), y: logit(row.y)})),
  }, {caption: pathCaption(outputs)});
  const words = make("p");
  part.append(words);
  return i => {
    const above = isNumber(effective[i]) ? `effective robustness ${points(effective[i])} points` : "";
    words.textContent = `At ${slider.name(i)}: ${[...numbers(i), above].filter(Boolean).join(", ")}.`;
    chart.set({current: i}, `Accuracy under shift against reference accuracy. ${words.textContent}`);
  };
};

// The runs side by side, at their chosen points.
const COLOURS = ["blue", "orange", "green", "pink", "gold", "sky"].map(name => `var(--${name})`);

const compareRuns = runs => {
  const at = run => run.chosen ?? run.fine_tuned ?? run.zero_shot;
  const body = make("tbody", {}, ...runs.map(run => {
    const i = at(run);
    const cells = ["patching", "supported", "mean"].map(role => {
      const values = run.means[role] ?? [], known = isNumber(values[i]) && isNumber(values[run.zero_shot]);
      return make("td", {}, percent(values[i]), small(known ? points(values[i] - values[run.zero_shot]) : ""));
    });
    const name = make("th", {scope: "row", class: "text"}, run.title, small(`${pointLabel(run, i)}${i === run.chosen ? " (chosen)" : ""}, ${run.split} images`),
      small(`${run.model}, ${run.strategy}, ${run.method}`));
    return make("tr", {}, name, ...cells);
  }));
  const head = headRow(["run", "patching, %", "supported, %", "mean of both, %"]);
  const place = document.querySelector("[data-compare=table]");
  place.append(make("table", {}, head, body));
  const rows = {lines: [], points: [], marks: []};
  runs.forEach((run, r) => {
    const look = {run: r, colour: COLOURS[r % COLOURS.length]};
    const own = tradeOffRows(run, i => `${run.title}\n${run.points[i].label}`).map(row => ({...row, ...look}));
    if (run.connected) rows.lines.push(...own);
    rows.points.push(...own);
    rows.marks.push(...own.filter(row => row.i === at(run)).map(row => ({...row, text: run.title})));
  });
  if (!rows.points.length) return;
  const xs = rows.points.map(row => row.x), middle = (Math.min(...xs) + Math.max(...xs)) / 2;
  for (const row of rows.marks) row.left = row.x > middle;
  const chart = new Chart(document.querySelector("[data-compare=chart]"), CHARTS.comparison, rows,
    {caption: "Patching accuracy against supported accuracy. Circles: the chosen points."});
  chart.set({}, "Patching accuracy against supported accuracy of every run; the table above holds the chosen points.");
};
