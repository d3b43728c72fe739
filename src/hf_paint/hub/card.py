"""The sections of a model card and their Markdown."""

import json
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib.metadata import version
from importlib.resources import files

from huggingface_hub import ModelCard, ModelCardData
from jinja2 import Environment, StrictUndefined, Template

from hf_paint import __version__
from hf_paint.hub.card_metadata import dataset_id
from hf_paint.hub.card_plots import CardPlot
from hf_paint.results.markdown import Markdown, address_or_text, fenced, front_matter, hub_link
from hf_paint.results.normalised import NORMALISED_CAPTION
from hf_paint.results.tables import table
from hf_paint.tasks.task import Task


TEMPLATE = files("hf_paint.hub") / "model_card_template.md"
ENVIRONMENT = Environment(finalize=Markdown.escape, undefined=StrictUndefined)
ENVIRONMENT.filters["fenced"] = fenced
"""Templates of cards: whatever they show is escaped, unless it is `Markdown`."""
LOGITS = "classifier(pixel_values) returns logits"
PAINT = """\
@inproceedings{ilharco2022patching,
  title={Patching open-vocabulary models by interpolating weights},
  author={Ilharco, Gabriel and Wortsman, Mitchell and Gadre, Samir Yitzhak and Song, Shuran and Hajishirzi, Hannaneh and Kornblith, Simon and Farhadi, Ali and Schmidt, Ludwig},
  booktitle={Advances in Neural Information Processing Systems},
  year={2022}
}"""  # noqa: E501
VERSIONED = ("torch", "transformers", "accelerate", "datasets", "huggingface_hub")


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """Code that loads the model.

    Attributes:
        model_id: Hub repository id of the model, or a placeholder if unknown.
        revision: Branch of the model; None for `main`.
        class_names: Candidate labels for the example.
        template: Prompt template for the example.
        trained_head_tasks: Names of the tasks evaluated with a trained head; empty if no head was trained.
        patch: Base and alpha of a patch; None for a complete model.
        branches: Sentence about the other branches of the repository.
        listed_task: Name of a task whose zero-shot head is built from `tasks.json`; empty if there is none.
    """

    model_id: str
    class_names: Sequence[str]
    template: str
    revision: str | None = None
    trained_head_tasks: str = ""
    patch: tuple[str, str] | None = None
    branches: str = ""
    listed_task: str = ""

    @property
    def call(self) -> str:
        """Labels and prompt of the example, as arguments of a Python call."""
        return f"candidate_labels={list(self.class_names)!r}, hypothesis_template={self.template!r}"

    @property
    def code(self) -> str:
        """Python that loads the model and uses it."""
        if self.patch is not None:
            base, alpha = self.patch
            arguments = f"{_quoted(base)}, {_quoted(self.model_id)}, alpha={alpha}"
            return f"from hf_paint import apply_patch\n\nmodel = apply_patch({arguments})"
        return (
            "from transformers import pipeline\n\n"
            f'classify = pipeline("zero-shot-image-classification", model={self.arguments})\n'
            f'classify("image.png", {self.call})'
        )

    @property
    def classifier(self) -> str:
        """Python that loads the model with the head of a task: the listed one, or that of the trained head."""
        task, logits = (f", task={_quoted(self.listed_task)}", "") if self.listed_task else ("", "; " + LOGITS)
        return (
            f"from hf_paint import load_classifier\n\nclassifier = load_classifier({self.arguments}{task})\n"
            f"classifier.classify(images)  # a class name for each PIL image{logits}"
        )

    @property
    def arguments(self) -> str:
        """Repository id and revision, as arguments of a Python call."""
        return _quoted(self.model_id) + (f", revision={_quoted(self.revision)}" if self.revision else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Accuracies, with all tables in Markdown.

    Attributes:
        caption: Sentence on the unit, split and rows of the table.
        table: Accuracy table; empty if nothing was measured.
        notes: Explanations of marks and columns in the table.
        plots: Plots of the accuracies.
        report: File name of the report beside the card, if there is one.
        gains: Table of each task before and after patching.
        intervals: Sentence on how the intervals in `gains` were computed.
        normalised: Table of normalised accuracies; empty unless the run combined models of several tasks.
        normalised_caption: Sentences on this table.
        answer_types: Table of accuracies by answer type.
    """

    caption: str
    table: str = ""
    notes: Sequence[str] = ()
    plots: Sequence[CardPlot] = ()
    report: str | None = None
    gains: str = ""
    intervals: str = ""
    normalised: str = ""
    normalised_caption: str = NORMALISED_CAPTION
    answer_types: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """Images before and after patching: a caption, and (task, caption, file name) for each plot."""

    caption: str
    plots: Sequence[tuple[str, str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Robustness:
    """Robustness of the weights under distribution shift, and of the output-space ensemble if measured."""

    caption: str
    table: str
    ensemble: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """How the model was made: a summary, the recipe as YAML, and the version of each package."""

    summary: str
    recipe: str
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A model card.

    Attributes:
        metadata: Contents of the YAML block.
        title: Title of the card.
        claim: Sentence that sums up gains and losses.
        introduction: What the model is and how it was made.
        usage: Code that loads the model.
        advice: Whether to recommend interpolation, for a model that is only fine-tuned.
        accuracy: Accuracies.
        examples: Images before and after patching.
        robustness: Robustness under distribution shift.
        selection: How alpha was chosen.
        training: How the model was made.
        tasks: Tasks, for the table of data sets and licences.
        licence: Licence of the base and its consequences.
        limits: Limitations of the model and of the measurements.
        citations: BibTeX entries in addition to PAINT's.
    """

    metadata: ModelCardData
    title: str
    introduction: str
    usage: Usage
    accuracy: Accuracy
    training: Training
    tasks: Sequence[Task]
    licence: str
    limits: Sequence[str]
    citations: Sequence[str]
    claim: str = ""
    advice: bool = False
    examples: Examples | None = None
    robustness: Robustness | None = None
    selection: str = ""

    @property
    def bibliography(self) -> str:
        """BibTeX entries, PAINT's first."""
        return "\n\n".join([PAINT, *self.citations])

    @property
    def versions(self) -> Markdown:
        """Table of package versions."""
        return table([["software", "version"], *map(list, self.training.versions.items())], text_columns=2)

    @property
    def sources(self) -> Markdown:
        """Table of data sets and licences; empty if there are no tasks."""
        rows = [[task.name, _dataset(task), task.license or "not stated"] for task in self.tasks]
        return table([["task", "data set", "licence"], *rows], text_columns=3) if rows else Markdown()

    def render(self) -> str:
        """Return the text of the card, including metadata."""
        text = _template().render(metadata=front_matter(self.metadata.to_yaml()), card=self)
        return str(ModelCard(text))


@cache
def _template() -> Template:
    """Compile the template once, for all branches of a push."""
    return ENVIRONMENT.from_string(TEMPLATE.read_text(encoding="utf-8"))


@cache
def environment() -> Mapping[str, str]:
    """Return the version of hf_paint and of each package that a run depends on."""
    versions = {package: version(package) for package in VERSIONED}
    return {"hf-paint": __version__, **versions, "python": platform.python_version()}


def citations_of(tasks: Iterable[Task]) -> list[str]:
    """Return the BibTeX entries of the tasks without duplicates."""
    return list(dict.fromkeys(task.citation.strip() for task in tasks if task.citation))


def _quoted(text: str) -> str:
    """Return text as Python and JSON write it."""
    return json.dumps(text, ensure_ascii=False)


def _dataset(task: Task) -> Markdown:
    """Return a link to the data set on the Hub, its homepage, or "local files"."""
    if on_the_hub := dataset_id(task):
        return hub_link(on_the_hub, "datasets/")
    return address_or_text(task.homepage or "local files")
