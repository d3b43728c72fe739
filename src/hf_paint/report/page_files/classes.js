// Changes by class, confusion and calibration.

const FEW = 15, MANY = 300;
const shareOf = (perClass, i, c) => {
  const correct = perClass.correct[i];
  return correct && perClass.total[c] ? correct[c] / perClass.total[c] : null;
};
const changeOf = (perClass, from, i, c) => {
  const before = shareOf(perClass, from, c), now = shareOf(perClass, i, c);
  return before === null || now === null ? null : now - before;
};

const CLASS_COLUMNS = [
  ["class", row => row.name], ["images", row => row.images], ["zero-shot, %", row => row.before],
  ["now, %", row => row.now], ["change, points", row => row.change],
];
// Sorts texts by the alphabet and numbers by size; what was not measured comes last in both directions.
const compare = (a, b, sign) => {
  if (a === null || b === null) return (a === null) - (b === null);
  return sign * (typeof a === "string" ? a.localeCompare(b) : a - b);
};

class ClassTable {
  constructor(place, perClass, from) {
    Object.assign(this, {perClass, from, column: 4, sign: 1, shown: FEW, wanted: "", i: from});
    this.heads = CLASS_COLUMNS.map(([name], column) => make("th", {scope: "col", "aria-sort": "none"},
      make("button", {type: "button", click: () => this.sortBy(column)}, name)));
    this.body = make("tbody");
    this.note = make("p", {class: "note", "aria-live": "polite"});
    this.more = make("button", {type: "button", click: () => { this.shown = MANY; this.draw(); }}, "Show more classes");
    const search = make("input", {type: "search", input: () => { this.wanted = search.value.toLowerCase(); this.draw(); }});
    const field = perClass.classes.length > FEW ? make("div", {class: "choose"}, make("label", {}, "Find a class", search)) : "";
    const table = make("table", {}, make("thead", {}, make("tr", {}, ...this.heads)), this.body);
    place.append(field, table, this.note, this.more);
  }

  sortBy(column) {
    this.sign = column === this.column ? -this.sign : 1;
    this.column = column;
    this.draw();
  }

  rows() {
    const {perClass, from, i} = this;
    return perClass.classes.map((name, c) => ({
      name, images: perClass.total[c], before: shareOf(perClass, from, c), now: shareOf(perClass, i, c),
      change: changeOf(perClass, from, i, c),
    })).filter(row => row.images && row.name.toLowerCase().includes(this.wanted));
  }

  draw() {
    const [, key] = CLASS_COLUMNS[this.column], rows = this.rows();
    rows.sort((a, b) => compare(key(a), key(b), this.sign) || compare(a.change, b.change, 1));
    this.heads.forEach((head, column) => head.setAttribute("aria-sort",
      column === this.column ? (this.sign > 0 ? "ascending" : "descending") : "none"));
    const shown = rows.slice(0, this.shown);
    this.body.replaceChildren(...shown.map(row => make("tr", {},
      make("th", {scope: "row", class: "text"}, row.name), make("td", {}, String(row.images)),
      make("td", {}, percent(row.before)), make("td", {}, percent(row.now)), make("td", {}, points(row.change)))));
    this.note.textContent = shown.length < rows.length ? `${shown.length} of ${count(rows.length, "class", "classes")}.` : "";
    this.more.hidden = shown.length === rows.length || this.shown === MANY;
  }
}

PARTS.classes = (part, run) => oneTask(part, run.tasks.filter(task => task.per_class), (place, task) => {
  const words = make("p"), {per_class: perClass} = task;
  place.append(words);
  const table = new ClassTable(place, perClass, run.zero_shot);
  return i => {
    const changes = perClass.classes.map((_, c) => changeOf(perClass, run.zero_shot, i, c)).filter(isNumber);
    const worse = changes.filter(change => change < 0).length, better = changes.filter(change => change > 0).length;
    words.textContent = i === run.zero_shot ? "This is the unpatched model."
      : `${count(worse, "class", "classes")} got worse and ${better} better, of ${changes.length}.`;
    table.i = i;
    table.draw();
  };
});

// The classes that changed most between zero-shot and the chosen point, among those whose mistakes are known.
const changedMost = (run, perClass, most = 8) => {
  const end = run.chosen !== null && run.chosen !== run.zero_shot ? run.chosen : run.fine_tuned ?? run.points.length - 1;
  const known = new Set(perClass.confusion.flatMap(cells => cells ?? []).map(([label]) => label));
  return [...known].map(c => [c, Math.abs(changeOf(perClass, run.zero_shot, end, c) ?? 0)])
    .sort((a, b) => b[1] - a[1]).slice(0, most).map(([c]) => c);
};

const OTHER = "other", SHORT_NAME = 3, LONG_LINE = 26;
// What a class is called on an axis, where two of the same name would be one.
const onAxis = (names, c) => {
  const alike = names.indexOf(names[c]) !== names.lastIndexOf(names[c]) || names[c] === OTHER;
  return alike ? `${names[c]} (${c})` : names[c];
};
// Breaks a long name at the space next to its middle.
const twoLines = name => {
  if (name.length <= LONG_LINE) return name;
  const spaces = [...name.matchAll(/ /g)].map(({index}) => index), middle = name.length / 2;
  const at = spaces.sort((a, b) => Math.abs(a - middle) - Math.abs(b - middle))[0];
  return at ? `${name.slice(0, at)}\n${name.slice(at + 1)}` : name;
};
// Columns are too narrow for names, so long ones get letters, which their rows show too.
const confusionNames = (names, classes) => {
  const lettered = classes.some(c => names[c].length > SHORT_NAME);
  const columns = classes.map((c, n) => lettered ? String.fromCharCode(65 + n) : names[c]);
  return new Map(classes.map((c, n) => [c, {column: columns[n], row: lettered ? twoLines(`${columns[n]}  ${names[c]}`) : names[c]}]));
};
const confusionRows = (perClass, classes, i) => {
  const correct = perClass.correct[i], mistakes = perClass.confusion[i];
  if (!correct || !mistakes) return [];
  const names = Object.fromEntries(classes.map(c => [c, onAxis(perClass.classes, c)])), shown = confusionNames(names, classes);
  return classes.flatMap(label => {
    const total = perClass.total[label] || 1, counts = new Map(classes.map(c => [c, 0]));
    counts.set(label, correct[label]);
    for (const [right, predicted, images] of mistakes) {
      if (right === label && counts.has(predicted)) counts.set(predicted, images);
    }
    const listed = [...counts.values()].reduce((sum, images) => sum + images, 0);
    counts.set(null, Math.max(0, total - listed));
    return [...counts].map(([c, images]) => {
      const predicted = c === null ? OTHER : names[c], share = images / total;
      const said = `${names[label]}\npredicted: ${predicted}\n${count(images, "image")} of ${total}, ${percent(share)} %`;
      return {label: shown.get(label).row, predicted: shown.get(c)?.column ?? OTHER, images: images || "", share, tip: said};
    });
  });
};

PARTS.confusion = (part, run, charts, slider) => {
  const tasks = run.tasks.filter(task => task.per_class?.confusion.some(cells => cells?.length));
  return tasks.length ? oneTask(part, tasks, (place, task) => {
    const {per_class: perClass} = task, classes = changedMost(run, perClass);
    const chart = new Chart(place, charts.confusion, {cells: confusionRows(perClass, classes, run.zero_shot)}, {lines: classes.length});
    const mistakes = make("p");
    place.append(mistakes);
    return i => {
      const largest = [...(perClass.confusion[i] ?? [])].sort((a, b) => b[2] - a[2]).slice(0, 3);
      const words = largest.map(([label, predicted, images]) =>
        `“${perClass.classes[label]}” taken for “${perClass.classes[predicted]}” (${count(images, "image")})`);
      mistakes.textContent = words.length ? `The most frequent mistakes at ${slider.name(i)}: ${words.join(", ")}.` : "";
      chart.set({cells: confusionRows(perClass, classes, i)}, `Confusion of the classes that changed most. ${mistakes.textContent}`);
    };
  }) : () => {};
};

const bins = (rows, most) => (rows ?? []).filter(([images]) => images)
  .map(([images, x, y]) => ({share: images / most, x, y, tip: `${count(images, "image")}\nconfidence ${percent(x)} %\naccuracy ${percent(y)} %`}));

PARTS.calibration = (part, run, charts, slider) => oneTask(part, run.tasks.filter(task => task.calibration), (place, task) => {
  const before = task.calibration[run.zero_shot], ece = i => task.metrics.ece?.[i];
  const most = Math.max(1, ...task.calibration.flatMap(rows => (rows ?? []).map(([images]) => images)));
  const words = make("p");
  place.append(words);
  place.className = "square";
  const chart = new Chart(place, charts.calibration, {
    diagonal: [{x: 0, y: 0}, {x: 1, y: 1}], before: bins(before, most), now: bins(before, most),
  }, {caption: "Hollow: zero-shot. Filled: the point of the slider."});
  return i => {
    const from = i !== run.zero_shot && isNumber(ece(run.zero_shot)) ? `, from ${percent(ece(run.zero_shot))} % at zero-shot` : "";
    words.textContent = isNumber(ece(i)) ? `ECE ${percent(ece(i))} % at ${slider.name(i)}${from}.` : "";
    chart.set({now: bins(task.calibration[i], most)}, `Reliability diagram. ${words.textContent}`);
  };
});
