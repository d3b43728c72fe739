"""The parts of a run: selection rule, shared setup, measurements, and work done only once."""

from fractions import Fraction

import pytest
import torch

from hf_paint import AlphaCurve, InputError, PatchOptions
from hf_paint.patching.measurements import RunMeasurements
from hf_paint.patching.processes import make_once
from hf_paint.patching.recipe import Rule
from hf_paint.patching.start import prepare, resolve
from hf_paint.results.selection import Sides
from patch_runs import arguments


CURVE = AlphaCurve.from_accuracies([0.0, 0.5, 1.0], patching={"a": [0.1, 0.5, 0.9]}, supported={"b": [0.9, 0.8, 0.2]})


@pytest.fixture
def recipe(model_folder, task, other_task, tmp_path):
    return resolve(
        "single",
        model_folder,
        arguments(tmp_path / "run"),
        patching_tasks=[task],
        supported_tasks=[other_task],
        rule=Rule(alphas=[0.5]),
        options=None,
    )


def test_rule_chooses_as_the_curve_does():
    assert Rule(alphas=[], selection="none").choose(CURVE) is None
    assert Rule(alphas=[]).choose(CURVE) == CURVE.select("mean") == 0.5
    within = Rule(alphas=[], selection="supported_within", tolerance=0.05)
    assert within.choose(CURVE) == 0.0
    lower = Rule(alphas=[], selection="supported_within", tolerance=0.05, baseline=Fraction(8, 10))
    assert lower.choose(CURVE) == 0.5


def test_score_puts_a_price_on_a_supported_loss():
    side, side_0 = Sides(Fraction(1, 2), Fraction(8, 10)), Sides(Fraction(1, 4), Fraction(9, 10))
    assert Rule(alphas=[]).score(side, side_0) == pytest.approx(0.65)
    within = Rule(alphas=[], selection="supported_within", tolerance=0.05)
    assert within.score(side, side_0) == pytest.approx(0.5 - 10 * 0.05)
    assert within.score(side_0, side_0) == 0.25


def test_a_recipe_touches_no_folder_and_a_run_has_its_parts_from_the_start(recipe):
    assert not recipe.folder.path.exists()
    run = prepare(recipe)
    assert [(t.task.name, t.role) for t in run.tasks] == [("colours", "patching"), ("others", "supported")]
    assert run.base is recipe.base
    assert run.base.theta_0.keys() == dict(run.base.tower().named_parameters()).keys()
    assert all(x.data_ptr() == run.base.model.state_dict()[n].data_ptr() for n, x in run.base.theta_0.items())
    assert not recipe.folder.path.exists()
    assert recipe.to_dict()["strategy"] == "single"


def test_options_are_checked_before_the_base_is_loaded(task, tmp_path):
    with pytest.raises(InputError, match="`num_orders` needs `strategy: sequential`"):
        resolve(
            "joint",
            "no/such-model",
            arguments(tmp_path / "run"),
            patching_tasks=[task],
            supported_tasks=[],
            rule=Rule(alphas=[0.5]),
            options=PatchOptions(num_orders=2),
        )


def test_batches_of_losses_do_not_depend_on_earlier_measurements(recipe):
    run = prepare(recipe)
    theta_0 = run.base.theta_0
    loss = RunMeasurements(run).losses()
    expected = [float(loss(theta_0)) for _ in range(3)]
    assert len(set(expected)) == 3
    measurements = RunMeasurements(run)
    measurements.losses()(theta_0)
    measurements.score(theta_0, "patching")
    loss = measurements.losses()
    assert [float(loss(theta_0)) for _ in range(3)] == expected


def test_scores_are_those_of_the_rule(recipe):
    run = prepare(recipe)
    theta_0 = run.base.theta_0
    theta = {name: x + 0.01 * torch.sign(x) for name, x in theta_0.items()}
    measurements = RunMeasurements(run)
    by_rule = [measurements.score(weights, "selection") for weights in (theta, theta_0, theta)]
    assert by_rule[0] == by_rule[2] == RunMeasurements(run).score(theta, "selection")
    assert 0 <= measurements.score(theta, "patching") <= 1


def test_make_once(tmp_path):
    path, calls = tmp_path / "file", []
    for _ in range(2):
        make_once(path, lambda: calls.append(path.write_text("")))
    assert len(calls) == 1
