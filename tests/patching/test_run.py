"""The parts of a run: selection rule, shared setup, measurements, and work done only once."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
import torch

from hf_paint import AlphaCurve, InputError, PatchOptions, prepare_task
from hf_paint.evaluation.evaluator import Evaluator
from hf_paint.models.towers import image_tower
from hf_paint.patching.measurements import RunMeasurements, tempered_loss
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
    assert Rule(alphas=[], selection="mean").choose(CURVE) == CURVE.select("mean") == 0.5
    assert Rule(alphas=[]).choose(CURVE) == CURVE.select() == CURVE.select("supported_within", tolerance=0.01) == 0.0
    within = Rule(alphas=[], selection="supported_within", tolerance=0.05)
    assert within.choose(CURVE) == 0.0
    lower = Rule(alphas=[], selection="supported_within", tolerance=0.05, baseline=Fraction(8, 10))
    assert lower.choose(CURVE) == 0.5


def test_score_puts_a_price_on_a_supported_loss():
    side, side_0 = Sides(Fraction(1, 2), Fraction(8, 10)), Sides(Fraction(1, 4), Fraction(9, 10))
    assert Rule(alphas=[], selection="mean").score(side, side_0) == pytest.approx(0.65)
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


@pytest.mark.parametrize("split", ["validation", "train"])
def test_losses_are_written_out(recipe, split):
    """Cross-entropy of the logits times beta, on images drawn from one split with the seed of the run."""
    run = prepare(recipe)
    model, processor = recipe.base.model, recipe.base.processor
    [images] = [prepare_task(task, model, processor, splits=(split,)) for task in recipe.patching_tasks]
    beta = torch.tensor(0.5, requires_grad=True)
    found = RunMeasurements(run).losses(split)(run.base.theta_0, beta)
    draws = np.random.default_rng(recipe.args.seed).integers(len(images.images[split]), size=64)
    pixels = images.transform.normalize(torch.from_numpy(images.images[split].pixels[draws]))
    with torch.no_grad():
        logits = images.head(image_tower(model)(pixel_values=pixels).image_embeds)
    logits, rows, labels = logits.double(), torch.arange(64), images.images[split].labels[draws]
    p = (0.5 * logits).softmax(-1)
    assert float(found) == pytest.approx(float(-p[rows, labels].log().mean()), abs=1e-5)
    found.backward()
    slope = (logits * p).sum(-1) - logits[rows, labels]
    assert float(beta.grad) == pytest.approx(float(slope.mean()), rel=1e-3)


def test_the_temperature_of_padded_candidates_has_a_gradient():
    beta = torch.tensor(2.0, requires_grad=True)
    logits = torch.tensor([[1.0, 3.0, -torch.inf], [0.5, -1.0, 2.0]])
    loss = tempered_loss(logits, torch.tensor([0, 2]), beta)
    first = torch.tensor([2.0, 6.0]).log_softmax(0)[0]
    second = torch.tensor([1.0, -2.0, 4.0]).log_softmax(0)[2]
    assert float(loss) == pytest.approx(-float(first + second) / 2)
    loss.backward()
    assert torch.isfinite(beta.grad)


@pytest.mark.parametrize(("selection", "roles"), [("mean", set()), ("supported_within", {"supported"})])
def test_theta_0_is_evaluated_only_as_far_as_the_rule_reads_it(recipe, selection, roles, monkeypatch):
    run = prepare(replace(recipe, rule=replace(recipe.rule, selection=selection)))
    theta_0, seen, predict = run.base.theta_0, set(), Evaluator.predict

    def record(self, tower, task, split, **keys):
        if all(torch.equal(tower.state_dict()[name], x) for name, x in theta_0.items()):
            seen.add(task.role)
        return predict(self, tower, task, split, **keys)

    monkeypatch.setattr(Evaluator, "predict", record)
    theta = {name: x + 0.01 * torch.sign(x) for name, x in theta_0.items()}
    RunMeasurements(run).score(theta, "selection")
    assert seen == roles


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
