"""A plan against the run that follows it, and what a run says about what it reuses."""

import json
import logging
import shutil
from dataclasses import replace

import numpy as np
import pytest
from datasets import Dataset
from tqdm.auto import tqdm

from drawn_tasks import CLASS_NAMES, write_task
from hf_paint import PaintTrainingArguments, PatchOptions, patch_parallel, patch_sequential, patch_single
from hf_paint.data.splits import load_splits
from hf_paint.evaluation.evaluator import Evaluator
from hf_paint.patching.concerns import concerns
from hf_paint.patching.costs import trainings_of
from hf_paint.patching.fine_tuning import make_trainer, trained_copy
from hf_paint.patching.plan import plan
from hf_paint.patching.progress import describe_progress
from hf_paint.patching.recipe import Rule
from hf_paint.patching.run import PatchRun
from hf_paint.patching.start import prepare, resolve
from hf_paint.patching.timing import ZeroShot
from hf_paint.results.progress import Display, progress
from hf_paint.results.run_folder import RunFolder
from patch_runs import arguments
from scenes_of_colours import write_scenes
from terminal import terminal


ALPHAS = [0.0, 0.5, 1.0]
OPTIONS = PatchOptions(num_examples=0)
KEYS = {"max_steps": 3, "save_steps": 2, "warmup_steps": 1, "per_device_train_batch_size": 20}


@pytest.fixture(scope="module")
def three(tmp_path_factory):
    """Two patching tasks of different sizes and a supported task."""
    folder = tmp_path_factory.mktemp("planned")
    sizes = {"colours": 80, "shades": 40, "others": 60}
    return [
        write_task(folder, name, seed=seed, train=size, test=20) for seed, (name, size) in enumerate(sizes.items())
    ]


@pytest.fixture
def counts(monkeypatch):
    """The numbers of images that pass through the image tower to be evaluated; few steps are timed."""
    monkeypatch.setattr("hf_paint.patching.timing.STEPS", 2)
    numbers, gather = [], Evaluator._gather

    def counting(self, tower, task, split, function, indices=None):
        numbers.append(len(task.images[split]) if indices is None else len(indices))
        return gather(self, tower, task, split, function, indices)

    monkeypatch.setattr(Evaluator, "_gather", counting)
    return numbers


def assert_costs_as_planned(found, result, counts):
    states = [json.loads(path.read_text()) for path in result.run_folder.rglob("checkpoint-3/trainer_state.json")]
    assert [state["global_step"] for state in states] == [training.steps for training in found.trainings]
    written = sum(path.stat().st_size for path in result.run_folder.rglob("checkpoint-*/*"))
    assert found.disk["checkpoints"] == pytest.approx(written, rel=0.35)
    assert 0.6 * found.num_images <= sum(counts) <= found.num_images
    assert found.training_seconds > 0
    assert found.evaluation_seconds > 0


def test_a_plan_costs_what_the_run_costs_and_a_run_says_what_it_reuses(model_folder, three, tmp_path, counts, caplog):
    caplog.set_level(logging.INFO, "hf_paint")
    args, run = arguments(tmp_path / "run", **KEYS), RunFolder(tmp_path / "run")
    found = plan(model_folder, three[:1], three[2:], args, rule=Rule(alphas=ALPHAS), options=OPTIONS)
    assert not run.path.exists()
    assert found.progress == []
    assert found.zero_shot[0].num_images == len(load_splits(three[0])["validation"].rows)
    counts.clear()
    result = patch_single(model_folder, three[0], three[2:], args, alphas=ALPHAS, options=OPTIONS)
    assert_costs_as_planned(found, result, counts)
    assert sum(counts) == found.num_images
    first = result.curve.get(0.0, "patching", "colours", "validation")
    assert (found.zero_shot[0].correct, found.zero_shot[0].total) == (first.correct, first.total)
    assert "kept" not in caplog.text

    caplog.clear()
    patch_single(model_folder, three[0], three[2:], args, alphas=ALPHAS, options=OPTIONS)
    assert [record.message for record in caplog.records] == [
        f"Nothing to train or measure: the run in {run.path} is finished."
    ]
    fewer = plan(
        model_folder, three[:1], three[2:], args, rule=Rule(alphas=ALPHAS), options=replace(OPTIONS, max_eval_images=4)
    )
    assert fewer.progress == ["theta_1: kept."]  # its records are of other images
    by_mean = PatchRun(replace(found.run.recipe, rule=Rule(alphas=ALPHAS, selection="mean")), found.run.tasks)
    assert describe_progress(by_mean) == ["theta_1: kept.", "Sweep: 3 of 3 alphas are on record."]
    run.results.write_text("".join(run.results.read_text().splitlines(keepends=True)[:-1]))
    assert describe_progress(found.run) == ["theta_1: kept.", "Sweep: 2 of 3 alphas are on record."]
    for name in ("theta_1", "patched", "checkpoint-3"):
        shutil.rmtree(run.path / name)
    run.results.unlink()
    assert describe_progress(found.run) == ["theta_1: training resumes from step 2."]


@pytest.mark.parametrize(
    ("patch", "number", "options"),
    [
        (patch_sequential, 2, OPTIONS),
        (patch_parallel, 2, PatchOptions(num_examples=0, search_budget=4)),
        (patch_parallel, 1, OPTIONS),  # all alphas, whatever the budget
    ],
)
def test_a_plan_of_such_tasks_costs_what_the_run_costs(patch, number, options, model_folder, three, tmp_path, counts):
    strategy, args = patch.__name__.removeprefix("patch_"), arguments(tmp_path / "run", **KEYS)
    keys = {"strategy": strategy, "rule": Rule(alphas=ALPHAS), "options": options}
    found = plan(model_folder, three[:number], three[2:], args, **keys)
    counts.clear()
    result = patch(model_folder, three[:number], three[2:], args, alphas=ALPHAS, options=options)
    assert_costs_as_planned(found, result, counts)


def prepared(model_folder, patching, supported, args, **keys):
    """A run with its train splits and its trainings."""
    tasks = {"patching_tasks": patching, "supported_tasks": supported}
    run = prepare(resolve(keys.pop("strategy", "single"), model_folder, args, **tasks, **keys, options=OPTIONS))
    train = {task.name: load_splits(task, ("train",))["train"] for task in patching}
    return run, train, trainings_of(run.recipe, train)


def test_epochs_of_a_joint_training_follow_its_sampling(model_folder, three, tmp_path):
    """With 3 steps of 20 images: 60 images of 72 and 36, in proportion or half from each."""
    args = arguments(tmp_path / "run", **KEYS)
    run, train, _ = prepared(model_folder, three[:2], three[2:], args, strategy="joint", rule=Rule(alphas=ALPHAS))
    for sampling, epochs in (("proportional", [60 / 108, 60 / 108]), ("uniform", [30 / 72, 30 / 36])):
        [training] = trainings_of(replace(run.recipe, args=args.with_changes(task_sampling=sampling)), train)
        assert [*training.epochs.values()] == pytest.approx(epochs)


def test_epochs_count_the_smaller_last_step(model_folder, three, tmp_path):
    """An epoch of 72 images takes 4 steps of up to 20, the last of 12: 7 steps are one epoch and 60 images."""
    for keys, steps, epochs in (
        ({"max_steps": 7}, 7, 1 + 60 / 72),
        ({"max_steps": 7, "dataloader_drop_last": True}, 7, (2 * 60 + 20) / 72),
        ({"max_steps": -1, "num_train_epochs": 1.5}, 6, 1 + 40 / 72),
    ):
        args = arguments(tmp_path / "run", **KEYS | {"warmup_steps": 1} | keys)
        _, _, [training] = prepared(model_folder, three[:1], three[2:], args, rule=Rule(alphas=ALPHAS))
        assert training.steps == steps
        assert [*training.epochs.values()] == pytest.approx([epochs])


def test_parts_of_epochs_are_the_steps_of_the_trainer(model_folder, three, tmp_path):
    """72 images in steps of 20 are 4 steps per epoch; 1.3 epochs are 6 steps, not 8."""
    keys = {"num_train_epochs": 1.3, "warmup_steps": 0, "per_device_train_batch_size": 20, "save_strategy": "no"}
    args = PaintTrainingArguments(output_dir=str(tmp_path), use_cpu=True, disable_tqdm=True, report_to=[], **keys)
    run, _, [training] = prepared(model_folder, three[:1], three[2:], args, rule=Rule(alphas=ALPHAS))
    model, head = trained_copy(run.base)
    trainer = make_trainer(run, model, head, tasks=three[:1], args=args, callbacks=[])
    trainer.train()
    assert training.steps == trainer.state.global_step == 6
    assert training.epochs["colours"] == pytest.approx(1 + 40 / 72)


def test_concerns(model_folder, tmp_path):
    few = write_task(tmp_path / "data", "few", train=30, test=8)
    kept = write_task(tmp_path / "data", "kept", train=30, test=8, seed=1)
    args = arguments(tmp_path / "run", max_steps=200, warmup_steps=100, per_device_train_batch_size=30)
    rule = Rule(alphas=ALPHAS, selection="supported_within", tolerance=0.01)
    sample = ZeroShot(task="few", split="validation", correct=199, total=200, num_images=300)
    said = " ".join(concerns(*prepared(model_folder, [few], [kept], args, rule=rule), [sample]))
    assert "few: 200 steps of 30 images are 200 epochs of its 27 pictures." in said
    assert "25 epochs would be --max_steps 25 --warmup_steps 2." in said
    assert "few: Validation images: only 3, each of which counts 33.3 points." in said
    assert "kept: the tolerance of 1 point is less than one of its 3 validation images (33.3 points)" in said
    assert "few: the model already classifies 199 of 200 images correctly" in said
    labels = set(load_splits(few)["train"].labels()) - set(load_splits(few)["validation"].labels())
    assert f"few: Classes without validation images: {len(labels)} of 4" in said


def test_a_plan_of_images_with_several_classes_counts_those_with_a_class(model_folder, three, tmp_path):
    scenes = write_scenes(tmp_path, splits={"validation": "auto"})
    args = arguments(tmp_path / "run", max_steps=1, warmup_steps=0, freeze_tower=True, train_head=True)
    found = plan(model_folder, [scenes], three[2:], args, rule=Rule(alphas=[1.0], selection="mean"), options=OPTIONS)
    labels = load_splits(scenes)["validation"].labels()
    assert found.zero_shot[0].total == found.zero_shot[0].num_images == (labels >= 0).any(axis=1).sum() < len(labels)
    missing = [name for label, name in enumerate(CLASS_NAMES) if not (labels == label).any()]
    assert any(f"scenes: Classes without validation images: {len(missing)} of 4" in line for line in found.concerns)


def test_an_interval_of_a_sample_is_wilsons():
    """(p + z^2/2n +- z sqrt(p(1-p)/n + z^2/4n^2)) / (1 + z^2/n)."""
    n, share, z = 200, 0.9, 1.959964
    centre, half = share + z**2 / (2 * n), z * np.sqrt(share * (1 - share) / n + (z / (2 * n)) ** 2)
    sample = ZeroShot(task="a", split="test", correct=180, total=n, num_images=1000)
    assert sample.interval == pytest.approx(((centre - half) / (1 + z**2 / n), (centre + half) / (1 + z**2 / n)))


def test_one_switch_hides_every_bar(capsys):
    rows = Dataset.from_dict({"number": [1, 2]})
    with progress(Display.HIDDEN):
        rows.map(lambda row: {"twice": 2 * row["number"]})
        list(tqdm([1, 2], disable=False))
        with progress(Display.BAR):
            list(tqdm([1, 2]))
    assert capsys.readouterr().err == ""
    list(tqdm([1, 2]))
    assert "2/2" in capsys.readouterr().err


@pytest.mark.parametrize("disabled", [True, False])
def test_with_disable_tqdm_a_run_has_lines_and_no_bars(disabled, model_folder, tmp_path, monkeypatch):
    task = write_task(tmp_path / "data", f"own_{disabled}".lower(), train=30, test=8, seed=40 + disabled)
    args = arguments(tmp_path / "run", max_steps=1, warmup_steps=0, disable_tqdm=disabled)
    monkeypatch.setattr("hf_paint.results.progress.DELAY", 0.0)
    with terminal(monkeypatch) as shown:
        patch_single(model_folder, task, [], args, alphas=[1.0], selection="none", options=OPTIONS)
    stages = [line.split()[1].rstrip(":") for line in shown.screen]
    assert stages == ["heads", "decode", "train", "sweep", "write"]
    assert [line.split()[0] for line in shown.screen] == [f"{number}/5" for number in range(1, 6)]
    assert ("%|" in shown.text) is not disabled


def test_pictures_that_are_decoded_once_are_part_of_the_costs(model_folder, three, tmp_path, monkeypatch, counts):
    """72 pictures of 40 x 36; the few steps that are timed decide like the whole training."""
    monkeypatch.setattr("hf_paint.training.augmenting.MIN_SAVED", 8 * 72)
    args = PaintTrainingArguments(output_dir=str(tmp_path / "run"), use_cpu=True, num_train_epochs=9, warmup_steps=1)
    found = plan(model_folder, three[0], [three[2]], args, rule=Rule(alphas=ALPHAS), options=OPTIONS)
    assert found.disk["pictures to train on, in the cache"] == 72 * 40 * 36 * 3
    shorter = args.with_changes(num_train_epochs=8)
    found = plan(model_folder, three[0], [three[2]], shorter, rule=Rule(alphas=ALPHAS), options=OPTIONS)
    assert "pictures to train on, in the cache" not in found.disk


def test_a_run_warns_of_what_the_dry_run_warns_of(model_folder, tmp_path, caplog, monkeypatch):
    """Both say the same, except for what only a measurement can tell."""
    monkeypatch.setattr("hf_paint.patching.concerns.multiplies_faster", lambda dtype, times: False)
    few = write_task(tmp_path / "data", "dull", train=30, test=8)
    kept = write_task(tmp_path / "data", "loved", train=30, test=8, seed=1)
    args = arguments(tmp_path / "run", max_steps=2, warmup_steps=1, bf16=True)
    options = PatchOptions(precision="bf16", num_examples=0)
    found = plan(model_folder, [few], [kept], args, rule=Rule(alphas=ALPHAS), options=options)
    assert not [record for record in caplog.records if record.getMessage() in found.concerns]
    patch_single(model_folder, few, [kept], args, alphas=ALPHAS, options=options)
    said = [record.getMessage() for record in caplog.records if record.levelname == "WARNING"]
    expected = [line for line in found.concerns if "already classifies" not in line]
    assert [line for line in said if line in expected] == expected
    assert any("only 3, each of which counts 33.3 points" in line for line in expected)
    assert [line for line in expected if "in bf16 takes more than twice" in line][1].startswith("Evaluation")
