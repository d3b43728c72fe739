"""Code that loads the model at a point of a run."""

import json
import shlex
from collections.abc import Iterator, Sequence

from hf_paint.report.contents import Snippet
from hf_paint.report.reading import Recorded


MOST_NAMES = 3


def snippets_of(recorded: Recorded) -> list[Snippet]:
    """Return the code for each way to load a model of a run that is possible at some point."""
    return [snippet for snippet in _snippets(recorded) if snippet["points"]]


def _snippets(recorded: Recorded) -> Iterator[Snippet]:
    run, folder = recorded.run, _literal(recorded.files.path.name)
    everywhere, chosen = list(range(len(recorded.points))), recorded.chosen
    branches = [i for i, branch in enumerate(recorded.branches) if branch]
    steps = run.strategy == "sequential"
    if chosen is not None:
        yield _python(recorded, "The patched model of this run", f"{folder}/patched", points=[chosen])
    if steps:
        yield _python(recorded, "The model after this step", f"{folder}/{{revision}}/patched", points=branches)
    elif recorded.facts:
        alpha = "'{alpha}'" if recorded.is_search else "{alpha}"
        command = f"hf-paint select {shlex.quote(folder)} --alpha {alpha}"
        title = f"Choose this point instead, and write it to {folder}/patched"
        yield Snippet(title=title, language="bash", code=command, points=[i for i in everywhere if i != chosen])
    if recorded.facts:
        title = "From the Hub, once the run is pushed"
        yield _python(recorded, title, "me/my-model", points=branches, revision=True)


def _python(recorded: Recorded, title: str, model: str, *, points: list[int], revision: bool = False) -> Snippet:
    """Return Python that loads a model: a pipeline or, for a trained head, a classifier."""
    run = recorded.run
    arguments = _quoted(model) + (', revision="{revision}"' if revision else "")
    if run.recipe.get("train_head"):
        code = (
            "from hf_paint import load_classifier\n\n"
            f"classifier = load_classifier({arguments})\n"
            "classifier.classify(images)  # a class name for each PIL image"
        )
    else:
        task = run.curve.tasks.get("patching", [""])[0]
        names = _literal(_quoted([*recorded.class_names.get(task, ["a cat", "a dog"])][:MOST_NAMES]))
        template = _literal(_quoted(recorded.templates.get(task, ["a photo of a {}."])[0]))
        code = (
            "from transformers import pipeline\n\n"
            f'classify = pipeline("zero-shot-image-classification", model={arguments})\n'
            f'classify("image.png", candidate_labels={names}, hypothesis_template={template})'
        )
    return Snippet(title=title, language="python", code=code, points=points)


def _literal(text: str) -> str:
    """Return text in which the page fills in nothing: it takes `{alpha}` and `{revision}` for the point shown."""
    return text.replace("{", "{brace}")


def _quoted(value: str | Sequence[str]) -> str:
    """Return a text or a list of texts as Python writes them, also if they contain quotes."""
    return json.dumps(value, ensure_ascii=False)
