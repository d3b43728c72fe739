import math
import shutil
from copy import deepcopy

import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional
from transformers import CLIPModel, CLIPProcessor, TrainerCallback
from transformers.optimization import get_cosine_schedule_with_warmup

from drawn_tasks import write_task
from hf_paint import InputError, PaintTrainer, PaintTrainingArguments, Task, build_zero_shot_head
from hf_paint.data.splits import load_splits
from hf_paint.training.base_trainer import paint_learning_rate
from hf_paint.weights.layers import IMAGE_TOWER
from training_runs import ROUNDING_ONLY, StopAfter, arguments, largest_difference, losses, train


def test_defaults_are_those_of_the_papers():
    args = PaintTrainingArguments(output_dir="x", use_cpu=True)
    assert (args.learning_rate, args.weight_decay) == (1e-5, 0.1)
    assert (args.max_steps, args.get_warmup_steps(2000)) == (2000, 200)
    assert (args.per_device_train_batch_size, args.max_grad_norm, args.lr_scheduler_type) == (128, 1.0, "cosine")
    assert (args.augmentation, args.decay_all_parameters, args.label_smoothing_factor) == ("paint", True, 0.0)
    assert args.given() == {"output_dir": "x", "use_cpu": True}
    # transformers warns of copies that do not wait if memory is not pinned, as on a CPU
    assert not args.accelerator_config.non_blocking
    assert PaintTrainingArguments(output_dir="x", use_cpu=True, num_train_epochs=4).max_steps == -1


def test_warmup_must_end():
    with pytest.raises(InputError, match=r"warmup_steps \(200\) must be below max_steps \(50\)"):
        PaintTrainingArguments(output_dir="x", use_cpu=True, max_steps=50, warmup_steps=200)


@pytest.mark.parametrize(("fraction", "steps", "expected"), [(0.1, 50, 5), (0.1, 11, 2), (0.1, 1, 0), (0.9, 5, 4)])
def test_a_fraction_of_warmup_leaves_a_step_for_the_decay(fraction, steps, expected):
    args = PaintTrainingArguments(output_dir="x", use_cpu=True, max_steps=steps, warmup_steps=fraction)
    assert args.get_warmup_steps(steps) == expected


def test_equals_a_plain_torch_loop(model, processor, tmp_path):
    """Loss and weights of three steps against AdamW written out, with warm-up, clipping and decay of everything."""
    task = write_task(tmp_path, splits={"validation": None})
    reference = deepcopy(model)
    keys = {
        "max_steps": 3,
        "augmentation": "none",
        "train_sampling_strategy": "sequential",
        "label_smoothing_factor": 0.1,
    }
    trainer = train(model, processor, task, tmp_path / "run", **keys)

    rows = load_splits(task, ("train",))["train"].rows
    head = build_zero_shot_head(reference, processor.tokenizer, rows.features["label"].names, task.templates)
    tower = {n: p for n, p in reference.named_parameters() if n.startswith(IMAGE_TOWER)}
    first, second = ({n: torch.zeros_like(p) for n, p in tower.items()} for _ in range(2))
    expected = []
    for step, rate in enumerate([0.5e-3, 1e-3, 1e-3]):  # 1/2 and 2/2 of the warm-up, then the top of the cosine
        batch = rows[16 * step : 16 * (step + 1)]
        pixels = processor.image_processor(batch["image"], return_tensors="pt")["pixel_values"]
        embeds = reference.get_image_features(pixel_values=pixels).pooler_output
        logits = reference.logit_scale.exp() * functional.normalize(embeds, dim=-1) @ head.weight.T
        log_p = logits.log_softmax(-1)
        target = torch.full_like(log_p, 0.1 / 4)
        target[range(16), batch["label"]] += 0.9
        loss = -(target * log_p).sum(-1).mean()
        expected.append(float(loss.detach()))
        gradients = dict(zip(tower, torch.autograd.grad(loss, list(tower.values())), strict=True))
        norm = torch.sqrt(sum((g**2).sum() for g in gradients.values()))
        for name, parameter in tower.items():
            gradient = gradients[name] * min(1.0, 1.0 / (float(norm) + 1e-6))
            first[name] = 0.9 * first[name] + 0.1 * gradient
            second[name] = 0.999 * second[name] + 0.001 * gradient**2
            mean = first[name] / (1 - 0.9 ** (step + 1))
            scale = (second[name] / (1 - 0.999 ** (step + 1))).sqrt() + 1e-8
            with torch.no_grad():
                parameter.mul_(1 - rate * 0.1).sub_(rate * mean / scale)
    assert losses(trainer) == pytest.approx(expected, abs=1e-5)
    assert largest_difference(model, reference, without=ROUNDING_ONLY) < 1e-5


def test_only_the_image_tower_moves(model, processor, task, tmp_path):
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    train(model, processor, task, tmp_path / "run")
    moved = {name for name, tensor in model.state_dict().items() if not torch.equal(tensor, before[name])}
    assert moved == {name for name in before if name.startswith(IMAGE_TOWER)}


def test_gradient_checkpointing_computes_the_same_twice(model, processor, task, tmp_path):
    other, calls = deepcopy(model), []
    plain = train(model, processor, task, tmp_path / "plain")
    other.vision_model.encoder.layers[0].layer_norm1.register_forward_hook(lambda *_: calls.append(1))
    recomputed = train(other, processor, task, tmp_path / "recomputed", gradient_checkpointing=True)
    assert losses(recomputed) == losses(plain)
    assert largest_difference(model, other) == 0
    assert len(calls) == 2 * 6


def test_a_training_that_runs_out_of_memory_starts_over(model, processor, task, tmp_path):
    """In the fourth step, after the weights have moved: the result equals a run with the smaller batch size."""
    other, batch_sizes = deepcopy(model), []

    def run_out_once(module, inputs):
        batch_sizes.append(len(inputs[0]))
        if len(batch_sizes) == 4:
            raise RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB.")

    model.visual_projection.register_forward_pre_hook(run_out_once)
    keys = {"per_device_train_batch_size": 20, "auto_find_batch_size": True}
    found = train(model, processor, task, tmp_path / "found", **keys)
    given = train(other, processor, task, tmp_path / "given", per_device_train_batch_size=18)
    assert batch_sizes == [20, 20, 20, 12, 18, 18, 18, 18, 18, 18]
    assert found.state.train_batch_size == 18
    assert losses(found)[-6:] == losses(given)
    assert largest_difference(model, other) == 0


def test_accumulation_equals_a_large_batch(model, processor, task, tmp_path):
    other = deepcopy(model)
    large = train(model, processor, task, tmp_path / "a", per_device_train_batch_size=32, max_steps=4)
    keys = {"per_device_train_batch_size": 8, "gradient_accumulation_steps": 4, "max_steps": 4}
    small = train(other, processor, task, tmp_path / "b", **keys)
    assert losses(small) == pytest.approx(losses(large), abs=1e-5)
    assert largest_difference(model, other, without=ROUNDING_ONLY) < 1e-5


def test_schedule_is_the_papers():
    def factor(step):
        return paint_learning_rate(step, num_warmup_steps=200, num_training_steps=2000)

    assert [factor(0), factor(99), factor(199), factor(200)] == [1 / 200, 0.5, 1.0, 1.0]
    assert factor(1100) == pytest.approx(0.5)
    assert factor(1999) == pytest.approx(0.5 * (1 + math.cos(math.pi * 1799 / 1800)))


def test_rates_that_are_used(model, processor, task, tmp_path):
    trainer = train(model, processor, task, tmp_path / "run", max_steps=5, warmup_steps=2)
    rates = [entry["learning_rate"] for entry in trainer.state.log_history if "loss" in entry]
    expected = [1e-3 * paint_learning_rate(s, num_warmup_steps=2, num_training_steps=5) for s in range(5)]
    assert rates == pytest.approx(expected)


def test_other_schedules_are_those_of_transformers(model, processor, task, tmp_path):
    keys = {"lr_scheduler_type": "cosine_with_min_lr", "lr_scheduler_kwargs": {"min_lr": 1e-4}}
    trainer = PaintTrainer(model, arguments(tmp_path, **keys), train_task=task, processing_class=processor)
    trainer.create_optimizer_and_scheduler(10)
    theirs = get_cosine_schedule_with_warmup(trainer.optimizer, 2, 10)
    assert type(trainer.lr_scheduler) is type(theirs)
    assert trainer.lr_scheduler.lr_lambdas[0].func.__module__ == "transformers.optimization"


def test_decay(model, processor, task, tmp_path):
    everything = PaintTrainer(model, arguments(tmp_path), train_task=task, processing_class=processor)
    assert len(everything.get_decay_parameter_names(everything.model)) == len(list(everything.model.parameters()))
    keys = {"decay_all_parameters": False}
    usual = PaintTrainer(model, arguments(tmp_path, **keys), train_task=task, processing_class=processor)
    names = usual.get_decay_parameter_names(usual.model)
    assert "visual_projection.weight" in names
    assert not any("bias" in name or "layer_norm" in name for name in names)


@pytest.mark.parametrize("workers", [{}, {"dataloader_num_workers": 2, "dataloader_persistent_workers": True}])
def test_resumed_equals_uninterrupted(model, processor, task, tmp_path, workers):
    """Interrupted at step 7 of 14, in the middle of an epoch of 5 steps; bit for bit."""
    interrupted, resumed = deepcopy(model), deepcopy(model)
    keys = {"max_steps": 14, "save_strategy": "steps", "save_steps": 7} | workers
    whole = train(model, processor, task, tmp_path / "whole", **keys)
    train(interrupted, processor, task, tmp_path / "parts", callbacks=[StopAfter(7)], **keys)
    shutil.rmtree(tmp_path / "parts" / "checkpoint-14", ignore_errors=True)
    checkpoint = str(tmp_path / "parts" / "checkpoint-7")
    rest = train(resumed, processor, task, tmp_path / "parts", resume=checkpoint, **keys)
    assert losses(rest) == losses(whole)
    assert largest_difference(model, resumed) == 0.0
    assert largest_difference(model, interrupted) > 0


def test_checkpoint_is_a_complete_clip_folder(model, processor, model_folder, task, tmp_path):
    train(model, processor, task, tmp_path / "run", save_strategy="steps", save_steps=3)
    folder = tmp_path / "run" / "checkpoint-3"
    loaded, report = CLIPModel.from_pretrained(folder, output_loading_info=True)
    assert not report["missing_keys"]
    assert not report["unexpected_keys"]
    assert CLIPProcessor.from_pretrained(folder).tokenizer.model_max_length == 32
    import json
    from pathlib import Path

    base = json.loads((Path(model_folder) / "config.json").read_text())
    assert json.loads((folder / "config.json").read_text()) == base
    weights = load_file(folder / "model.safetensors")
    original = load_file(Path(model_folder) / "model.safetensors")
    assert all(torch.equal(weights[n], original[n]) for n in original if not n.startswith(IMAGE_TOWER))
    assert loaded.dtype == torch.float32


def test_a_checkpoint_that_lacks_tensors_is_refused(model, processor, task, tmp_path):
    train(model, processor, task, tmp_path / "run", save_strategy="steps", save_steps=3)
    from safetensors.torch import save_file

    path = tmp_path / "run" / "checkpoint-3" / "model.safetensors"
    save_file(
        {n: t for n, t in load_file(path).items() if not n.startswith("visual")}, path, metadata={"format": "pt"}
    )
    with pytest.raises(InputError, match="lacks image tower tensors"):
        train(model, processor, task, tmp_path / "run", resume=str(path.parent))


def test_evaluate_gives_each_task_and_the_mean(model, processor, task, other_task, tmp_path):
    options = {"train_task": task, "eval_tasks": [task, other_task], "processing_class": processor}
    metrics = PaintTrainer(model, arguments(tmp_path), **options).evaluate()
    accuracies = [metrics["eval_colours_accuracy"], metrics["eval_others_accuracy"]]
    assert metrics["eval_mean_accuracy"] == pytest.approx(sum(accuracies) / 2)
    with pytest.raises(InputError, match="no tasks to evaluate. Pass"):
        PaintTrainer(model, arguments(tmp_path), train_task=task, processing_class=processor).evaluate()


def test_mean_accuracy_picks_the_best_checkpoint(model, processor, task, other_task, tmp_path):
    keys = {"eval_strategy": "steps", "eval_steps": 2, "save_strategy": "steps", "save_steps": 2}
    best = {"load_best_model_at_end": True, "metric_for_best_model": "eval_mean_accuracy"}
    options = {"train_task": task, "eval_tasks": [task, other_task], "processing_class": processor}
    trainer = PaintTrainer(model, arguments(tmp_path / "run", **keys, **best), **options)
    trainer.train()
    history = [e["eval_mean_accuracy"] for e in trainer.state.log_history if "eval_mean_accuracy" in e]
    assert trainer.state.best_metric == max(history)
    assert trainer.state.best_global_step == 2 * (1 + history.index(max(history)))
    saved = load_file(f"{trainer.state.best_model_checkpoint}/model.safetensors")
    assert all(torch.equal(tensor, saved[name]) for name, tensor in model.state_dict().items())


def test_dataset_and_head_instead_of_a_task(model, processor, tmp_path):
    pixels = torch.randint(0, 255, (24, 3, 32, 32), dtype=torch.uint8)
    rows = [{"pixel_values": image, "labels": i % 2} for i, image in enumerate(pixels)]
    head = build_zero_shot_head(model, processor.tokenizer, ["a", "b"], ["{}"])
    args = arguments(tmp_path, max_steps=3)
    trainer = PaintTrainer(model, args, train_dataset=rows, head=head, processing_class=processor)
    assert trainer.train().global_step == 3
    with pytest.raises(InputError, match="either `train_task`, or `train_dataset` with its `head`"):
        PaintTrainer(model, args, train_dataset=rows, processing_class=processor)


def test_resumed_equals_uninterrupted_on_a_stream(model, processor, tmp_path):
    """Interrupted at step 7, in the second pass over 80 rows in batches of 16."""
    task = write_task(tmp_path, splits={"validation": None})
    stream = Task.from_dict(task.to_dict() | {"streaming": True})
    interrupted, resumed = deepcopy(model), deepcopy(model)
    keys = {"max_steps": 12, "save_strategy": "steps", "save_steps": 7}
    whole = train(model, processor, stream, tmp_path / "whole", **keys)
    train(interrupted, processor, stream, tmp_path / "parts", callbacks=[StopAfter(7)], **keys)
    checkpoint = str(tmp_path / "parts" / "checkpoint-7")
    rest = train(resumed, processor, stream, tmp_path / "parts", resume=checkpoint, **keys)
    assert losses(rest) == losses(whole)
    assert largest_difference(model, resumed) == 0.0
    with pytest.raises(InputError, match="dataloader_num_workers: 0"):
        train(model, processor, stream, tmp_path / "run", dataloader_num_workers=1)
    with pytest.raises(InputError, match="needs `max_steps`"):
        train(model, processor, stream, tmp_path / "run", max_steps=None, num_train_epochs=1)


def test_warmup_must_end_within_the_epochs_too(model, processor, task, tmp_path):
    with pytest.raises(InputError, match=r"must be below the number of steps \(5\)"):
        train(model, processor, task, tmp_path / "run", max_steps=None, num_train_epochs=1, warmup_steps=9)


def test_bf16_follows_fp32_and_leaves_the_attention_as_it_was(model, processor, task, tmp_path):
    """A hundred steps: each mean of 25 losses within 2 % of the loss at the start."""
    runs = {}
    for bf16 in (False, True):
        copied = deepcopy(model)
        keys = {"max_steps": 100, "warmup_steps": 10, "learning_rate": 6e-4, "bf16": bf16}
        trainer = train(copied, processor, task, tmp_path / str(bf16), **keys)
        runs[bf16] = torch.tensor(losses(trainer)).unflatten(0, (4, 25)).mean(1)
        assert copied.config.vision_config._attn_implementation == "sdpa"
    assert runs[False][-1] < 0.8 * runs[False][0]
    assert float((runs[True] - runs[False]).abs().max()) < 0.02 * float(runs[False][0])


def test_attention_on_a_cpu_in_bf16_is_not_the_fused_one(model, processor, task, tmp_path):
    used = []

    class Look(TrainerCallback):
        def on_step_begin(self, args, state, control, **kwargs):
            used.append(model.config.vision_config._attn_implementation)

    train(model, processor, task, tmp_path / "half", callbacks=[Look()], max_steps=2, warmup_steps=1, bf16=True)
    train(model, processor, task, tmp_path / "full", callbacks=[Look()], max_steps=2, warmup_steps=1)
    assert used == ["eager", "eager", "sdpa", "sdpa"]
