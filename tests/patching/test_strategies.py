"""Joint, sequential and parallel patching: their results, run folders and resumption."""

import json
import math
import shutil
from dataclasses import replace
from itertools import permutations
from pathlib import Path
from weakref import WeakSet

import numpy as np
import pytest
import torch
import yaml
from transformers import CLIPModel, CLIPVisionModel

from browser import check_page
from drawn_tasks import write_task
from hf_paint import InputError, patch_joint, patch_parallel, patch_sequential, patch_single
from hf_paint.evaluation.evaluator import Evaluator
from hf_paint.merging.path import Span
from hf_paint.models.loading import load_clip
from hf_paint.models.stored import LazyWeights, StoredTower
from hf_paint.models.towers import image_tower_weights
from hf_paint.patching.options import PatchOptions
from hf_paint.patching.orders import draw_orders
from hf_paint.report.building import report_of
from hf_paint.results.alphas import Coefficients
from hf_paint.results.curve import AlphaCurve
from hf_paint.tasks.subsets import Splits
from hf_paint.training.trainer import PaintTrainer
from patch_runs import ALPHAS, arguments, joint, parallel, sequential, weights
from report_checks import checked_report


pytestmark = pytest.mark.usefixtures("_data_stay_the_same")


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    """Two patching tasks, the second with other names for the colours, and one supported task."""
    folder = tmp_path_factory.mktemp("tasks")
    first = write_task(folder, "first")
    second = replace(write_task(folder, "second", seed=3, names=("blue", "grey", "red", "green")), templates=("{}",))
    return first, second, write_task(folder, "kept", seed=7)


@pytest.fixture(scope="module")
def single(model_folder, tasks, tmp_path_factory):
    folder = tmp_path_factory.mktemp("single") / "run"
    return patch_single(model_folder, tasks[0], [tasks[2]], arguments(folder), alphas=ALPHAS)


def assert_equal_weights(folder, other):
    found, expected = weights(folder), weights(other)
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def counts(curve, split):
    """The records without the parts that depend on the strategy: (weights, role, task) -> counts."""
    return {(r.weights, r.role, r.task): (r.correct, r.total, r.loss) for r in curve.results if r.split == split}


def test_joint_with_one_task_is_single(single, model_folder, tasks, tmp_path):
    joint = patch_joint(model_folder, [tasks[0]], [tasks[2]], arguments(tmp_path / "run"), alphas=ALPHAS)
    assert joint.alpha == single.alpha
    assert joint.curve.results == single.curve.results
    check_page(joint.run_folder, checked_report(joint.run_folder)["runs"][0])
    for folder in ("theta_1", "patched"):
        assert_equal_weights(tmp_path / "run" / folder, single.run_folder / folder)


def test_sequential_with_one_task_is_single(single, model_folder, tasks, tmp_path):
    result = patch_sequential(model_folder, [tasks[0]], [tasks[2]], arguments(tmp_path / "run"), alphas=ALPHAS)
    assert result.alpha == {"first": single.alpha}
    assert_equal_weights(tmp_path / "run/patched", single.run_folder / "patched")
    assert_equal_weights(tmp_path / "run/step-1/theta_1", single.run_folder / "theta_1")
    for alpha, same in ((0.0, 0.0), (result.alpha, single.alpha)):
        for role, task in (("patching", "first"), ("supported", "kept")):
            found, expected = result.curve.get(alpha, role, task, "test"), single.curve.get(same, role, task, "test")
            assert (found.correct, found.loss) == (expected.correct, expected.loss)


def test_parallel_with_one_task_is_single(single, model_folder, tasks, tmp_path):
    result = patch_parallel(model_folder, [tasks[0]], [tasks[2]], arguments(tmp_path / "run"), alphas=ALPHAS)
    assert result.alpha == {"first": single.alpha}
    assert_equal_weights(tmp_path / "run/patched", single.run_folder / "patched")
    assert counts(result.curve, "validation") == counts(single.curve, "validation")


@pytest.fixture(scope="module")
def parallel_run(model_folder, tasks, tmp_path_factory):
    return parallel(model_folder, tasks, tmp_path_factory.mktemp("parallel") / "run")


@pytest.fixture(scope="module")
def sequential_run(model_folder, tasks, tmp_path_factory):
    return sequential(model_folder, tasks, tmp_path_factory.mktemp("sequential") / "run")


def test_every_combination_is_task_arithmetic(parallel_run, model_folder, tasks):
    """theta_0 + sum_i a_i (theta_i - theta_0) written out in float64 and run by plain transformers."""
    folder, curve = parallel_run.run_folder, parallel_run.curve
    base, processor, _ = load_clip(model_folder)
    theta_0 = weights(model_folder)
    thetas = {name: weights(folder / "thetas" / name / "theta_1") for name in ("first", "second")}
    diagonal = [a for a in curve.points("validation") if isinstance(a, Coefficients) and len({*a.values()}) == 1]
    assert diagonal
    for alpha in [*diagonal, parallel_run.alpha]:  # whose weights are compared after the loop
        summed = {
            name: (x.double() + sum(a * (thetas[t][name].double() - x.double()) for t, a in alpha.items())).float()
            for name, x in theta_0.items()
        }
        base.load_state_dict(summed)
        for task in tasks[:2]:
            found = curve.get(alpha, "patching", task.name, "validation")
            predicted, labels = by_transformers(base, processor, task, "validation")
            assert found.total == len(labels)
            assert abs(found.correct - int((predicted == labels).sum())) <= 1  # a tie may fall to either side
    assert all(torch.allclose(weights(folder / "patched")[n], summed[n], atol=1e-6) for n in summed)


def by_transformers(model, processor, task, split):
    from hf_paint.data.splits import load_splits

    rows = load_splits(task, (split,))[split]
    prompts = [template.format(name) for name in rows.class_names for template in task.templates[:1]]
    inputs = processor(text=prompts, images=list(rows.rows["image"]), return_tensors="pt", padding=True)
    with torch.no_grad():
        return model(**inputs).logits_per_image.argmax(-1).numpy(), rows.labels()


def test_parallel_chooses_among_what_it_searched(parallel_run):
    curve, alpha = parallel_run.curve, parallel_run.alpha
    points = curve.points("validation")
    assert 4 <= len(points) <= 11
    means = {a: float(sum(curve.mean_accuracy(a, r, "validation") for r in ("patching", "supported"))) for a in points}
    assert means[alpha] == max(means.values())
    selection = json.loads((parallel_run.run_folder / "selection.json").read_text())
    assert selection["alpha"] == dict(alpha)
    assert selection["num_alphas"] == len(points)


def test_specialised_models_are_in_a_parallel_run(parallel_run, model_folder, tasks, tmp_path):
    """Each theta_i alone, on its own task, equals a single run of that task at alpha 1."""
    alone = patch_single(model_folder, tasks[1], [], arguments(tmp_path / "run"), alphas=[1.0], selection="none")
    expected = alone.curve.get(1.0, "patching", "second", "test")
    found = parallel_run.curve.get(Coefficients({"second": 1.0}), "patching", "second", "test")
    assert (found.correct, found.weights) == (expected.correct, expected.weights)


def test_given_models_are_not_trained(parallel_run, model_folder, tasks, tmp_path, monkeypatch):
    monkeypatch.setattr(PaintTrainer, "train", lambda *_, **__: pytest.fail("a fine-tuning was repeated"))
    thetas = {t: str(parallel_run.run_folder / "thetas" / t / "theta_1") for t in ("first", "second")}
    result = parallel(model_folder, tasks, tmp_path / "run", thetas=thetas)
    assert result.alpha == parallel_run.alpha
    assert result.curve.results == parallel_run.curve.results


def test_a_vision_model_alone_is_fine_tuned_under_the_projection_of_its_base(model_folder, tasks, tmp_path):
    """A public model: `CLIPVisionModel`, without projection and text tower."""
    vision = CLIPVisionModel.from_pretrained(model_folder)
    with torch.no_grad():
        for parameter in vision.parameters():
            parameter.mul_(1.01)
    vision.save_pretrained(tmp_path / "vision")
    whole = CLIPModel.from_pretrained(model_folder)
    with torch.no_grad():
        for name, parameter in whole.named_parameters():
            if name.startswith("vision_model."):
                parameter.mul_(1.01)
    whole.save_pretrained(tmp_path / "whole")
    found = []
    for name in ("vision", "whole"):
        options = PatchOptions(thetas={"first": str(tmp_path / name)})
        args = arguments(tmp_path / f"run-{name}")
        found.append(patch_parallel(model_folder, tasks[:1], [tasks[2]], args, alphas=ALPHAS, options=options))
    assert found[0].curve.results == found[1].curve.results


def test_thetas_of_no_task_and_of_another_shape_are_refused(model_folder, tasks, tmp_path):
    with pytest.raises(InputError, match="'frist', which is not a patching task. Did you mean 'first'"):
        parallel(model_folder, tasks, tmp_path / "a", thetas={"frist": "some/model"})
    small = {name: tensor[:1].contiguous() for name, tensor in weights(model_folder).items() if tensor.ndim}
    from safetensors.torch import save_file

    (tmp_path / "small").mkdir()
    save_file(small, tmp_path / "small/model.safetensors")
    with pytest.raises(InputError, match="differ in shape"):
        parallel(model_folder, tasks, tmp_path / "b", thetas={"first": str(tmp_path / "small")})
    assert not (tmp_path / "b").exists()  # the other task was not trained for nothing


def test_each_step_starts_from_the_patched_model_of_the_step_before(sequential_run, model_folder):
    folder = sequential_run.run_folder
    recipes = [yaml.safe_load((folder / f"step-{i}/step.yaml").read_text()) for i in (1, 2)]
    assert [Path(recipe["model"]).parts[-2:] for recipe in recipes[1:]] == [("step-1", "patched")]
    assert [[task["name"] for task in recipe["patching_tasks"]] for recipe in recipes] == [
        ["first"],
        ["first", "second"],
    ]
    starts = [weights(model_folder), weights(folder / "step-1/patched")]
    for number, (start, alpha) in enumerate(zip(starts, sequential_run.alpha.values(), strict=True), 1):
        theta_1, patched = (weights(folder / f"step-{number}" / name) for name in ("theta_1", "patched"))
        for name, x in start.items():
            expected = x.double() + alpha * (theta_1[name].double() - x.double())
            assert torch.allclose(patched[name].double(), expected, atol=1e-7)
    assert_equal_weights(folder / "patched", folder / "step-2/patched")
    assert all(torch.equal(t, weights(folder / "patched")[n]) for n, t in sequential_run.model.state_dict().items())


def test_history_says_what_every_step_did_to_every_task(sequential_run, model_folder, tasks):
    curve, alphas = sequential_run.curve, sequential_run.alpha
    expected = [0.0, Coefficients({"first": alphas["first"]}), alphas]
    assert curve.alphas == tuple(expected)
    folders = [model_folder, *(sequential_run.run_folder / f"step-{i}/patched" for i in (1, 2))]
    for alpha, folder in zip(expected, folders, strict=True):
        model, processor, _ = load_clip(str(folder))
        for task, role in zip(tasks, ("patching", "patching", "supported"), strict=True):
            found = curve.get(alpha, role, task.name, "test")
            predicted, labels = by_transformers(model, processor, task, "test")
            assert abs(found.correct - int((predicted == labels).sum())) <= 1
    table = curve.to_markdown("test").splitlines()
    assert [row.split("|")[1].split()[0] for row in table[2:]] == ["0", "first", "first"]


def test_a_negative_alpha_keeps_its_sign(model_folder, tasks, tmp_path, monkeypatch):
    monkeypatch.setattr(AlphaCurve, "select", lambda curve, *args, **keys: min(curve.alphas))
    options, args = PatchOptions(extrapolate=True), arguments(tmp_path, max_steps=2, warmup_steps=1)
    result = patch_sequential(model_folder, tasks[:2], [tasks[2]], args, alphas=[-0.25, 0.5], options=options)
    expected = {"first": -0.25, "second": -0.25}
    assert result.alpha == json.loads((tmp_path / "selection.json").read_text())["alpha"] == expected
    assert result.curve.alphas == (0.0, Coefficients({"first": -0.25}), Coefficients(expected))
    assert "first -0.25, second -0.25" in (tmp_path / "patched/README.md").read_text()
    theta_0, theta_1 = weights(model_folder), weights(tmp_path / "step-1/theta_1")
    for name, x_1 in theta_1.items():
        moved = theta_0[name].double() - 0.25 * (x_1.double() - theta_0[name].double())
        assert torch.allclose(weights(tmp_path / "step-1/patched")[name].double(), moved, atol=1e-6)


def test_steps_choose_on_tasks_seen_so_far_and_count_the_loss_from_the_start(model_folder, tasks, tmp_path):
    result = sequential(model_folder, tasks, tmp_path, selection="supported_within", tolerance=0.3)
    first, second = (AlphaCurve.from_run(tmp_path / f"step-{i}") for i in (1, 2))
    assert second.tasks == {"patching": ["first", "second"], "supported": ["kept"]}
    floor = first.mean_accuracy(0.0, "supported", "validation") - 3 / 10
    supported = {a: second.mean_accuracy(a, "supported", "validation") for a in second.alphas}
    patching = {a: second.mean_accuracy(a, "patching", "validation") for a in second.alphas}
    within = [a for a in second.alphas if supported[a] >= float(floor)]
    assert within
    assert patching[result.alpha["second"]] == max(patching[a] for a in within)


def test_orders_are_run_and_their_average_is_printed(caplog, model_folder, tasks, tmp_path):
    caplog.set_level("INFO")
    result = sequential(model_folder, tasks, tmp_path, options=PatchOptions(num_orders=2))
    summary = json.loads((tmp_path / "orders.json").read_text())
    histories = [AlphaCurve.from_run(tmp_path / f"order-{i}") for i in (1, 2)]
    assert sorted(tuple(h.alphas[-1]) for h in histories) == [("first", "second"), ("second", "first")]
    for row in summary["tasks"]:
        after = [h.get(h.alphas[-1], row["role"], row["task"], "test").accuracy for h in histories]
        assert row["mean"] == pytest.approx(np.mean(after))
        assert row["std"] == pytest.approx(np.std(after, ddof=1))
    kept = next(row for row in summary["tasks"] if row["task"] == "kept")
    assert f"| kept | supported | {100 * kept['zero_shot']:.2f} | {100 * kept['mean']:.2f} ± " in caplog.text
    assert result.run_folder in (tmp_path / "order-1", tmp_path / "order-2")
    assert "<!doctype html>" in (tmp_path / "report.html").read_text().lower()
    report = report_of([tmp_path])
    assert [run["points"][-1]["coefficients"] for run in report["runs"]] == [dict(h.alphas[-1]) for h in histories]
    assert [row[3] for row in report["tables"][0]["rows"]] == [row["mean"] for row in summary["tasks"]]


def test_orders_are_different_and_no_more_than_there_are(tasks):
    def drawn(number):
        return [tuple(task.name for task in order) for order in draw_orders(tasks, number, seed=1)]

    assert sorted(drawn(6)) == sorted(permutations(task.name for task in tasks))
    assert drawn(3) == drawn(3) == drawn(6)[:3]
    for number in (0, 7):
        with pytest.raises(InputError, match="from 1 to 6 for 3 tasks"):
            drawn(number)


@pytest.mark.parametrize("strategy", [joint, sequential, parallel])
def test_a_killed_run_repeats_nothing_that_was_finished(strategy, model_folder, tasks, tmp_path, monkeypatch):
    train, predict, counted = PaintTrainer.train, Evaluator.predict, {"train": 0, "predict": 0}
    stop = {"train": 10**6, "predict": 10**6}

    def counting(name, function):
        def call(*args, **keys):
            counted[name] += 1
            if counted[name] == stop[name]:
                raise KeyboardInterrupt
            return function(*args, **keys)

        return call

    monkeypatch.setattr(PaintTrainer, "train", counting("train", train))
    monkeypatch.setattr(Evaluator, "predict", counting("predict", predict))
    whole = strategy(model_folder, tasks, tmp_path / "whole")
    needed = dict(counted)
    done = {"train": 0, "predict": 0}
    kills = [("train", needed["train"]), ("predict", 3), ("predict", needed["predict"] // 2)]
    for name, after in kills:
        counted |= dict.fromkeys(counted, 0)
        stop |= dict.fromkeys(stop, 10**6) | {name: after}
        with pytest.raises(KeyboardInterrupt):
            strategy(model_folder, tasks, tmp_path / "torn")
        done = {key: done[key] + counted[key] - (key == name) for key in done}
        stop[name] = 10**6
    counted |= dict.fromkeys(counted, 0)
    result = strategy(model_folder, tasks, tmp_path / "torn")
    assert {key: done[key] + counted[key] for key in done} == needed
    assert result.alpha == whole.alpha
    assert result.curve.results == whole.curve.results
    assert_equal_weights(tmp_path / "torn/patched", tmp_path / "whole/patched")
    counted |= dict.fromkeys(counted, 0)
    strategy(model_folder, tasks, tmp_path / "torn")
    assert counted == {"train": 0, "predict": 0}


@pytest.mark.parametrize("fixture", ["parallel_run", "sequential_run"])
def test_card_tells_the_coefficients(fixture, request):
    from huggingface_hub import ModelCard

    from hf_paint.hub.pull import load_curve

    run = request.getfixturevalue(fixture)
    card = ModelCard.load(run.run_folder / "patched/README.md")
    assert card.data.hf_paint["alpha"] == dict(run.alpha)
    assert ("step" if fixture == "sequential_run" else "changes were added") in card.text
    assert f"first {run.alpha['first']:.2f}" in card.text
    found = load_curve(str(run.run_folder / "patched"))
    assert found.alphas == run.curve.alphas
    for result in run.curve.results:
        assert found.get(result.alpha, result.role, result.task, result.split).correct == result.correct


def test_the_report_shows_combinations_and_steps(parallel_run, sequential_run, model_folder):
    searched, steps = (checked_report(run.run_folder)["runs"][0] for run in (parallel_run, sequential_run))
    check_page(parallel_run.run_folder, searched)
    check_page(sequential_run.run_folder, steps)
    assert (searched["split"], searched["connected"], searched["fine_tuned"]) == ("validation", False, None)
    combinations = [
        a for a in parallel_run.curve.points("validation") if isinstance(a, Coefficients) and any(a.values())
    ]
    assert [point["coefficients"] for point in searched["points"][1:]] == list(map(dict, combinations))
    models, normalised, tried = searched["tables"]
    assert normalised["title"].startswith("Normalised accuracy on test images")
    assert [row[0] for row in models["rows"]][:2] == ["zero-shot", "specialised models"]
    assert [row[:2] for row in tried["rows"][1:]] == [[*alpha.values()] for alpha in combinations]
    assert [point["revision"] for point in steps["points"]] == ["", "step-1", "step-2"]
    assert steps["chosen"] == 2
    theta_0, theta_1 = weights(model_folder), weights(parallel_run.run_folder / "thetas/second/theta_1")
    squares = [(theta_1[key] - x).double().square().sum() for key, x in theta_0.items() if key.startswith("visual_")]
    squares += [(theta_1[key] - x).double().square().sum() for key, x in theta_0.items() if "post_layernorm" in key]
    moved = {(layer["model"], layer["name"]): layer["norm"] for layer in searched["layers"]}
    assert moved["second", "projection"] == pytest.approx(math.sqrt(sum(squares)))
    assert {layer["model"] for layer in steps["layers"]} == {"first", "second"}


def test_one_tensor_of_each_model_is_in_memory_at_a_time(parallel_run, model_folder, monkeypatch):
    """Five models are combined, and each tensor is released before the next one is read."""
    read, alive, most = LazyWeights.__getitem__, WeakSet(), []

    def counted(self, name):
        tensor = read(self, name)
        alive.add(tensor)
        most.append(len(alive))
        return tensor

    folder = parallel_run.run_folder / "thetas/first/theta_1"
    towers = {str(number): StoredTower(folder) for number in range(5)}
    theta_0 = image_tower_weights(load_clip(model_folder)[0])
    target = {name: torch.empty_like(tensor) for name, tensor in theta_0.items()}
    span = Span(theta_0, towers)
    monkeypatch.setattr(LazyWeights, "__getitem__", counted)
    span.write(0.2, target)
    assert len(most) == 5 * len(theta_0)
    assert max(most) <= 2 * 5
    for name, expected in weights(folder).items():
        assert name not in target or torch.allclose(target[name], expected, atol=1e-6)


@pytest.mark.parametrize("patch", [patch_sequential, patch_parallel])
def test_a_task_without_validation_images_cannot_have_a_coefficient(patch, model_folder, tasks, tmp_path):
    blind = replace(tasks[1], splits=Splits(validation=None))
    with pytest.raises(InputError, match="'second' has no validation images for choosing its coefficient"):
        patch(model_folder, [tasks[0], blind], [tasks[2]], arguments(tmp_path / "run"))
    with pytest.raises(InputError, match="needs a `selection`"):
        patch(model_folder, tasks[:1], [], arguments(tmp_path / "run"), selection="none")
    assert not (tmp_path / "run").exists()


def test_a_finished_run_may_be_moved_and_its_orders_run_again(
    sequential_run, model_folder, tasks, tmp_path, monkeypatch
):
    shutil.copytree(sequential_run.run_folder, tmp_path / "there")
    monkeypatch.setattr(PaintTrainer, "train", lambda *_, **__: pytest.fail("a fine-tuning was repeated"))
    assert sequential(model_folder, tasks, tmp_path / "there").curve.results == sequential_run.curve.results


def test_a_run_in_bf16_goes_on_after_a_finished_step(model_folder, tasks, tmp_path):
    def run():
        patch_sequential(model_folder, tasks[:2], [tasks[2]], arguments(tmp_path, bf16=True), alphas=[0.5])

    run()
    expected = weights(tmp_path / "step-2/theta_1")
    for path in (tmp_path / "step-2", tmp_path / "patched"):
        shutil.rmtree(path)
    run()
    assert all(torch.equal(tensor, expected[name]) for name, tensor in weights(tmp_path / "step-2/theta_1").items())


def test_a_step_chooses_among_the_alphas_it_was_started_with(sequential_run, model_folder, tasks, tmp_path):
    """Each step starts from the previously chosen alpha, so different alphas mean a different run."""
    folder = shutil.copytree(sequential_run.run_folder, tmp_path / "run")
    with pytest.raises(InputError, match="a different recipe.yaml \\(alphas: "):
        patch_sequential(model_folder, tasks[:2], [tasks[2]], arguments(folder), alphas=[0.0, 0.1])


def test_a_larger_budget_goes_on_and_chooses_among_everything(
    parallel_run, model_folder, tasks, tmp_path, monkeypatch
):
    shutil.copytree(parallel_run.run_folder, tmp_path / "run")
    monkeypatch.setattr(PaintTrainer, "train", lambda *_, **__: pytest.fail("a fine-tuning was repeated"))
    options = PatchOptions(search_budget=14, search="random")
    args = arguments(tmp_path / "run")
    rule = {"alphas": [0.0, 0.5, 1.0], "selection": "mean"}
    more = patch_parallel(model_folder, tasks[:2], [tasks[2]], args, options=options, **rule)
    points = more.curve.points("validation")
    assert set(parallel_run.curve.points("validation")) < set(points)
    sums = {a: sum(more.curve.mean_accuracy(a, r, "validation") for r in ("patching", "supported")) for a in points}
    assert sums[more.alpha] == max(sums.values())


@pytest.mark.parametrize("strategy", ["sequential", "parallel"])
def test_coefficients_are_rounded_once_to_bf16(strategy, model_folder, tasks, tmp_path):
    patch = {"sequential": patch_sequential, "parallel": patch_parallel}[strategy]
    options = PatchOptions(save_dtype="bfloat16")
    patch(model_folder, tasks[:2], [tasks[2]], arguments(tmp_path), alphas=[0.0, 0.5], options=options)
    assert not (tmp_path / "variants").exists()
    patched = weights(tmp_path / "patched")
    assert {tensor.dtype for tensor in patched.values()} == {torch.bfloat16}
    if strategy == "sequential":
        exact = weights(tmp_path / "step-2/patched")
        assert all(torch.equal(patched[name], exact[name].bfloat16()) for name in exact)


@pytest.mark.parametrize(
    ("patch", "options", "message"),
    [
        (
            patch_joint,
            {"search": "random"},
            "`search` needs `strategy: parallel`, got `strategy: joint`",
        ),
        (patch_joint, {"num_orders": 2}, "`num_orders` needs `strategy: sequential`"),
        (patch_parallel, {"sweep": "adaptive"}, "need a line of alphas"),
        (patch_parallel, {"method": "ties", "search_budget": 9}, "the method 'ties' has a single alpha"),
        (patch_sequential, {"num_orders": 3}, "from 1 to 2 for 2 tasks"),
    ],
)
def test_options_of_another_strategy_are_refused(patch, options, message, model_folder, tasks, tmp_path):
    with pytest.raises(InputError, match=message):
        patch(model_folder, tasks[:2], [tasks[2]], arguments(tmp_path / "run"), options=PatchOptions(**options))
    assert not (tmp_path / "run").exists()
