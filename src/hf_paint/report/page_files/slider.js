// The slider of a run. It goes over the measured points in order, and tells everything that follows it.

const pointLabel = (run, i) => run.points[i].alpha === null ? run.points[i].label : `alpha ${run.points[i].label}`;

class Slider {
  constructor(root, run) {
    this.run = run;
    this.followers = [];
    this.input = root.querySelector("input[type=range]");
    this.output = root.querySelector("output");
    this.at = root.querySelector(".at");
    this.start = run.chosen ?? run.fine_tuned ?? run.zero_shot;
    this.input.value = this.start;
    this.input.list.append(...run.points.map((point, i) => make("option", {value: i, label: point.label})));
    this.buttons = [["zero-shot", run.zero_shot], ["chosen", run.chosen], [run.fine_tuned_label, run.fine_tuned]]
      .filter(([, i]) => i !== null)
      .map(([name, i]) => [i, make("button", {type: "button", click: () => this.go(i)}, name)]);
    root.querySelector(".places").append(...this.buttons.map(([, button]) => button));
    this.input.addEventListener("input", () => this.go(Number(this.input.value)));
    this.go(this.start);
  }

  get current() { return Number(this.input.value); }

  // What a point is called in a sentence: "alpha 0.30 (chosen)".
  name(i) {
    const {zero_shot, chosen, fine_tuned, fine_tuned_label} = this.run;
    const names = [i === zero_shot && "zero-shot", i === chosen && "chosen", i === fine_tuned && fine_tuned_label];
    const said = names.filter(Boolean).join(", ");
    return pointLabel(this.run, i) + (said && ` (${said})`);
  }

  go(i) {
    this.input.value = i;
    this.input.setAttribute("aria-valuetext", this.name(i));
    for (const [position, button] of this.buttons) button.setAttribute("aria-pressed", String(position === i));
    this.output.replaceChildren(make("b", {}, this.name(i)), this.summary(i));
    const hint = i === this.run.zero_shot ? " This is the unpatched model; move the slider to see what patching changes." : "";
    this.at.textContent = `The numbers and charts below are at ${this.name(i)}.${hint}`;
    for (const follow of this.followers) follow(i);
  }

  summary(i) {
    const means = ["patching", "supported", "mean"].filter(role => isNumber(this.run.means[role]?.[i]));
    const words = means.map(role => `${role === "mean" ? "mean of both" : role} ${percent(this.run.means[role][i])} %`);
    return words.length ? `: ${words.join(", ")}` : "";
  }

  follow(update) {
    this.followers.push(update);
    update(this.current);
  }
}
