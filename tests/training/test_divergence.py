"""Trainings that diverge end in one line, keep nothing, and end in the same line when they are run again."""

import re
import shutil

import pytest
import torch
from safetensors.torch import load_file, save_file

from hf_paint import EMACallback, HeadTrainer, PaintTrainer
from hf_paint.errors import JobError
from hf_paint.models.classifier import ClassificationHead
from training_runs import arguments, train


HUGE = {"learning_rate": 1e38, "max_steps": 4, "warmup_steps": 1, "save_strategy": "steps", "save_steps": 2}
MOVED = "vision_model.encoder.layers.0.mlp.fc1.weight"


@pytest.mark.parametrize(
    ("keys", "callbacks"), [({}, []), ({"use_peft": True}, []), ({"train_head": True}, [EMACallback(0.5)])]
)
def test_a_diverged_training_stops_where_it_diverges(keys, callbacks, model, processor, task, tmp_path):
    with pytest.raises(JobError, match=r"diverged: .*(step \d).* `learning_rate` below 1e\+38"):
        train(model, processor, task, tmp_path, callbacks=callbacks, **HUGE, **keys)
    assert not list(tmp_path.glob("checkpoint-*"))


def test_the_step_is_that_of_the_first_loss_that_is_not_finite(model, processor, task, tmp_path):
    class Broken(PaintTrainer):
        def mean_loss(self, features, labels):
            loss = super().mean_loss(features, labels)
            return loss * torch.nan if self.state.global_step == 2 else loss

    trainer = Broken(model, arguments(tmp_path), train_task=task, processing_class=processor)
    with pytest.raises(JobError, match="the loss of step 3 is NaN or inf"):
        trainer.train()


def test_weights_are_checked_after_the_last_step(model, processor, task, tmp_path):
    """Its loss was still finite, so that no later one tells."""

    class Broken(EMACallback):
        def on_train_end(self, args, state, control, **kwargs):
            with torch.no_grad():
                kwargs["model"].get_parameter(MOVED)[0, 0] = torch.inf

    with pytest.raises(JobError, match=f"after step 6, '{MOVED}' holds NaN or inf"):
        train(model, processor, task, tmp_path, callbacks=[Broken(0.5)])


def test_a_head_alone_too(tmp_path):
    head = ClassificationHead(torch.eye(2), ["cat", "dog"])
    embeds = torch.tensor([[1.0, torch.nan], [0.0, 1.0]])
    trainer = HeadTrainer(head, arguments(tmp_path), image_embeds=embeds, labels=torch.tensor([0, 1]))
    with pytest.raises(JobError, match="the loss of step 1 is NaN or inf"):
        trainer.train()


def test_a_run_that_diverges_ends_in_one_line_each_time(recipe, tmp_path, capsys):
    lines = []
    for _ in "ab":
        assert recipe(learning_rate="1e38", save_steps=1) == 1
        lines.append(capsys.readouterr().err.strip().splitlines()[-1])
        assert not (tmp_path / "run/theta_1").exists()
    assert lines[0] == lines[1]
    assert re.search(r"The training diverged: .* `learning_rate` below 1e\+38", lines[0])


def test_a_checkpoint_with_nan_is_not_trained_on(model, processor, task, tmp_path):
    """One of an earlier version, which kept it."""
    keys = {"save_strategy": "steps", "save_steps": 1, "max_steps": 2, "warmup_steps": 1}
    train(model, processor, task, tmp_path, **keys)
    path = tmp_path / "checkpoint-2/model.safetensors"
    weights = load_file(path)
    weights[MOVED][0, 0] = torch.nan
    save_file(weights, path, metadata={"format": "pt"})
    (path.parent / "hf_paint_manifest.json").unlink()
    with pytest.raises(JobError, match=f"checkpoint-2 cannot be resumed from: '{MOVED}' holds NaN or inf. Remove it"):
        train(model, processor, task, tmp_path, True, **keys)


@pytest.mark.parametrize(
    ("tensor", "value", "keys", "message"),
    [
        (MOVED, torch.nan, {}, f"'{MOVED}' of '.*base' holds NaN or inf"),
        ("text_projection.weight", torch.inf, {}, "'text_projection.weight' of '.*base' holds NaN or inf"),
        (MOVED, 1e5, {"save_dtype": "float16"}, f"'{MOVED}' holds numbers that are too large for float16"),
    ],
)
def test_a_damaged_base_is_found_before_the_training(
    tensor, value, keys, message, recipe, model_folder, tmp_path, capsys, monkeypatch
):
    monkeypatch.setattr(PaintTrainer, "train", None)
    shutil.copytree(model_folder, tmp_path / "base")
    weights = load_file(tmp_path / "base/model.safetensors")
    weights[tensor][0, 0] = value
    save_file(weights, tmp_path / "base/model.safetensors", metadata={"format": "pt"})
    assert recipe(model=str(tmp_path / "base"), **keys) == 2
    assert re.search(message, capsys.readouterr().err)
