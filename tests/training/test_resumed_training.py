"""Trainings that are killed at awkward moments, and checkpoints that are damaged."""

import json
import logging
import os
import shutil
from copy import deepcopy
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from transformers import EarlyStoppingCallback

from drawn_tasks import write_task
from hf_paint import EMACallback, InputError, PaintTrainer, SWACallback
from hf_paint.errors import JobError
from hf_paint.models.loading import load_clip
from hf_paint.patching.trained_head import train_head_alone
from hf_paint.results.checkpoints import last_checkpoint
from hf_paint.results.run_folder import RunFolder
from training_runs import arguments, largest_difference, losses, train


KINDS = {
    "constant": ({"lr_scheduler_type": "constant_with_warmup"}, list),
    "ema": ({}, lambda: [EMACallback(0.5)]),
    "swa": ({}, lambda: [SWACallback(0.5, every=1)]),
    "lora": ({"use_peft": True, "lora_r": 2}, list),
    "head": ({"train_head": True}, list),
}
SHORT = {"max_steps": 3, "warmup_steps": 1, "save_strategy": "steps", "save_steps": 1}


def weights(trainer):
    return {name: x.clone() for name, x in trainer.model.state_dict().items()}


@pytest.mark.parametrize("kind", KINDS)
def test_a_training_killed_after_its_last_step_takes_no_other(kind, model, processor, task, tmp_path):
    """Its last checkpoint is there, theta_1 is not: twice, resuming gives the weights of the undisturbed training."""
    keys, callbacks = KINDS[kind]
    whole = train(deepcopy(model), processor, task, tmp_path, callbacks=callbacks(), **SHORT, **keys)
    expected = weights(whole)
    for _ in range(2):
        again = train(deepcopy(model), processor, task, tmp_path, True, callbacks(), **SHORT, **keys)
        assert again.state.global_step == 3
        found = weights(again)
        assert all(torch.equal(found[name], x) for name, x in expected.items())
        assert {path.name for path in tmp_path.glob("checkpoint-*")} == {
            "checkpoint-1",
            "checkpoint-2",
            "checkpoint-3",
        }


class Watched(PaintTrainer):
    """A trainer whose accuracy never rises after the first evaluation."""

    def evaluate(self, *args, **kwargs):
        metrics = {"eval_mean_accuracy": 1.0 / self.state.global_step}
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics


def test_a_training_that_was_stopped_early_stays_stopped(model, processor, task, tmp_path):
    keys = {**SHORT, "max_steps": 9, "eval_strategy": "steps", "eval_steps": 1}
    keys |= {"metric_for_best_model": "mean_accuracy", "greater_is_better": True}
    stopping = EarlyStoppingCallback(early_stopping_patience=2)

    def trained(model, resume):
        options = {"train_task": task, "processing_class": processor, "callbacks": [stopping]}
        trainer = Watched(model, arguments(tmp_path, **keys), eval_tasks=[task], **options)
        trainer.train(resume_from_checkpoint=resume)
        return trainer

    resumed, other = deepcopy(model), deepcopy(model)
    assert trained(model, None).state.global_step == 3
    assert trained(resumed, True).state.global_step == 3
    shutil.rmtree(tmp_path / "checkpoint-3")
    stopping.early_stopping_patience_counter = 0
    assert trained(other, True).state.global_step == 3
    assert largest_difference(model, resumed) == largest_difference(model, other) == 0


@pytest.fixture(scope="module")
def saved(model_folder, processor, tmp_path_factory):
    """A training of three steps with a checkpoint of each."""
    folder = tmp_path_factory.mktemp("saved")
    task = write_task(folder / "data")
    model, *_ = load_clip(model_folder)
    train(model, processor, task, folder / "run", callbacks=[EMACallback(0.5)], **SHORT)
    return folder / "run", task, model


def empty(path):
    path.write_bytes(b"")


def truncate(path):
    path.write_bytes(path.read_bytes()[:-7])


def flip(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


def replace_by_a_folder(path):
    path.unlink()
    path.mkdir()


FILES = ["trainer_state.json", "model.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "ema.safetensors"]


@pytest.mark.parametrize("damage", [empty, truncate, flip, Path.unlink, replace_by_a_folder])
@pytest.mark.parametrize("name", FILES)
def test_a_damaged_checkpoint_is_passed_over_and_removed(name, damage, saved, tmp_path, caplog):
    run = tmp_path / "run"
    shutil.copytree(saved[0], run)
    damage(run / "checkpoint-3" / name)
    with caplog.at_level(logging.WARNING):
        assert last_checkpoint(run, ["ema.safetensors"], remove=True) == run / "checkpoint-2"
    [line] = [record.getMessage() for record in caplog.records]
    assert "checkpoint-3 is removed because it is not whole" in line
    assert name in line
    assert not (run / "checkpoint-3").exists()


@pytest.mark.parametrize(
    ("name", "damage"),
    [
        *(
            (name, damage)
            for name in ("optimizer.pt", "scheduler.pt", "model.safetensors")
            for damage in (empty, truncate)
        ),
        *((name, flip) for name in ("optimizer.pt", "rng_state.pth")),  # a zip archive has checksums
        ("trainer_state.json", Path.unlink),
    ],
)
def test_a_checkpoint_without_a_manifest_is_checked_as_far_as_its_formats_allow(name, damage, saved, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(saved[0], run)
    for manifest in run.rglob("hf_paint_manifest.json"):
        manifest.unlink()
    assert last_checkpoint(run) == run / "checkpoint-3"
    damage(run / "checkpoint-3" / name)
    assert last_checkpoint(run) == run / "checkpoint-2"


def test_a_checkpoint_without_a_manifest_may_hold_any_tokenizer(saved, tmp_path):
    """That of SigLIP 2 has 34 MB, and transformers writes a missing longest text as a number of 31 digits."""
    run = tmp_path / "run"
    shutil.copytree(saved[0], run)
    (run / "checkpoint-3/hf_paint_manifest.json").unlink()
    (run / "checkpoint-3/tokenizer.json").write_text(json.dumps({"vocab": " " * 2**24}))
    (run / "checkpoint-3/tokenizer_config.json").write_text(json.dumps({"model_max_length": int(1e30)}))
    assert last_checkpoint(run, remove=True) == run / "checkpoint-3"


def test_a_checkpoint_whose_writer_was_killed_is_completed(saved, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(saved[0], run)
    manifest = run / "checkpoint-3/hf_paint_manifest.json"
    expected = manifest.read_bytes()
    manifest.unlink()
    last_checkpoint(run)
    assert not manifest.exists()
    last_checkpoint(run, remove=True)
    assert manifest.read_bytes() == expected


def test_a_training_whose_folder_was_moved_ends_with_its_best_checkpoint(model, processor, task, tmp_path):
    keys = {**SHORT, "max_steps": 4, "eval_strategy": "steps", "eval_steps": 1, "load_best_model_at_end": True}
    keys |= {"metric_for_best_model": "mean_accuracy", "greater_is_better": True}

    def trained(model, folder, resume):
        options = {"train_task": task, "processing_class": processor, "eval_tasks": [task]}
        trainer = Watched(model, arguments(folder, **keys), **options)
        trainer.train(resume_from_checkpoint=resume)
        return trainer

    again = deepcopy(model)
    trained(model, tmp_path / "run", None)
    (tmp_path / "run").rename(tmp_path / "moved")
    shutil.rmtree(tmp_path / "moved/checkpoint-4")
    trainer = trained(again, tmp_path / "moved", True)
    assert trainer.state.best_model_checkpoint == str(tmp_path / "moved/checkpoint-1")
    assert largest_difference(model, again) == 0


def test_early_stopping_may_be_added_to_a_training_that_is_resumed(model, processor, task, tmp_path):
    keys = {**SHORT, "max_steps": 4, "eval_strategy": "steps", "eval_steps": 1}
    keys |= {"metric_for_best_model": "mean_accuracy", "greater_is_better": True}
    options = {"train_task": task, "processing_class": processor, "eval_tasks": [task]}
    Watched(deepcopy(model), arguments(tmp_path, **keys), **options).train()
    shutil.rmtree(tmp_path / "checkpoint-4")
    stopping = EarlyStoppingCallback(early_stopping_patience=9)
    trainer = Watched(model, arguments(tmp_path, **keys), callbacks=[stopping], **options)
    trainer.train(resume_from_checkpoint=True)
    assert trainer.state.global_step == 4


def test_a_training_that_ends_with_its_best_checkpoint_needs_it_whole(saved, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(saved[0], run)
    for step in (1, 2, 3):
        (run / f"checkpoint-{step}/hf_paint_manifest.json").unlink()
        path = run / f"checkpoint-{step}/trainer_state.json"
        best = None if step == 1 else str(run / "checkpoint-2")
        path.write_text(json.dumps(json.loads(path.read_text()) | {"best_model_checkpoint": best}))
    assert last_checkpoint(run, best=True) == run / "checkpoint-3"
    truncate(run / "checkpoint-2/model.safetensors")
    assert last_checkpoint(run) == run / "checkpoint-3"
    assert last_checkpoint(run, best=True) == run / "checkpoint-1"


def test_a_head_is_trained_alone_again_if_joint_training_starts_over(saved, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(saved[0], run)
    shutil.rmtree(run / "checkpoint-1")
    best = {"best_model_checkpoint": str(run / "checkpoint-1")}
    for step in (2, 3):
        (run / f"checkpoint-{step}/hf_paint_manifest.json").unlink()
        path = run / f"checkpoint-{step}/trainer_state.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | best))
    args = Mock(
        freeze_tower=False, head_steps=1, head_learning_rate=1e-3, load_best_model_at_end=True, regularization=None
    )
    args.with_changes.side_effect = InterruptedError("it trains the head")
    with pytest.raises(InterruptedError):
        train_head_alone(None, None, args, RunFolder(run), callbacks=[])
    args.load_best_model_at_end = False
    train_head_alone(None, None, args, RunFolder(run), callbacks=[])


def test_resuming_past_damage_equals_no_damage(saved, model, processor, tmp_path):
    folder, task, whole = saved
    shutil.copytree(folder, tmp_path / "run")
    empty(tmp_path / "run/checkpoint-3/trainer_state.json")
    flip(tmp_path / "run/checkpoint-2/optimizer.pt")
    train(model, processor, task, tmp_path / "run", True, [EMACallback(0.5)], **SHORT)
    assert largest_difference(model, whole) == 0
    assert last_checkpoint(tmp_path / "run") == tmp_path / "run/checkpoint-3"


def test_what_cannot_be_loaded_is_one_line(saved, model, processor, tmp_path):
    """Whole files of another training: no checksum tells."""
    folder, task, _ = saved
    shutil.copytree(folder / "checkpoint-1", tmp_path / "run/checkpoint-1")
    (tmp_path / "run/checkpoint-1/hf_paint_manifest.json").unlink()
    torch.save({"state": {}, "param_groups": []}, tmp_path / "run/checkpoint-1/optimizer.pt")
    with pytest.raises(JobError, match=r"checkpoint-1 cannot be resumed from: .* Remove it"):
        train(model, processor, task, tmp_path / "run", True, **SHORT)
    shutil.rmtree(tmp_path / "run/checkpoint-1")
    with pytest.raises(InputError, match="has no whole checkpoint"):
        train(model, processor, task, tmp_path / "run", True, **SHORT)


def test_checkpoints_are_counted_by_step_whatever_their_dates(model, processor, task, tmp_path):
    old = tmp_path / "checkpoint-1"
    train(deepcopy(model), processor, task, tmp_path, **{**SHORT, "max_steps": 2})
    shutil.rmtree(tmp_path / "checkpoint-2")
    os.utime(old, (4e9, 4e9))
    trainer = train(model, processor, task, tmp_path, True, **{**SHORT, "save_total_limit": 1})
    assert [path.name for path in tmp_path.glob("checkpoint-*")] == ["checkpoint-3"]
    assert len(losses(trainer)) == 3
