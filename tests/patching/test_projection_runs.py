"""Sequential patching by projection: what each step trains, merges and chooses, its history, card and resumption."""

import json
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
import yaml

from drawn_tasks import write_task
from hf_paint import PatchOptions, PatchResult
from hf_paint.patching import projecting
from hf_paint.patching.plan import plan
from hf_paint.patching.recipe import Rule
from hf_paint.results.alphas import Coefficients
from hf_paint.results.curve import AlphaCurve
from hf_paint.training.trainer import PaintTrainer
from opcm import opcm_written_out
from patch_runs import ALPHAS, arguments, sequential, weights


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    return [write_task(folder, name, seed=seed) for name, seed in (("first", 0), ("second", 3), ("kept", 7))]


class Orders(NamedTuple):
    """A run in both orders of two tasks, the folder of each by the task that came first, and the trainings counted."""

    result: PatchResult
    folders: dict[str, Path]
    trainings: list[int]


@pytest.fixture(scope="module")
def orders(model_folder, tasks, tmp_path_factory):
    """The run is killed in its first merge, and started again."""
    folder, options = tmp_path_factory.mktemp("orders"), PatchOptions(num_orders=2, num_examples=1, merge="projection")
    train, trainings = PaintTrainer.train, []

    def counting(*args, **keys):
        trainings.append(len(trainings) + 1)
        return train(*args, **keys)

    def killed(*args, **keys):
        assert len(trainings) == 2
        raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patching:
        patching.setattr(PaintTrainer, "train", counting)
        with patching.context() as merging:
            merging.setattr(projecting, "merge_by_projection", killed)
            with pytest.raises(KeyboardInterrupt):
                sequential(model_folder, tasks, folder, options=options)
        result = sequential(model_folder, tasks, folder, options=options)
    found = {yaml.safe_load((path / "step-1/step.yaml").read_text())["step"]: path for path in folder.glob("order-*")}
    assert sorted(found) == ["first", "second"]
    return Orders(result, found, trainings)


def test_each_task_is_fine_tuned_from_the_base_whatever_came_before(orders, model_folder):
    folders = orders.folders
    for first, second in (("first", "second"), ("second", "first")):
        alone = weights(folders[first] / "step-1/theta_1")
        later = weights(folders[second] / f"step-2/thetas/{first}/theta_1")
        assert all(torch.equal(x, later[name]) for name, x in alone.items())
    steps = [yaml.safe_load((path / f"step-{n}/step.yaml").read_text()) for path in folders.values() for n in (1, 2)]
    assert {step["model"] for step in steps} == {str(model_folder)}
    assert {step["merge"] for step in steps} == {"projection"}


def test_a_step_merges_and_chooses_a_point_on_the_line_to_what_it_merged(orders, model_folder):
    theta_0, merged = weights(model_folder), {}
    for first, folder in orders.folders.items():
        other = {"first": "second", "second": "first"}[first]
        thetas = {first: folder / "step-1/theta_1", other: folder / f"step-2/thetas/{other}/theta_1"}
        tower = [name for name in theta_0 if name.startswith("vis")]
        models = [{name: weights(path)[name] for name in tower} for path in thetas.values()]
        expected = opcm_written_out({name: theta_0[name] for name in tower}, dict(enumerate(models)), 0.5)
        merged[first], patched = weights(folder / "step-2/theta_1"), weights(folder / "patched")
        alpha = json.loads((folder / "selection.json").read_text())["alpha"][other]
        for name, x in expected.items():
            torch.testing.assert_close(merged[first][name].double(), x, rtol=0, atol=1e-6)
            point = theta_0[name].double() + alpha * (merged[first][name].double() - theta_0[name].double())
            torch.testing.assert_close(patched[name].double(), point, rtol=0, atol=1e-6)
    assert any(not torch.equal(x, merged["second"][name]) for name, x in merged["first"].items())
    assert orders.result.run_folder in orders.folders.values()


def test_the_history_and_the_card_say_what_happened(orders):
    folders = orders.folders
    folder = folders["first"]
    alphas = json.loads((folder / "selection.json").read_text())["alpha"]
    curve = AlphaCurve.from_run(folder)
    assert curve.alphas == (0.0, Coefficients({"first": alphas["first"]}), Coefficients(alphas))
    card = (folder / "patched/README.md").read_text()
    assert "each time from the original weights" in card
    assert "[OPCM](https://arxiv.org/abs/2501.09522)" in card
    assert "\nmerge: projection\n" in card
    summary = json.loads((folder.parent / "orders.json").read_text())
    assert len(summary["orders"]) == 2
    assert all(row["std"] is not None for row in summary["tasks"])


def test_a_killed_merge_repeated_no_training(orders):
    assert orders.trainings == [1, 2, 3, 4]


def test_the_dry_run_counts_the_models_that_are_kept(orders, model_folder, tasks, tmp_path, monkeypatch):
    """In each of two orders: a model per task, the merged one of the second step, and the patched ones."""
    monkeypatch.setattr("hf_paint.patching.timing.STEPS", 2)
    options, rule = (
        PatchOptions(num_orders=2, num_examples=0, merge="projection"),
        Rule(alphas=ALPHAS, selection="mean"),
    )
    keys = {"strategy": "sequential", "rule": rule, "options": options}
    disk = plan(model_folder, tasks[:2], tasks[2:], arguments(tmp_path), **keys).disk
    folder = orders.result.run_folder.parent
    kept = {
        "theta_1": [*folder.glob("order-*/**/theta_1")],
        "patched in each step": [*folder.glob("order-*/step-*/patched")],
        "patched": [*folder.glob("order-*/patched")],
    }
    assert [len(folders) for folders in kept.values()] == [6, 4, 2]
    for what, folders in kept.items():
        size = sum(path.stat().st_size for each in folders for path in each.glob("*.safetensors"))
        assert disk[what] == pytest.approx(size, rel=0.15)
