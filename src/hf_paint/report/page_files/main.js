// Numbers first, then what is packed, then the charts.

const REPORT = JSON.parse(document.getElementById("numbers").textContent);

const unpack = async id => {
  const bytes = Uint8Array.from(atob(document.getElementById(id).textContent), character => character.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("gzip"));
  return new Response(stream).text();
};

// Counts by class are differences from the measured point before.
const addUp = correct => {
  let before = null;
  return correct.map(steps => {
    if (steps) before = before ? steps.map((step, c) => before[c] + step) : steps;
    return steps && before;
  });
};

const runs = REPORT.runs.map((run, r) => {
  const root = document.querySelector(`[data-run="${r}"]`), slider = new Slider(root, run);
  for (const part of root.querySelectorAll("[data-part]")) {
    slider.follow(PARTS[part.dataset.part](part, run, CHARTS.runs[r], slider));
  }
  return {run, root, slider, charts: CHARTS.runs[r]};
});
if (runs.length > 1) compareRuns(REPORT.runs);
document.querySelectorAll("[data-compared]").forEach((part, t) => showTable(part, REPORT.tables[t]));

const showLate = packed => runs.forEach(({run, root, slider, charts}, r) => {
  run.tasks.forEach((task, t) => {
    Object.assign(task, packed[r][t]);
    if (task.per_class) task.per_class.correct = addUp(task.per_class.correct);
  });
  for (const part of root.querySelectorAll("[data-late]")) {
    slider.follow(PARTS[part.dataset.late](part, run, charts, slider));
  }
});
const sayTooOld = () => document.querySelectorAll("[data-late], .plot").forEach(part =>
  part.append("This browser cannot unpack these numbers. A newer one can."));

document.querySelector("nav").append(...[...document.querySelectorAll("main h2")].map(heading =>
  make("a", {href: `#${heading.id}`}, heading.textContent)));

// A printed page shows the chosen point and everything that is folded.
let printing = null;
const beforePrint = () => {
  if (printing) return;
  const closed = [...document.querySelectorAll("details:not([open])")];
  printing = {closed, places: runs.map(({slider}) => slider.current)};
  closed.forEach(element => { element.open = true; });
  runs.forEach(({slider}) => slider.go(slider.start));
  Chart.showAll();
};
const afterPrint = () => {
  printing?.closed.forEach(element => { element.open = false; });
  runs.forEach(({slider}, r) => printing && slider.go(printing.places[r]));
  printing = null;
};
addEventListener("beforeprint", beforePrint);
addEventListener("afterprint", afterPrint);
matchMedia("print").addEventListener("change", event => event.matches ? beforePrint() : afterPrint());

// The first screen is painted before anything is unpacked. The page allows the script of Vega by its digest.
const showAll = async () => {
  document.head.append(make("script", {}, await unpack("vega")));
  for (const chart of Chart.all) if (chart.inSight) chart.show();
  showLate(JSON.parse(await unpack("packed")));
  Chart.whenIdle();
};
requestAnimationFrame(() => setTimeout("DecompressionStream" in window ? showAll : sayTooOld));
