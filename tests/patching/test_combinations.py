"""The combinations that a search of coefficients evaluates."""

from types import SimpleNamespace

import pytest

from hf_paint.patching.parallel import _Combinations
from hf_paint.patching.recipe import Rule
from hf_paint.results.alphas import Coefficients
from hf_paint.results.records import Result


def records(alpha, patching, supported):
    """A record of each of three tasks, given how many of 100 images are right."""
    roles = {"a": ("patching", patching), "b": ("patching", patching + 2), "c": ("supported", supported)}
    return [
        Result(alpha=alpha, task=task, role=role, split="validation", correct=correct, total=100)
        for task, (role, correct) in roles.items()
    ]


def test_a_score_reads_the_records_of_its_own_combination_and_of_the_base():
    """Not those of all combinations before it, so that a search of twice as many takes twice as long."""
    alpha, asked = Coefficients({"a": 0.3, "b": 0.6}), []

    def evaluate(point, split):
        asked.append((point, split))
        return records(point, 70, 88)

    search = SimpleNamespace(
        before=records(0.0, 40, 90),
        evaluate=evaluate,
        log=None,
        run=SimpleNamespace(rule=Rule(alphas=(0.0, 1.0), selection="mean", tolerance=0.01)),
    )
    assert _Combinations.score(search, alpha) == pytest.approx((0.71 + 0.88) / 2)
    assert asked == [(alpha, "validation")]
