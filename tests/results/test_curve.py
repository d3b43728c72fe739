import csv

import numpy as np
import pytest

from hf_paint import AlphaCurve, InputError
from hf_paint.results.records import Result
from hf_paint.results.result_log import ResultLog


ALPHAS = [0.0, 0.25, 0.5, 0.75, 1.0]


def curve(patching, supported):
    return AlphaCurve.from_accuracies(ALPHAS, patching={"p": patching}, supported={"s": supported})


def published(shared, grid=100):
    with (shared / "oracles" / "vit_b32_mnist_cifar10_curve.csv").open() as file:
        rows = [row for row in csv.DictReader(file) if round(float(row["alpha"]) * 100) % (100 // grid) == 0]
    return AlphaCurve.from_accuracies(
        [float(row["alpha"]) for row in rows],
        patching={"mnist": [float(row["mnist_top1"]) for row in rows]},
        supported={"cifar10": [float(row["cifar10_top1"]) for row in rows]},
    )


def test_published_curve(shared):
    assert len(published(shared).alphas) == 101
    assert published(shared).select("mean") == 0.33
    assert published(shared).select("supported_within", tolerance=0.01) == 0.28
    assert len(published(shared, grid=10).alphas) == 11
    assert published(shared, grid=10).select("mean") == 0.3


def test_mean_takes_the_smaller_alpha_of_a_tie():
    assert curve([0.1, 0.5, 0.7, 0.8, 0.9], [0.9, 0.9, 0.7, 0.6, 0.1]).select("mean") == 0.25


def test_ties_are_exact():
    # 0.1 + 0.2 and 0.3 differ as floats; as counts they tie
    assert curve([0.1, 0.3, 0.0, 0.0, 0.0], [0.2, 0.0, 0.0, 0.0, 0.0]).select("mean") == 0.0


def test_supported_within():
    falling = [0.90, 0.90, 0.89, 0.85, 0.50]
    assert curve([0.1, 0.5, 0.7, 0.8, 0.9], falling).select("supported_within", tolerance=0.01) == 0.5
    assert curve([0.1, 0.5, 0.7, 0.8, 0.9], falling).select("supported_within", tolerance=0) == 0.25
    assert curve([0.1, 0.5, 0.5, 0.8, 0.9], falling).select("supported_within", tolerance=0.01) == 0.25
    assert curve([0.9, 0.5, 0.5, 0.8, 0.9], falling).select("supported_within", tolerance=0.01) == 0.0


def test_both_sides_weigh_the_same_however_many_tasks_they_have():
    one = AlphaCurve.from_accuracies(
        [0.0, 1.0], patching={"p": [0.0, 0.6]}, supported={"a": [0.9, 0.3], "b": [0.9, 0.3], "c": [0.9, 0.9]}
    )
    assert one.select("mean") == 1.0  # 0.45 against (0.6 + 0.5) / 2


def test_selection_reads_validation_only():
    validation = curve([0.1, 0.2, 0.9, 0.1, 0.1], [0.5] * 5).results
    test = AlphaCurve.from_accuracies(ALPHAS, patching={"p": [0, 0, 0, 0, 1]}, supported={"s": [1] * 5}, split="test")
    assert AlphaCurve([*validation, *test.results]).select("mean") == 0.5
    with pytest.raises(InputError, match="No patching task was evaluated on validation"):
        test.select("mean")


@pytest.mark.parametrize("missing", [{0, 5}, {3}, {5}, {1, 4}, {0, 4, 5}])
def test_means_over_different_tasks_are_not_compared(missing):
    accuracies = {"a": [0.9, 0.2], "b": [0.1, 0.8]}
    whole = AlphaCurve.from_accuracies([0.0, 1.0], patching=accuracies, supported={"s": [0.5, 0.5]})
    left = [result for place, result in enumerate(whole.results) if place not in missing]
    with pytest.raises(InputError, match=r"task '[abs]' was not evaluated on validation at alpha [01].00, but"):
        AlphaCurve(left).select("mean")
    assert whole.select("mean") == 0.0


def test_an_alpha_without_validation_records_is_no_candidate():
    whole = curve([0.1, 0.2, 0.9, 0.1, 0.1], [0.5] * 5)
    tested = AlphaCurve.from_accuracies([0.3], patching={"p": [1.0]}, supported={}, split="test")
    assert AlphaCurve([*whole.results, *tested.results]).select("mean") == 0.5


def test_alphas_of_a_grid_in_floating_point_are_found():
    grid = np.arange(0, 1.1, 0.1)
    found = AlphaCurve.from_accuracies(grid, patching={"p": [step / 20 for step in range(11)]}, supported={})
    assert found.alphas == tuple(step / 10 for step in range(11))
    for step, alpha in enumerate(grid):
        assert found.get(alpha, "patching", "p", "validation").accuracy == step / 20
        assert float(found.mean_accuracy(alpha, "patching", "validation")) == step / 20
        assert f"**{step / 20:.2%}".rstrip("%") in found.to_markdown("validation", selected=alpha)


def test_bad_rule_and_missing_zero():
    with pytest.raises(InputError, match="Unknown selection rule 'meen'. Did you mean 'mean'"):
        curve([0.1] * 5, [0.1] * 5).select("meen")
    without = AlphaCurve.from_accuracies([0.5, 1.0], patching={"p": [0.1, 0.2]}, supported={"s": [0.1, 0.2]})
    with pytest.raises(InputError, match="alpha 0 was not evaluated"):
        without.select("supported_within")


def test_table_has_the_zero_shot_row_first_and_the_choice_in_bold():
    lines = curve([0.1, 0.5, 0.7, 0.8, 0.9], [0.9] * 5).to_markdown("validation", selected=0.5).splitlines()
    assert lines[0] == "| alpha | p (patching) | s (supported) |"
    assert lines[2] == "| 0 (zero-shot) | 10.00 | 90.00 |"
    assert lines[4] == "| **0.50** | **70.00** | **90.00** |"


def test_frame_has_the_columns_of_the_records():
    frame = curve([0.1] * 5, [0.9] * 5).to_frame()
    assert len(frame) == 10
    assert {"alpha", "task", "accuracy", "correct", "total"} <= set(frame.columns)


def test_gains_carry_intervals_only_with_examples(tmp_path):
    log = ResultLog(tmp_path)
    for alpha, correct in ((0.0, [0, 0, 1, 1]), (0.5, [1, 1, 1, 1])):
        name = f"correct/{alpha}.npy"
        log.append(
            Result(
                alpha=alpha, task="t", role="patching", split="test", correct=sum(correct), total=4, correct_file=name
            ),
            np.array(correct, dtype=bool),
        )
    [gain] = AlphaCurve.from_run(tmp_path).gains(0.5)
    assert gain.gain == 0.5
    assert gain.low is not None
    assert 0 <= gain.low <= 0.5 <= gain.high <= 1
    [bare] = AlphaCurve(log.results).gains(0.5)
    assert (bare.gain, bare.low, bare.high) == (0.5, None, None)
