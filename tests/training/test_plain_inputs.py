"""PaintTrainer takes what any Trainer takes: plain arguments, names of tasks, and data sets in memory."""

from dataclasses import fields

import pytest
import torch
from datasets import ClassLabel, Dataset, DatasetDict, Features, Image, Value
from torch import nn
from transformers import TrainingArguments

from drawn_tasks import CLASS_NAMES, draw_rows, write_task, write_task_yaml
from hf_paint import (
    ClassificationHead,
    HeadTrainer,
    InputError,
    PaintTrainer,
    PaintTrainingArguments,
    PatchOptions,
    build_zero_shot_head,
    evaluate_tasks,
    patch_single,
)
from training_runs import arguments


PROMPT = "a photo of a {}."


def in_memory(count=24, seed=0, *, label="label", feature=None):
    """The rows that `write_task` writes to a file."""
    rows = draw_rows(count, seed)
    features = Features({"image": Image(), label: feature or ClassLabel(names=list(CLASS_NAMES))})
    return Dataset.from_dict({"image": rows["image"], label: rows["label"]}, features=features)


def plain(folder, **keys):
    values = {"max_steps": 2, "learning_rate": 1e-3, "use_cpu": True, "save_strategy": "no"}
    return TrainingArguments(str(folder), **values | {"disable_tqdm": True} | keys)


@pytest.fixture
def trainer(model, processor, task, tmp_path):
    return PaintTrainer(model, arguments(tmp_path), train_task=task, processing_class=processor)


HELD = {
    "learning_rate": 3e-4,
    "max_steps": 7,
    "lr_scheduler_type": "constant",
    "per_device_train_batch_size": 3,
    "weight_decay": 0.2,
    "seed": 5,
    "bf16": True,
    "logging_steps": 3,
    "save_strategy": "no",
    "eval_strategy": "epoch",
    "run_name": None,
    "dataloader_drop_last": True,
    "lr_scheduler_kwargs": None,
    "optim": "sgd",
    "adam_beta2": 0.999,
    "gradient_accumulation_steps": 2,
    "accelerator_config": {"even_batches": False},
}


def test_plain_arguments_keep_what_they_hold(tmp_path):
    """Every field, whether it was given or is a default of transformers, unlike the papers' defaults."""
    needed = {"remove_unused_columns", "label_names", "ddp_find_unused_parameters", "logging_nan_inf_filter"}
    for values in ({}, HELD, {"num_train_epochs": 2, "warmup_steps": 5}):
        given = TrainingArguments(str(tmp_path), use_cpu=True, **values)
        converted = PaintTrainingArguments.of(given)
        held = {f.name for f in fields(TrainingArguments)} - needed - {"accelerator_config"}
        assert {n: getattr(converted, n) for n in held} == {n: getattr(given, n) for n in held}
        assert converted.accelerator_config.even_batches == given.accelerator_config.even_batches
        assert (converted.remove_unused_columns, converted.label_names) == (False, ["labels"])
        assert PaintTrainingArguments(**converted.given()).learning_rate == given.learning_rate
    args = arguments(tmp_path)
    assert PaintTrainingArguments.of(args) is args


def test_plain_arguments_train(model, processor, tasks_folder, tmp_path):
    task = str(tasks_folder / "colours.yaml")
    trainer = PaintTrainer(model, plain(tmp_path), train_task=task, processing_class=processor)
    trainer.train()
    rates = [entry["learning_rate"] for entry in trainer.state.log_history if "learning_rate" in entry]
    assert type(trainer.args) is PaintTrainingArguments
    assert trainer.state.global_step == 2
    assert rates == []  # transformers logs every 500 steps
    head = ClassificationHead(torch.eye(2), ["cat", "dog"])
    HeadTrainer(head, plain(tmp_path), image_embeds=torch.eye(2), labels=torch.tensor([1, 0])).train()
    assert not torch.equal(head.weight, torch.eye(2))


def test_the_best_model_is_chosen_without_a_metric(model, processor, task, tmp_path):
    """By the loss, as in any Trainer."""
    keys = {"eval_strategy": "steps", "eval_steps": 1, "save_strategy": "steps", "save_steps": 1}
    args = plain(tmp_path, load_best_model_at_end=True, **keys)
    trainer = PaintTrainer(model, args, train_task=task, eval_tasks=[task], processing_class=processor)
    trainer.train()
    losses = [entry["eval_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]
    assert trainer.state.best_metric == min(losses)
    assert losses == [entry["eval_colours_loss"] for entry in trainer.state.log_history if "eval_loss" in entry]


def test_a_data_set_with_images_trains_as_its_task_does(model, processor, tmp_path):
    from copy import deepcopy

    task = write_task(tmp_path / "data", train=24, splits={"validation": None})
    towers = []
    for options in ({"train_task": task}, {"train_dataset": in_memory()}):
        own = deepcopy(model)
        trainer = PaintTrainer(own, arguments(tmp_path / "run", max_steps=3), processing_class=processor, **options)
        trainer.train()
        towers.append(own.state_dict())
    assert all(torch.equal(tensor, towers[1][name]) for name, tensor in towers[0].items())


@pytest.mark.parametrize("kind", ["named classes", "numbered classes", "pixels"])
def test_a_data_set_trains_with_a_head(kind, model, processor, tmp_path):
    head = build_zero_shot_head(model, processor.tokenizer, CLASS_NAMES, [PROMPT])
    rows = in_memory()
    if kind == "numbered classes":
        rows = in_memory(label="labels", feature=Value("int64"))
    elif kind == "pixels":
        pixels = processor.image_processor(rows["image"][:], do_rescale=False, do_normalize=False)["pixel_values"]
        values = [image.astype("uint8").tolist() for image in pixels]
        rows = Dataset.from_dict({"pixel_values": values, "labels": rows["label"][:]})
    args = arguments(tmp_path, max_steps=2, warmup_steps=1)
    trainer = PaintTrainer(model, args, train_dataset=rows, head=head, processing_class=processor)
    assert trainer.train().global_step == 2


def test_evaluation_takes_tasks_and_data_sets(trainer, other_task, tasks_folder, tmp_path):
    """The accuracy on rows in memory equals the accuracy on the same rows in a file."""
    kept = {"train": None, "validation": "train", "test": "test"}
    same = write_task(tmp_path / "same", "same", train=24, splits=kept)
    expected = trainer.evaluate([same])["eval_same_accuracy"]
    rows = in_memory()
    assert trainer.evaluate(rows)["eval_dataset_accuracy"] == expected
    assert trainer.evaluate({"mine": rows})["eval_mine_accuracy"] == expected
    assert trainer.evaluate(DatasetDict(dev=rows))["eval_dev_accuracy"] == expected
    assert trainer.evaluate([rows, in_memory(8, seed=3)]).keys() >= {"eval_dataset-1_loss", "eval_dataset-2_loss"}
    assert trainer.evaluate([rows, same], metric_key_prefix="test")["test_mean_accuracy"] == expected
    assert "eval_others_accuracy" in trainer.evaluate(str(tasks_folder / "others.yaml"))
    assert "eval_others_accuracy" in trainer.evaluate(other_task.to_dict())
    assert "eval_held_accuracy" in trainer.evaluate({"held": other_task})


def test_a_data_set_without_image_or_label_column_is_refused(trainer):
    rows = Dataset.from_dict({"text": ["a"], "label": [0]})
    with pytest.raises(InputError, match="no column 'image' and none that holds the images; its columns are text"):
        trainer.evaluate(rows)
    with pytest.raises(InputError, match="has no class names"):
        trainer.evaluate(in_memory(feature=Value("int64")))
    with pytest.raises(InputError, match="got a IterableDataset"):
        trainer.evaluate(in_memory().to_iterable_dataset())


def test_a_data_set_needs_a_head_of_its_size_or_class_names(model, processor, tmp_path):
    head = build_zero_shot_head(model, processor.tokenizer, CLASS_NAMES[:2], [PROMPT])
    args = arguments(tmp_path)
    with pytest.raises(InputError, match="has 4 classes, but its `head` has 2 rows"):
        PaintTrainer(model, args, train_dataset=in_memory(), head=head, processing_class=processor)
    with pytest.raises(InputError, match="with its `head`"):
        PaintTrainer(model, args, train_dataset=nn.ModuleList(), processing_class=processor)


def test_names_of_tasks_are_taken_wherever_tasks_are(model, processor, model_folder, tasks_folder, tmp_path):
    colours, others = (str(tasks_folder / f"{name}.yaml") for name in ("colours", "others"))
    for tasks in ([colours], colours, tasks_folder / "colours.yaml", {"extends": colours, "name": "colours"}):
        [result] = evaluate_tasks(model, tasks, processor=processor)
        assert (result.task, result.total) == ("colours", 40)
    third = write_task_yaml(tmp_path, "third", seed=3)
    result = patch_single(
        model_folder,
        tasks_folder / "colours.yaml",
        [others],
        plain(tmp_path / "run"),
        alphas=[1.0],
        options=PatchOptions(transfer_tasks=[third]),
    )
    assert result.curve.tasks == {"patching": ["colours"], "supported": ["others"], "transfer": ["third"]}
    trainer = PaintTrainer(
        model, plain(tmp_path / "t"), train_task=[colours, others], eval_tasks=[others], processing_class=processor
    )
    assert "eval_others_accuracy" in trainer.evaluate()


def test_anything_else_is_not_a_task(model, processor):
    with pytest.raises(InputError, match="A task is a `Task`, a built-in name, .* of type int"):
        evaluate_tasks(model, [3], processor=processor)
