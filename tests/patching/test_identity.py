"""A run belongs to the content that it was started with, wherever that is stored."""

import json
import logging
import os
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from drawn_tasks import write_task
from hf_paint import InputError, PaintTrainer, PatchOptions, Task, patch_parallel, patch_sequential, patch_single
from hf_paint.evaluation.evaluator import Evaluator
from hf_paint.merging.averaging import WeightAveraging
from hf_paint.results.run_folder import RunFolder
from hf_paint.weights.manifest import MANIFEST
from patch_runs import arguments, weights
from stored_rows import brighten_one, drop_one, relabel_one, rewrite, swap_two


SHORT = {"max_steps": 2, "warmup_steps": 1}
NAMES = ("colours", "others", "elsewhere")


@pytest.fixture(scope="module")
def finished(model_folder, tmp_path_factory):
    """A folder with the base, the data and a finished run."""
    folder = tmp_path_factory.mktemp("identity")
    shutil.copytree(model_folder, folder / "base")
    for seed, name in enumerate(NAMES):
        write_task(folder / "data", name, seed=7 * seed)
    patch(folder)
    return folder


@pytest.fixture
def copied(finished, tmp_path):
    """A copy of this folder, where everything has another path."""
    return Path(shutil.copytree(finished, tmp_path / "copied"))


@pytest.fixture
def idle(monkeypatch):
    """Neither training nor evaluation may begin."""
    monkeypatch.setattr(PaintTrainer, "train", None)
    monkeypatch.setattr(Evaluator, "predict", None)


def tasks_in(folder):
    return [read_task(folder / "data", name) for name in NAMES]


def read_task(folder, name):
    files = {split: str(folder / f"{name}-{split}.parquet") for split in ("train", "test")}
    keys = {"name": name, "dataset": "parquet", "templates": ["a photo of a {}."]}
    return Task.from_dict(keys | {"data_files": files})


def patch(folder, **changes):
    colours, others, elsewhere = tasks_in(folder)
    options = PatchOptions(transfer_tasks=[elsewhere], num_examples=0)
    args = arguments(folder / "run", **SHORT | changes)
    return patch_single(str(folder / "base"), colours, [others], args, alphas=[0.0, 1.0], options=options)


@pytest.mark.parametrize(
    ("file", "change", "named"),
    [
        ("colours-train", brighten_one, "the (train|validation) split of task 'colours'"),
        ("colours-train", drop_one, "the train split of task 'colours', the validation split of task 'colours'"),
        ("colours-test", relabel_one, "the test split of task 'colours'"),
        ("others-test", swap_two, "the test split of task 'others'"),
        ("others-train", drop_one, "the validation split of task 'others'"),
        ("elsewhere-test", brighten_one, "the test split of task 'elsewhere'"),
    ],
)
def test_other_data_under_the_same_path_are_refused(copied, idle, file, change, named):
    before = (copied / "run/results.jsonl").read_bytes()
    rewrite(copied / f"data/{file}.parquet", change)
    with pytest.raises(InputError, match=f"but since it started, {named} changed.*Choose another output_dir"):
        patch(copied)
    assert (copied / "run/results.jsonl").read_bytes() == before


def test_a_checkpoint_is_not_resumed_with_other_data(copied, idle):
    """A run killed during training has only a recipe, an identity and a checkpoint."""
    for part in ("theta_1", "results.jsonl", "correct", "patched", "selection.json", "card.json"):
        path = copied / "run" / part
        shutil.rmtree(path) if path.is_dir() else path.unlink()
    rewrite(copied / "data/colours-train.parquet", relabel_one)
    with pytest.raises(InputError, match="split of task 'colours'"):
        patch(copied)


def test_moved_and_touched_files_are_the_same_run(copied, monkeypatch):
    """So is a run of which only rows have changed that it does not read."""
    before = (copied / "run/theta_1/model.safetensors").read_bytes()
    rewrite(copied / "data/elsewhere-train.parquet", drop_one)
    for path in (copied / "data").iterdir():
        os.utime(path, (1, 1))
    monkeypatch.setattr(PaintTrainer, "train", None)
    patch(copied)
    assert (copied / "run/theta_1/model.safetensors").read_bytes() == before


@pytest.mark.parametrize("tensor", ["text_model.encoder.layers.0.mlp.fc1.weight", "logit_scale"])
def test_another_text_tower_under_the_same_path_is_refused(copied, idle, tensor):
    changed = weights(copied / "base")
    changed[tensor] = changed[tensor] * 1.5
    save_file(changed, copied / "base/model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="since it started, the base model changed"):
        patch(copied)


@pytest.mark.parametrize(
    ("file", "key", "value", "named"),
    [
        ("processor_config.json", "image_mean", [0.1, 0.2, 0.3], "the image processor"),
        ("config.json", "hidden_act", "gelu", "the config of the base model"),
    ],
)
def test_another_configuration_of_the_base_is_refused(copied, idle, file, key, value, named):
    path = copied / "base" / file
    config = json.loads(path.read_text())
    place = config["image_processor"] if "image_processor" in config else config["vision_config"]
    place[key] = value
    path.write_text(json.dumps(config))
    with pytest.raises(InputError, match=f"since it started, {named} changed"):
        patch(copied)


def test_a_run_that_does_not_say_what_it_read_is_refused(copied, idle):
    (copied / "run/identity.json").unlink()
    with pytest.raises(InputError, match=r"an earlier version of hf_paint started, without identity.json"):
        patch(copied)
    for path in (copied / "run").iterdir():
        if path.name != "recipe.yaml":
            shutil.rmtree(path) if path.is_dir() else path.unlink()
    with pytest.raises(TypeError):  # nothing but the recipe is there, so training begins
        patch(copied)


def test_another_theta_1_in_the_folder_is_refused(copied, idle):
    changed = weights(copied / "run/theta_1")
    changed["visual_projection.weight"] += 0.1
    save_file(changed, copied / "run/theta_1/model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match=r"theta_1/model\.safetensors has other bytes than when it was saved"):
        patch(copied)
    (copied / "run/theta_1" / MANIFEST).unlink()  # as in a run of an earlier version
    with pytest.raises(InputError, match="contains records for another theta_1 than the one that is there now"):
        patch(copied)


def test_scores_of_a_soup_belong_to_its_thetas(model_folder, finished, tmp_path):
    """Scores are stored under the names of the models, which may be given other weights."""
    colours, others, _ = tasks_in(finished)
    thetas = {name: str(tmp_path / name) for name in ("first", "second")}
    base = weights(model_folder)
    for seed, folder in enumerate(thetas.values()):
        shutil.copytree(model_folder, folder)
        write_theta(folder, base, seed)

    def soup():
        options = PatchOptions(method="greedy_soup", thetas=thetas, num_examples=0)
        return patch_single(
            model_folder, colours, [others], arguments(tmp_path / "run", **SHORT), alphas=[1.0], options=options
        )

    soup()
    thetas["first"] = str(shutil.copytree(thetas["first"], tmp_path / "moved"))
    soup()
    write_theta(thetas["first"], base, seed=2)
    with pytest.raises(InputError, match="since it started, the model 'first' in `thetas` changed"):
        soup()


def write_theta(folder, base, seed):
    torch.manual_seed(seed)
    changed = {n: x + 0.01 * torch.randn_like(x) if n.startswith("vision_model") else x for n, x in base.items()}
    save_file(changed, Path(folder) / "model.safetensors", metadata={"format": "pt"})


@pytest.mark.parametrize("strategy", [patch_parallel, patch_sequential])
def test_strategies_over_several_tasks_are_bound_to_all_of_them(strategy, finished, tmp_path, model_folder):
    """Killed before the second task is trained; then its data change."""
    shutil.copytree(finished / "data", tmp_path / "data")
    colours, others, elsewhere = tasks_in(tmp_path)
    keys = {"options": PatchOptions(search_budget=4)} if strategy is patch_parallel else {}

    def run():
        args = arguments(tmp_path / "run", **SHORT)
        return strategy(model_folder, [colours, others], [elsewhere], args, alphas=[0.0, 1.0], **keys)

    train, calls = PaintTrainer.train, []

    def killed(self, *args, **kwargs):
        calls.append(self)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return train(self, *args, **kwargs)

    with pytest.MonkeyPatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(PaintTrainer, "train", killed)
        run()
    rewrite(tmp_path / "data/others-train.parquet", relabel_one)
    with pytest.raises(InputError, match="split of task 'others'"):
        run()


def averaged(finished, model_folder, folder):
    """A run with checkpoints at steps 2 and 4, of which only the last one is kept."""
    colours, others, _ = tasks_in(finished)
    args = arguments(folder, max_steps=5, warmup_steps=1, save_steps=2, save_total_limit=1)
    options = PatchOptions(method={"ema": {"decay": 0.5}}, num_examples=0)
    return patch_single(model_folder, colours, [others], args, alphas=[1.0], options=options)


@pytest.fixture(scope="module")
def whole(finished, model_folder, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    averaged(finished, model_folder, folder)
    return folder


@pytest.mark.parametrize("broken", ["average", "state"])
def test_training_resumes_from_the_last_whole_checkpoint(whole, finished, model_folder, tmp_path, caplog, broken):
    """Killed between a checkpoint and its average, or while its state is written; equal to an uninterrupted run."""
    save, calls = WeightAveraging.save, []

    def killed(self, checkpoint):
        calls.append(checkpoint)
        if len(calls) == 1 or broken == "state":
            save(self, checkpoint)
        if len(calls) == 2:
            if broken == "state":
                (checkpoint / "trainer_state.json").write_text('{"epoch": 0.')
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(WeightAveraging, "save", killed)
        averaged(finished, model_folder, tmp_path)
    assert {path.name for path in tmp_path.glob("checkpoint-*")} == {"checkpoint-2", "checkpoint-4"}
    with caplog.at_level(logging.WARNING):
        averaged(finished, model_folder, tmp_path)
    assert "checkpoint-4 is removed because it is not whole" in caplog.text
    for path in ("theta_1/model.safetensors", "results.jsonl"):
        assert (tmp_path / path).read_bytes() == (whole / path).read_bytes()


def test_a_tokenizer_in_use_is_the_same_tokenizer(model, processor, finished, tmp_path):
    """Padding is stored in it; a processor in memory is used again in the next run."""
    colours, others, _ = tasks_in(finished)
    for texts in (["a"], ["a", "a longer text"]):
        args = arguments(tmp_path, **SHORT)
        options = PatchOptions(processor=processor, num_examples=0)
        patch_single(model, colours, [others], args, alphas=[1.0], options=options)
        processor.tokenizer(texts, padding="max_length", truncation=True, max_length=9)


def test_only_whole_checkpoints_are_resumed_from(tmp_path):
    for name, files in {
        "checkpoint-9": ["trainer_state.json", "scheduler.pt", "ema.safetensors"],
        "checkpoint-10": ["trainer_state.json", "scheduler.pt"],
        "checkpoint-11": ["trainer_state.json"],
        "checkpoint-12": ["scheduler.pt"],
        "checkpoint-best": ["trainer_state.json", "scheduler.pt"],
    }.items():
        (tmp_path / name).mkdir()
        for file in files:
            write = {".safetensors": save_file, ".pt": torch.save}.get(Path(file).suffix)
            if write is None:
                (tmp_path / name / file).write_text("{}")
            else:
                write({"x": torch.zeros(1)}, tmp_path / name / file)
    folder = RunFolder(tmp_path, write=True)
    assert folder.last_checkpoint() == str(tmp_path / "checkpoint-10")
    assert folder.last_checkpoint(["ema.safetensors"]) == str(tmp_path / "checkpoint-9")
    (tmp_path / "checkpoint-10/trainer_state.json").write_text('{"epoch": 1')
    assert folder.last_checkpoint() == str(tmp_path / "checkpoint-9")
