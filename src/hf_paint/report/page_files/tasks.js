// The table of tasks at the slider's point.

const ROLES = {patching: "Patching tasks", supported: "Supported tasks", transfer: "Transfer tasks", shift: "Shifted tasks"};
const MEANS = {patching: "patching, mean", supported: "supported, mean", mean: "mean of both"};
const PARTS = {};
const MANY_NAMES = 8;

const taskCells = (task, i, zeroShot) => {
  const accuracy = task.accuracy[i], gain = i === zeroShot ? null : task.gain[i], word = verdict(gain);
  const about = text => text && !task.exact[i] ? `~${text}` : text;
  return [
    make("td", {}, about(percent(accuracy?.value)), small(range(accuracy, percent))),
    make("td", {}, about(points(gain?.value)), small(range(gain, points))),
    make("td", {class: `text ${word}`}, isCertain(word) ? `certainly ${word}` : word),
  ];
};

const meanCells = (values, i, zeroShot) => {
  const known = i !== zeroShot && isNumber(values[i]) && isNumber(values[zeroShot]);
  return [make("td", {}, percent(values[i])), make("td", {}, known ? points(values[i] - values[zeroShot]) : ""), make("td")];
};

const verdicts = (tasks, i, zeroShot) => {
  if (i === zeroShot) return "This is the unpatched model.";
  const words = tasks.map(task => verdict(task.gain[i]));
  const groups = [["better", "Certainly better"], ["worse", "Certainly worse"], ["not certain", "Not certain"], ["no change", "No change"]];
  return groups.map(([word, phrase]) => {
    const names = tasks.filter((_, t) => words[t] === word).map(task => task.name);
    return names.length ? `${phrase}: ${names.length > MANY_NAMES ? `${names.length} tasks` : names.join(", ")}.` : "";
  }).filter(Boolean).join(" ");
};

// How many images a task has, and what they are where that differs between tasks.
const imagesOf = (task, run) => {
  const metric = run.tasks.some(other => other.metric !== task.metric) ? task.metric : "";
  const split = task.split === run.split ? "" : task.split;
  return [`${task.num_images}${split && ` ${split}`} ${task.num_images === 1 ? "image" : "images"}`, metric].filter(Boolean).join(", ");
};

PARTS.tasks = (part, run) => {
  const summary = make("p", {"aria-live": "polite"}), roles = Object.keys(ROLES);
  const rows = [], bodies = roles.map(role => {
    const tasks = run.tasks.filter(task => task.role === role);
    if (!tasks.length) return "";
    const head = make("tr", {}, make("th", {scope: "rowgroup", colspan: 4}, ROLES[role]));
    return make("tbody", {}, head, ...tasks.map(task => {
      const name = make("th", {scope: "row", class: "text"}, task.name, small(imagesOf(task, run)));
      const row = make("tr", {}, name);
      rows.push([row, name, i => taskCells(task, i, run.zero_shot)]);
      return row;
    }));
  });
  const foot = make("tfoot", {}, ...Object.keys(MEANS).filter(role => run.means[role]?.some(isNumber)).map(role => {
    const name = make("th", {scope: "row", class: "text"}, MEANS[role]), row = make("tr", {}, name);
    rows.push([row, name, i => meanCells(run.means[role], i, run.zero_shot)]);
    return row;
  }));
  const head = headRow(["task", "accuracy, %", "change, points", "verdict"]);
  head.querySelector("th:last-child").className = "text";
  part.append(summary, make("table", {}, head, ...bodies, foot), otherMetrics(run, rows));
  return i => {
    summary.textContent = verdicts(run.tasks, i, run.zero_shot);
    for (const [row, name, cells] of rows) row.replaceChildren(name, ...cells(i));
  };
};

// The metrics beside accuracy, at the slider's point and in brackets at zero-shot.
const otherMetrics = (run, rows) => {
  const keys = [...new Set(run.tasks.flatMap(task => Object.keys(task.metrics)))]
    .filter(key => run.tasks.some(task => task.metrics[key]?.some(isNumber)));
  if (!keys.length) return "";
  const body = make("tbody", {}, ...run.tasks.map(task => {
    const name = make("th", {scope: "row", class: "text"}, task.name), row = make("tr", {}, name);
    rows.push([row, name, i => keys.map(key => {
      const values = task.metrics[key], before = i === run.zero_shot ? "" : metricText(key, values?.[run.zero_shot]);
      return make("td", {}, metricText(key, values?.[i]), small(before && `from ${before}`));
    })]);
    return row;
  }));
  const table = make("table", {}, headRow(["task", ...keys.map(metricName)]), body);
  const wide = make("div", {class: "wide", tabindex: 0, role: "region", "aria-label": "Other metrics"}, table);
  return make("details", {}, make("summary", {}, "Other metrics"), wide);
};
