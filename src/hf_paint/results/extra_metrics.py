"""The metrics that some kinds of tasks have beside accuracy, and how tables, cards and metadata show them."""

from collections.abc import Iterable
from dataclasses import dataclass

from hf_paint.results.records import Result
from hf_paint.results.tables import number, percent


@dataclass(frozen=True, slots=True, kw_only=True)
class ExtraMetric:
    """A metric that only one kind of task has.

    Attributes:
        key: Name in records and in `Result.metrics`.
        stored_as: Type of the value in a record; a count is divided by the number of images to be shown.
        label: Heading of its column, or its name beside an accuracy.
        name: Name in a sentence.
        hub_type: Name on the Hub.
        note: Sentence that explains it below a table.
        is_share: Whether it is a fraction of 1, shown in percent.
        has_column: Whether it has its own column in the table of a curve, instead of a place beside the accuracy.
    """

    key: str
    stored_as: type[int] | type[float]
    label: str
    name: str
    hub_type: str
    note: str
    is_share: bool
    has_column: bool = False

    def show(self, result: Result | None, *, digits: int = 2) -> str:
        """Return the metric of a record as text, or an empty string if it has none."""
        value = None if result is None else result.metrics.get(self.key)
        return percent(value, digits=digits) if self.is_share else number(value)

    def change(self, before: Result, after: Result) -> str:
        """Return the metric before and after patching as part of a sentence, or an empty string if it is missing."""
        pair = self.pair(before, after)
        return f"{self.name} {' → '.join(pair)}" if pair else ""

    def pair(self, before: Result, after: Result) -> tuple[str, str] | None:
        """Return the metric before and after patching with its unit, or None if it is missing."""
        texts, unit = [self.show(result, digits=1) for result in (before, after)], " %" if self.is_share else ""
        return (f"{texts[0]}{unit}", f"{texts[1]}{unit}") if all(texts) else None


EXTRA_METRICS = (
    ExtraMetric(
        key="attack_success",
        stored_as=int,
        label="attack success",
        name="attack success",
        hub_type="attack_success",
        note="An attack succeeds if the model predicts the wrong word written on the image; lower is better.",
        is_share=True,
        has_column=True,
    ),
    ExtraMetric(
        key="mean_absolute_error",
        stored_as=float,
        label="MAE",
        name="mean absolute error",
        hub_type="mae",
        note="MAE is the mean absolute error of the predicted count.",
        is_share=False,
    ),
    ExtraMetric(
        key="mean_average_precision",
        stored_as=float,
        label="mAP",
        name="mean average precision",
        hub_type="mean_average_precision",
        note="mAP is the mean average precision of a task whose images can show several classes: for each class, the "
        "area under the precision-recall curve of all images in the order of their scores. An image of such a task is "
        "classified correctly if the class with the highest score is one of its classes.",
        is_share=True,
    ),
)
"""All of them, in the order in which they are shown."""


def beside_accuracy(result: Result) -> str:
    """Return the metrics that stand beside the accuracy in one cell, e.g. `, MAE 1.50`."""
    shown = {metric.label: metric.show(result) for metric in EXTRA_METRICS if not metric.has_column}
    return "".join(f", {label} {text}" for label, text in shown.items() if text)


def notes_on(table: str) -> Iterable[str]:
    """Yield the notes on the metrics that a table shows."""
    return (metric.note for metric in EXTRA_METRICS if metric.label in table)
