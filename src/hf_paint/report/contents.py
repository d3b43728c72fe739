"""The contents of a report: every number and sentence on the page, as one JSON object.

Accuracies, losses of accuracy, intervals and probabilities are fractions of 1. A list over `points` has one entry per
measured point; an entry is None where nothing was measured. Names of classes, tasks and files are plain text.
"""

from typing import TypedDict


class Point(TypedDict):
    """A measured point: an alpha, or the coefficients of a combination.

    `label` is the alpha with two decimals or more (`0.30`), or the coefficients in words. `alpha` is None for a
    combination, `coefficients` for an alpha. `revision` is the branch that `hf-paint push` gives it; empty if it
    gets none.
    """

    label: str
    alpha: float | None
    coefficients: dict[str, float] | None
    revision: str


class Interval(TypedDict):
    """A value with its 95 % interval; the bounds are None without per-image data."""

    value: float
    low: float | None
    high: float | None


class Picture(TypedDict):
    """A picture whose answer changed between two points.

    `src` is a data URI. `labels` are the right candidates. `written` is the word on the picture, `question` what is
    asked about it. `answers` holds for each point the most probable candidates, (candidate, probability), best first;
    `correct` whether the best one is right.
    """

    src: str
    index: int
    labels: list[str]
    written: str | None
    question: str | None
    answers: list[list[tuple[str, float]] | None]
    correct: list[bool | None]


class PerClass(TypedDict):
    """Counts by class: `total` has one entry per class, `correct` one list of those per point.

    `confusion` holds, per point, mistakes (class, predicted class, images) on the classes whose accuracy changed most:
    the most frequent ones, and all that take one of these classes for another.
    """

    classes: list[str]
    total: list[int]
    correct: list[list[int] | None]
    confusion: list[list[tuple[int, int, int]] | None]


class Task(TypedDict):
    """A task at every point, on `split`.

    `accuracy` has the interval of a proportion, `gain` the paired bootstrap interval of the change from zero-shot.
    `exact` is False where an adaptive sweep inferred some answers, which sentences mark with `~`. `metrics` are the
    others by their names in records: `mean_per_class`, `loss`, `ece`, `mean_average_precision`, `attack_success`,
    `mean_absolute_error`, and `accuracy_TYPE` for each type of answer; all are fractions of 1 except the loss (nats)
    and the mean absolute error. `calibration` holds, per point, one row per bin of confidence that has images: images,
    mean confidence, accuracy.
    """

    name: str
    role: str
    split: str
    num_images: int
    metric: str
    accuracy: list[Interval | None]
    gain: list[Interval | None]
    exact: list[bool]
    metrics: dict[str, list[float | None]]
    per_class: PerClass | None
    calibration: list[list[tuple[int, float, float]] | None] | None
    pictures: list[Picture]
    pictures_note: str


class Layer(TypedDict):
    """How far a layer moved: norm of theta_1 - theta_0, relative to theta_0, and the cosine similarity of the two.

    `model` names theta_1: after parallel or sequential patching, there is one per task. The first layer of a model is
    `all`, the whole image tower. The relative norm and the cosine are None if theta_0 is zero there.
    """

    model: str
    name: str
    norm: float
    relative: float | None
    cosine: float | None


class Scatter(TypedDict):
    """Accuracy under shift against accuracy on the reference, per point (WiSE-FT, Figure 1).

    The baseline is a line in logits: intercept and slope. `effective` is the effective robustness per point.
    `ensemble` holds the same two accuracies of the output-space ensemble, per point.
    """

    reference: str
    shift: str
    x: list[float | None]
    y: list[float | None]
    baseline: tuple[float, float] | None
    effective: list[float | None]
    ensemble: list[tuple[float | None, float | None]] | None


class Table(TypedDict):
    """A table: header and rows of text and numbers (fractions of 1 where `percent` names the column)."""

    title: str
    columns: list[str]
    percent: list[str]
    rows: list[list[str | float | None]]


class Snippet(TypedDict):
    """Code that loads a model of the run; `language` is `python` or `bash`.

    In the code, `{revision}` and `{alpha}` stand for those of the current point; the alpha is a number, or the
    coefficients as a JSON object. `points` are the positions of the points that the code can load.
    """

    title: str
    language: str
    code: str
    points: list[int]


class Run(TypedDict):
    """One run.

    Attributes of the line: `points` in order, and the positions in it of zero-shot, fine-tuned and the chosen point.
    `connected` says whether neighbouring points may be joined by a line. `means` has `patching`, `supported` and
    `mean` (their mean), each per point. `choice` are sentences: which rule chose and why, what another would have
    chosen. `ensemble` holds the means of the output-space ensemble, (supported, patching) per point. `recipe` is YAML,
    `facts` are pairs of name and text, and `notes` are sentences on how the numbers were measured.
    """

    title: str
    claim: str
    model: str
    strategy: str
    method: str
    split: str
    points: list[Point]
    connected: bool
    zero_shot: int
    fine_tuned: int | None
    fine_tuned_label: str
    chosen: int | None
    tasks: list[Task]
    means: dict[str, list[float | None]]
    choice: list[str]
    snippets: list[Snippet]
    layers: list[Layer]
    scatter: Scatter | None
    ensemble: list[tuple[float | None, float | None]] | None
    tables: list[Table]
    recipe: str
    facts: list[tuple[str, str]]
    notes: list[str]


class Report(TypedDict):
    """A report: one run, or several beside each other. `tables` are on all of them, such as means over task orders."""

    title: str
    made_by: str
    runs: list[Run]
    tables: list[Table]
