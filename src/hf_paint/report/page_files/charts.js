// Charts are drawn by Vega when they come into sight, the others when the browser is idle, and all before printing.

const CHARTS = JSON.parse(document.getElementById("charts").textContent);
const OPTIONS = {
  mode: "vega-lite", renderer: "svg", actions: false, defaultStyle: false,
  ast: true, // expressions are interpreted, because the page allows no eval
  tooltip: {disableDefaultStyle: true},
};

class Chart {
  static all = new Set();
  static byPlace = new Map();
  static observer = new IntersectionObserver(entries => entries.forEach(entry => {
    const chart = Chart.byPlace.get(entry.target);
    if (!chart) return;
    chart.inSight = entry.isIntersecting;
    if (chart.inSight) chart.show();
  }), {rootMargin: "50%"});

  // `rows` are the data sets that the specification names. Layers without a data set are left out.
  // A height in steps is that of one of the chart's `lines`.
  constructor(place, spec, rows, {caption, lines} = {}) {
    this.drawing = make("div", {"aria-hidden": "true"}); // the label of its place describes it
    this.place = make("div", {class: "plot", role: "img"}, this.drawing);
    const height = spec.height.step ? spec.height.step * lines : spec.height;
    this.place.style.minHeight = `${height}px`;
    this.spec = {...spec, height, datasets: {...rows}, layer: spec.layer.filter(layer => rows[layer.data.name])};
    this.changes = {};
    place.append(make("figure", {}, this.place, caption ? make("figcaption", {}, caption) : ""));
    Chart.all.add(this);
    Chart.byPlace.set(this.place, this);
    Chart.observer.observe(this.place);
  }

  // Numbers are signals, lists are data sets.
  set(changes, description) {
    Object.assign(this.changes, changes);
    if (description) this.place.setAttribute("aria-label", description);
    if (this.inSight) this.show();
  }

  show() {
    if (this.view) return this.flush();
    if (!this.drawn && window.vegaEmbed) {
      for (const [name, value] of Object.entries(this.changes)) {
        if (isNumber(value)) this.spec.params = [{name, value}];
        else this.spec.datasets[name] = value;
      }
      this.changes = {};
      this.drawn = window.vegaEmbed(this.drawing, this.spec, OPTIONS).then(({view}) => {
        this.view = view;
        this.flush();
      });
    }
    return this.drawn;
  }

  flush() {
    const changes = Object.entries(this.changes);
    if (!changes.length) return;
    this.changes = {};
    for (const [name, value] of changes) {
      if (isNumber(value)) this.view.signal(name, value);
      else this.view.data(name, value);
    }
    this.view.run();
  }

  remove() {
    Chart.observer.unobserve(this.place);
    Chart.all.delete(this);
    Chart.byPlace.delete(this.place);
    this.view?.finalize();
  }

  static showAll() {
    for (const chart of Chart.all) {
      if (chart.place.isConnected) chart.show();
      else chart.remove();
    }
  }

  static whenIdle() {
    const later = window.requestIdleCallback ?? (work => setTimeout(work, 50));
    later(() => {
      const next = [...Chart.all].find(chart => chart.place.isConnected && !chart.drawn);
      if (next) Promise.resolve(next.show()).then(Chart.whenIdle);
    }, {timeout: 200});
  }
}
