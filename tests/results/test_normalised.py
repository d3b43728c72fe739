"""The normalised accuracy of a card, against numbers written out."""

from hf_paint.results.alphas import Coefficients
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.normalised import normalised_rows
from hf_paint.results.records import Result


def record(alpha, task, role, correct):
    return Result(alpha=alpha, task=task, role=role, split="test", correct=correct, total=100)


CURVE = AlphaCurve(
    record(alpha, task, role, correct)
    for task, role, values in (
        ("mnist", "patching", (40, 90)),
        ("svhn", "patching", (20, 60)),
        ("cifar", "supported", (80, 76)),
    )
    for alpha, correct in zip((0.0, 0.5), values, strict=True)
)
ALONE = [record(Coefficients({"mnist": 1.0}), "mnist", "patching", 96)]
OTHER = record(Coefficients({"svhn": 1.0}), "svhn", "patching", 80)


def test_accuracies_are_divided_by_those_of_each_task_alone():
    """90 / 96, 60 / 80 and their mean; the supported task by its accuracy before, 76 / 80."""
    assert normalised_rows(CURVE, AlphaCurve([*ALONE, OTHER]), 0.5, "test") == [
        ["task", "role", "zero-shot", "fine-tuned alone", "this model", "normalised"],
        ["mnist", "patching", "40.00", "96.00", "90.00", "93.75"],
        ["svhn", "patching", "20.00", "80.00", "60.00", "75.00"],
        ["mean", "patching", "30.00", "88.00", "75.00", "84.38"],
        ["cifar", "supported", "80.00", "", "76.00", "95.00"],
    ]


def test_what_was_not_evaluated_stays_empty_and_is_in_no_mean():
    rows = normalised_rows(CURVE, AlphaCurve(ALONE), 0.5, "test")
    assert rows[2] == ["svhn", "patching", "20.00", "", "60.00", ""]
    assert rows[3] == ["mean", "patching", "30.00", "", "75.00", ""]
    assert normalised_rows(CURVE, AlphaCurve([]), 0.5, "test") == []
    assert normalised_rows(CURVE, CURVE, 0.5, "test") == []
