import numpy as np
import pytest
import torch
from accelerate import Accelerator

from counting_evaluator import CountingEvaluator
from hf_paint import evaluate_tasks, prepare_task, sweep_alphas
from hf_paint.evaluation.adaptive_sweep import NUM_ANCHORS, bisection, sweep_adaptively, verified
from hf_paint.evaluation.evaluator import Evaluator
from hf_paint.merging.interpolation import interpolate
from hf_paint.models.towers import image_tower, image_tower_weights
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.records import Result
from hf_paint.results.result_log import ResultLog


ALPHAS = [step / 40 for step in range(41)]
TENTHS = [step / 10 for step in range(11)]


@pytest.fixture
def line(model, processor, task, other_task):
    """theta_0, theta_1, and two tasks on which predictions change along the line."""
    generator = torch.Generator().manual_seed(1)
    theta_0 = {name: tensor.clone() for name, tensor in image_tower_weights(model).items()}
    theta_1 = {n: t + 0.05 * torch.randn(t.shape, generator=generator) for n, t in theta_0.items()}
    tasks = [prepare_task(task, model, processor, role="patching"), prepare_task(other_task, model, processor)]
    return theta_0, theta_1, tasks, image_tower(model)


def run(sweep, line, folder=None, alphas=ALPHAS):
    theta_0, theta_1, tasks, tower = line
    evaluator = CountingEvaluator(Accelerator(cpu=True))
    log = ResultLog(folder) if folder is not None else None
    return sweep(theta_0, theta_1, alphas, tasks, model=tower, log=log, evaluator=evaluator), evaluator.num_images


@pytest.mark.parametrize("num_alphas", [1, 2, 5, 6, 11, 51, 101])
def test_bisection_visits_every_alpha_once_after_its_neighbours(num_alphas):
    steps = bisection([step / 100 for step in range(num_alphas)])
    assert sorted(position for position, _, _ in steps) == list(range(num_alphas))
    done = set()
    for position, left, right in steps:
        assert left == position == right or {left, right} <= done
        assert left <= position <= right
        done.add(position)
    assert sum(left == right for _, left, right in steps) == min(NUM_ANCHORS, num_alphas)


def test_alpha_zero_is_exact_also_when_it_is_no_end():
    assert (1, 1, 1) in bisection([-0.5, 0.0, *[step / 10 for step in range(1, 11)]])


def test_far_less_work_and_nearly_the_same_curve(line):
    (full, all_images), (adaptive, images) = run(sweep_alphas, line), run(sweep_adaptively, line)
    assert adaptive.alphas == full.alphas == tuple(ALPHAS)
    assert len({result.correct for result in full.results}) > 3  # there is something to follow
    assert all_images == 41 * sum(result.total for result in full.results[:4])
    assert images < 0.4 * all_images
    errors = [abs(a.correct - full.get(a.alpha, a.role, a.task, a.split).correct) for a in adaptive.results]
    assert max(errors) <= 2
    assert np.mean(errors) < 0.2


def test_exact_points_are_those_of_the_full_sweep(line):
    full, adaptive = run(sweep_alphas, line)[0], run(sweep_adaptively, line)[0]
    assert adaptive.exact_alphas == (0.0, 0.15, 0.275, 0.425, 0.575, 0.725, 0.85, 1.0)
    exact = [result for result in adaptive.results if result.exact]
    assert len(exact) == 8 * 4
    for result in exact:
        assert result == full.get(result.alpha, result.role, result.task, result.split)
    table = adaptive.to_markdown().splitlines()
    assert sum("~" in row for row in table) == 41 - 8


@pytest.mark.parametrize("sweep", [sweep_alphas, sweep_adaptively])
@pytest.mark.parametrize("on_disk", [False, True])
def test_fine_tuning_without_effect_loses_no_alpha(line, sweep, on_disk, tmp_path):
    theta_0, _, tasks, tower = line
    curve, _ = run(sweep, (theta_0, theta_0, tasks, tower), tmp_path if on_disk else None)
    assert curve.alphas == tuple(ALPHAS)
    assert 1.0 in curve.exact_alphas
    for result in curve.results:
        assert result.correct == curve.get(0.0, result.role, result.task, result.split).correct


@pytest.mark.parametrize("sweep", [sweep_alphas, sweep_adaptively])
def test_a_grid_in_floating_point_is_swept_once(line, sweep):
    doubled = [*np.arange(0, 1.1, 0.1), *(step / 10 for step in range(11)), *torch.linspace(0, 1, 11)]
    (curve, images), (expected, expected_images) = run(sweep, line, alphas=doubled), run(sweep, line, alphas=TENTHS)
    assert curve.alphas == expected.alphas == tuple(TENTHS)
    assert curve.results == expected.results
    assert images == expected_images


def test_images_whose_neighbours_differ_are_evaluated(line, model, processor, task):
    """A grid of nine alphas has one alpha that is not an anchor: written out, image by image."""
    theta_0, theta_1, tasks, _ = line
    alphas = [step / 8 for step in range(9)]
    [(position, left, right)] = [step for step in bisection(alphas) if step[1] != step[2]]
    predicted = {}
    evaluator = Evaluator(Accelerator(cpu=True))
    for index in (left, position, right):
        model.load_state_dict(interpolate(theta_0, theta_1, alphas[index]), strict=False)
        predicted[index] = evaluator.predict(image_tower(model), tasks[0], "test")
    same = predicted[left].predicted == predicted[right].predicted
    expected = np.where(same, predicted[left].predicted, predicted[position].predicted)
    curve = run(sweep_adaptively, line, alphas=alphas)[0]
    found = curve.get(alphas[position], "patching", task.name, "test")
    assert found.correct == int((expected == predicted[left].labels).sum())


def test_interrupted_equals_uninterrupted(line, tmp_path, monkeypatch, caplog):
    whole, images = run(sweep_adaptively, line, tmp_path / "whole")
    predict, calls = Evaluator.predict, []

    def killed(*args, **keys):
        calls.append(args)
        if len(calls) == 30:
            raise KeyboardInterrupt
        return predict(*args, **keys)

    monkeypatch.setattr(Evaluator, "predict", killed)
    with pytest.raises(KeyboardInterrupt):
        run(sweep_adaptively, line, tmp_path / "torn")
    monkeypatch.setattr(Evaluator, "predict", predict)
    next((tmp_path / "torn").rglob("*.npz")).write_bytes(b"PK")  # damaged predictions are made again
    again, more_images = run(sweep_adaptively, line, tmp_path / "torn")
    assert "is damaged" in caplog.text
    assert again.results == whole.results
    assert more_images < images - 4 * 100
    assert run(sweep_adaptively, line, tmp_path / "torn")[1] == 0


def test_a_full_sweep_takes_nothing_from_an_adaptive_one_that_is_not_exact(line, tmp_path):
    run(sweep_adaptively, line, tmp_path)
    _, images = run(sweep_alphas, line, tmp_path)
    total = sum(len(split) for task in line[2] for split in task.images.values())
    assert images == (41 - 8) * total
    assert AlphaCurve.from_run(tmp_path).exact_alphas == tuple(ALPHAS)
    run(sweep_adaptively, line, tmp_path)
    assert AlphaCurve.from_run(tmp_path).exact_alphas == tuple(ALPHAS)


def test_what_a_full_sweep_knows_is_exact_in_an_adaptive_one(line, tmp_path):
    known, _ = run(sweep_alphas, line, tmp_path, alphas=[0.1, 0.5])
    adaptive, _ = run(sweep_adaptively, line, tmp_path)
    assert set(adaptive.exact_alphas) == {0.0, 0.1, 0.15, 0.275, 0.425, 0.5, 0.575, 0.725, 0.85, 1.0}
    for result in known.results:
        assert adaptive.get(result.alpha, result.role, result.task, result.split) == result
    assert run(sweep_adaptively, line, tmp_path)[1] == 0


def test_verification_names_the_largest_error(caplog):
    def curve(correct, exact):
        keys = {"task": "mnist", "role": "patching", "split": "test", "total": 1000, "exact": exact}
        return AlphaCurve([Result(alpha=0.1 * i, correct=c, **keys) for i, c in enumerate(correct)])

    caplog.set_level("INFO")
    full = curve([500, 600, 700], exact=True)
    assert verified(curve([500, 597, 701], exact=False), full) is full
    assert "off by at most 0.30 points (alpha 0.10, mnist test) and by 0.133 points on average" in caplog.text
    assert verified(full, full) is full
    assert "0 of 3 accuracies were not exact" in caplog.text


def test_a_subset_is_evaluated_as_in_the_whole(model, processor, task):
    prepared = prepare_task(task, model, processor, splits=("test",))
    evaluator = Evaluator(Accelerator(cpu=True), batch_size=7)
    whole = evaluator.predict(image_tower(model), prepared, "test")
    some = evaluator.predict(image_tower(model), prepared, "test", indices=np.array([3, 5, 39, 0]))
    assert some.labels.tolist() == whole.labels[[3, 5, 39, 0]].tolist()
    assert some.loss == pytest.approx(whole.loss[[3, 5, 39, 0]], abs=1e-5)
    assert evaluate_tasks(model, [task], processor=processor)[0].correct == whole.correct.sum()
