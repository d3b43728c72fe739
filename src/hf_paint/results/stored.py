"""What the small JSON files of a run folder hold, as the reader of a folder expects it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Literal, NotRequired, TypedDict

from hf_paint.documents.shapes import read_shaped


AGAIN = "Remove this file, and run the same `hf-paint patch` again."
"""What to do about a damaged file that a run writes at its end."""


class StoredRecipe(TypedDict, total=False):
    """The keys of a run's recipe that are read from a finished run; a run of an earlier version may lack some."""

    model: str
    model_revision: str | None
    strategy: str | None
    patching_tasks: list[str | dict[str, object]]
    supported_tasks: list[str | dict[str, object]] | None
    transfer_tasks: list[str | dict[str, object]] | None
    shift_tasks: list[str | dict[str, object]] | None
    alphas: list[float]
    selection: str
    tolerance: float | None
    method: str | dict[str, dict[str, object] | None]
    thetas: dict[str, str] | None
    save_dtype: str | None
    base_model_id: str | None
    base_fingerprint: str | None


class CardFacts(TypedDict, total=False):
    """Contents of `card.json`: what the model card needs beside the records and the recipe; see `CardSource`."""

    class_names: list[str]
    base_model_id: str | None
    base_license: str | None
    save_dtype: str
    model_type: str
    num_processes: int
    versions: dict[str, str]
    examples: dict[str, str]


class ChosenPrecision(TypedDict):
    """The part of `precision.json` that a resumed run reads."""

    precision: Literal["fp32", "bf16"]


class ChosenOneDNN(TypedDict):
    """Contents of `onednn.json`."""

    onednn: bool


class TaskAverage(TypedDict):
    """Accuracy of a task over several orders.

    Attributes:
        task: Task name.
        role: Task role.
        zero_shot: Accuracy before the first step.
        mean: Accuracy after all steps, averaged over the orders.
        std: Standard deviation over the orders; None if there is only one.
    """

    task: str
    role: Literal["patching", "supported", "transfer", "shift"]
    zero_shot: float
    mean: float
    std: float | None


class OrdersSummary(TypedDict):
    """Contents of `orders.json`: the evaluated split, the alphas of each order, and the averages."""

    split: str
    orders: list[str]
    tasks: list[TaskAverage]


class NamedTask(TypedDict):
    """A task in `tasks.json`, as far as records need it: its name, and its classes in the order of the logits."""

    name: str
    class_names: list[str]
    templates: NotRequired[list[str]]


class NamedTasks(TypedDict):
    """Contents of `tasks.json`."""

    tasks: list[NamedTask]


def read_named_tasks(path: Path) -> Sequence[NamedTask]:
    """Return the tasks in a `tasks.json`; a run of an earlier version has none."""
    stored = read_shaped(path, NamedTasks, advice=AGAIN)
    return stored["tasks"] if stored is not None else []
