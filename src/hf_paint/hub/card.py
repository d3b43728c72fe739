"""The sections of a model card, and their Markdown."""

import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from importlib.resources import files

from huggingface_hub import ModelCard, ModelCardData

from hf_paint.hub.card_metadata import dataset_id
from hf_paint.results.tables import markdown
from hf_paint.tasks.task import Task


TEMPLATE = files("hf_paint.hub") / "model_card_template.md"
VERSIONED = ("hf-paint", "torch", "transformers", "accelerate", "datasets", "huggingface_hub")


@dataclass(frozen=True, slots=True, kw_only=True)
class Usage:
    """The code that loads the model.

    Attributes:
        model_id: The id of the model on the Hub; a placeholder if it is unknown.
        revision: The branch of the model; None for `main`.
        class_names: The candidate labels of an example.
        template: The prompt template of the example.
        trained_head_tasks: The tasks that were evaluated with a trained head; empty without one.
        patch: The base and the alpha of a patch; None for a complete model.
        branches: The sentence on the other branches of the repository.
    """

    model_id: str
    class_names: Sequence[str]
    template: str
    revision: str | None = None
    trained_head_tasks: str = ""
    patch: tuple[str, str] | None = None
    branches: str = ""

    @property
    def call(self) -> str:
        """The labels and the prompt of the example, as arguments of a Python call."""
        return f"candidate_labels={list(self.class_names)!r}, hypothesis_template={self.template!r}"

    @property
    def arguments(self) -> str:
        """The id and the revision, as arguments of a Python call."""
        return f'"{self.model_id}"' + (f', revision="{self.revision}"' if self.revision else "")


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """The accuracies; all tables are Markdown.

    Attributes:
        caption: The unit, the split and the rows of the table.
        table: The table; empty if nothing was measured.
        notes: How to read the marks and columns of the table.
        plot: The file of the trade-off plot.
        gains: Each task before and after patching.
        intervals: How the intervals in `gains` were computed.
        answer_types: The accuracies by type of answer.
    """

    caption: str
    table: str = ""
    notes: Sequence[str] = ()
    plot: str | None = None
    gains: str = ""
    intervals: str = ""
    answer_types: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Examples:
    """Images before and after patching: a caption, and (task, caption, file) of each plot."""

    caption: str
    plots: Sequence[tuple[str, str, str]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Robustness:
    """Robustness under distribution shift of the weights, and of the output-space ensemble if it was measured."""

    caption: str
    table: str
    ensemble: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Training:
    """How the model was made: a sentence, the recipe as YAML, and package -> version."""

    summary: str
    recipe: str
    versions: Mapping[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Card:
    """A model card.

    Attributes:
        metadata: The YAML block.
        title: The title.
        claim: The one sentence on gains and costs.
        introduction: What the model is and how it was made.
        usage: The code that loads it.
        advice: Whether to advise interpolation, for a model that is only fine-tuned.
        accuracy: The accuracies.
        examples: Images before and after patching.
        robustness: The robustness under distribution shift.
        selection: How alpha was chosen.
        training: How the model was made.
        tasks: The tasks with their data sets and licences.
        licence: The licence of the base and what follows from it.
        limits: What the numbers do not show.
        citations: BibTeX entries besides PAINT's.
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
    def versions(self) -> str:
        """The versions as a table."""
        return markdown([["software", "version"], *map(list, self.training.versions.items())], text_columns=2)

    @property
    def sources(self) -> str:
        """The data sets and their licences as a table; empty without tasks."""
        rows = [[task.name, _dataset(task), task.license or "not stated"] for task in self.tasks]
        return markdown([["task", "data set", "licence"], *rows], text_columns=3) if rows else ""

    def render(self) -> str:
        """Return the text of the card, metadata included."""
        template = TEMPLATE.read_text(encoding="utf-8")
        return str(ModelCard.from_template(self.metadata, template_str=template, card=self))


def environment() -> dict[str, str]:
    """Return package -> version of the software that a run depends on."""
    return {package: version(package) for package in VERSIONED} | {"python": platform.python_version()}


def citations_of(tasks: Iterable[Task]) -> list[str]:
    """Return the BibTeX entries of tasks, each once."""
    return list(dict.fromkeys(task.citation.strip() for task in tasks if task.citation))


def _dataset(task: Task) -> str:
    """Return a link to the data set on the Hub, its homepage, or "local files"."""
    if on_the_hub := dataset_id(task):
        return f"[{on_the_hub}](https://huggingface.co/datasets/{on_the_hub})"
    return task.homepage or "local files"
