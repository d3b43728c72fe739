// Pictures whose answer changed: right now and wrong before, or the other way round.

const answerList = answers => make("ol", {}, ...(answers ?? []).map(([candidate, probability], rank) =>
  make("li", {}, rank ? candidate : make("strong", {}, candidate), ` ${percent(probability)} %`)));

class Picture {
  constructor(picture, task, run) {
    Object.assign(this, {picture, run});
    const name = `${task.name}, picture ${picture.index}`;
    const image = make("img", {alt: `${name}, labelled ${picture.labels.join(" or ")}`, loading: "lazy", decoding: "async"});
    if (picture.src.startsWith("data:image/")) image.src = picture.src;
    this.when = make("dt");
    this.now = make("dd");
    const said = (term, text) => text ? [make("div", {}, make("dt", {}, term), make("dd", {}, text))] : [];
    this.figure = make("figure", {class: "picture"}, image, make("figcaption", {}, make("dl", {},
      ...said("question", picture.question), ...said("written on it", picture.written),
      ...said("right answer", picture.labels.join(" or ")),
      make("div", {}, make("dt", {}, "zero-shot"), make("dd", {}, answerList(picture.answers[run.zero_shot]))),
      make("div", {}, this.when, this.now))));
  }

  // Whether the answer became right (1), wrong (-1) or neither (0).
  change(i) {
    const before = this.picture.correct[this.run.zero_shot], now = this.picture.correct[i];
    return before === null || now === null ? 0 : now - before;
  }

  show(i) {
    this.when.textContent = pointLabel(this.run, i);
    this.now.replaceChildren(answerList(this.picture.answers[i]));
  }
}

PARTS.pictures = (part, run) => oneTask(part, run.tasks.filter(task => task.pictures.length), (place, task) => {
  const pictures = task.pictures.map(picture => new Picture(picture, task, run));
  const groups = [[1, "Now right"], [-1, "Now wrong"]].map(([change, title]) => {
    const heading = make(levelBelow(part)), grid = make("div", {class: "grid"});
    place.append(heading, grid);
    return {change, title, heading, grid};
  });
  place.prepend(make("p", {class: "note"}, ...withCode(task.pictures_note)));
  return i => {
    const changes = pictures.map(picture => picture.change(i));
    for (const {change, title, heading, grid} of groups) {
      const own = pictures.filter((_, p) => changes[p] === change);
      own.forEach(picture => picture.show(i));
      heading.textContent = `${title}: ${count(own.length, "picture")}`;
      grid.replaceChildren(...own.map(picture => picture.figure));
    }
  };
});
