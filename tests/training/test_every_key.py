"""Every field of the training arguments changes what a training builds, does or leaves behind, or is refused."""

from copy import deepcopy
from dataclasses import fields

import pytest
import torch
from transformers import logging

from drawn_tasks import write_task
from hf_paint import InputError, PaintTrainingArguments
from hf_paint.training import argument_checks
from hf_paint.training.readers import defaults_of
from hf_paint.training.unread_fields import READERS
from observed_training import Tracker, train_head, train_head_first, train_tower


HERE = {f.name for f in fields(PaintTrainingArguments) if f.init}
"""Fields of the installed version of transformers and of this package."""
PUSH = {"push_to_hub": True, "hub_model_id": "me/head"}
WORKERS = {"dataloader_num_workers": 1, "train": False}
TRACKED = {"report_to": "trackio"}

CHANGES = {
    "output_dir": "elsewhere",
    "max_steps": 3,
    "num_train_epochs": (2, {"max_steps": ..., "num_train_epochs": 1}),
    "learning_rate": 0.2,
    "weight_decay": 0.5,
    "warmup_steps": 2,
    "lr_scheduler_type": "linear",
    "lr_scheduler_kwargs": ({"num_cycles": 3}, {"lr_scheduler_type": "cosine_with_restarts"}),
    "optim": "sgd",
    "optim_args": ("momentum=0.5", {"optim": "sgd"}),
    "adam_beta1": 0.5,
    "adam_beta2": 0.5,
    "adam_epsilon": 0.1,
    "per_device_train_batch_size": 1,
    "per_device_eval_batch_size": 7,
    "gradient_accumulation_steps": 2,
    "max_grad_norm": 0.01,
    "label_smoothing_factor": 0.3,
    "bf16": (True, {"use_cpu": True}),
    "torch_compile": (True, {"train": False}),
    "torch_compile_backend": ("eager", {"train": False}),
    "torch_compile_mode": ("max-autotune", {"train": False}),
    "torch_empty_cache_steps": 1,
    "auto_find_batch_size": (True, {"oom": True, "per_device_train_batch_size": 4}),
    "logging_strategy": ("epoch", {"logging_steps": ...}),
    "logging_steps": 1,
    "logging_first_step": True,
    "log_on_each_node": False,
    "log_level": "error",
    "log_level_replica": "error",
    "disable_tqdm": False,
    "report_to": "trackio",
    "run_name": ("mine", TRACKED),
    "project": ("mine", TRACKED),
    "trackio_space_id": ("mine", TRACKED),
    "trackio_bucket_id": ("mine", TRACKED),
    "trackio_static_space_id": ("mine", TRACKED),
    "save_strategy": ("epoch", {"save_steps": ...}),
    "save_steps": 1,
    "save_total_limit": 1,
    "save_only_model": True,
    "save_on_each_node": True,
    "enable_jit_checkpoint": True,
    "push_to_hub": (True, {"hub_model_id": "me/head"}),
    "hub_model_id": ("me/other", {"push_to_hub": True}),
    "hub_token": ("hf_x", PUSH),
    "hub_private_repo": (True, PUSH),
    "hub_revision": ("trial", PUSH),
    "hub_strategy": ("end", PUSH),
    "hub_always_push": (True, PUSH),
    "ignore_data_skip": (True, {"resume": True}),
    "restore_callback_states_from_checkpoint": (True, {"resume": True}),
    "full_determinism": (True, {"train": False}),
    "seed": 1,
    "data_seed": 1,
    "use_cpu": True,
    "accelerator_config": {"even_batches": False},
    "train_sampling_strategy": "sequential",
    "dataloader_drop_last": True,
    "dataloader_num_workers": (1, {"train": False}),
    "dataloader_pin_memory": False,
    "dataloader_persistent_workers": (True, WORKERS),
    "dataloader_prefetch_factor": (3, WORKERS),
    "dataloader_multiprocessing_context": ("spawn", WORKERS),
    "dataloader_in_order": (False, WORKERS),
    "ddp_find_unused_parameters": True,
    "ddp_bucket_cap_mb": 3,
    "ddp_broadcast_buffers": False,
    "ddp_static_graph": True,
    "ddp_backend": "gloo",
    "ddp_timeout": 60,
    "debug": "underflow_overflow",
    "skip_memory_metrics": False,
}
"""Field -> a value that changes the training of a head, or (value, other arguments it is used with)."""

EVALUATED = {"eval_strategy": "steps", "eval_steps": 1}
BEST = EVALUATED | {"load_best_model_at_end": True, "save_steps": 1}
PEFT = {"use_peft": True}
CHECKPOINTED = {"activation_checkpointing": True}
SOME_LAYERS = {"every_n_layers": 2} if "activation_checkpointing" in HERE else {"preserve_rng_state": False}
HEAD = {"train_head": True}

TOWER = {
    "augmentation": "none",
    "augmentation_device": "cuda",
    "decay_all_parameters": False,
    "activation_checkpointing": True,
    "gradient_checkpointing": True,
    "activation_checkpointing_kwargs": (SOME_LAYERS, CHECKPOINTED),
    "gradient_checkpointing_kwargs": (SOME_LAYERS, {"gradient_checkpointing": True}),
    "train_head": True,
    "use_peft": True,
    "lora_r": (4, PEFT),
    "lora_alpha": (4, PEFT),
    "lora_dropout": (0.5, PEFT),
    "lora_target_modules": (["q_proj"], PEFT),
    "use_rslora": (True, PEFT),
    "use_dora": (True, PEFT),
    "task_sampling": ("uniform", {"task_sampling": "temperature"}),
    "sampling_temperature": (0.6, {"task_sampling": "temperature"}),
    "eval_strategy": "epoch",
    "eval_steps": (2, {"eval_strategy": "steps", "logging_steps": 1}),
    "eval_delay": (2, EVALUATED),
    "eval_on_start": (True, EVALUATED),
    "load_best_model_at_end": (True, EVALUATED),
    "metric_for_best_model": ("loss", BEST),
    "greater_is_better": (True, BEST | {"metric_for_best_model": "loss"}),
}
"""Field -> a value that changes the fine-tuning of a tiny CLIP, or (value, other arguments it is used with)."""

FIRST = {"freeze_tower": True, "head_steps": 2, "head_learning_rate": (0.5, {"head_steps": 2})}
"""Field -> a value that changes how a patching run trains the head before the tower, with `train_head`."""

REFUSED = {
    "fp16": (True, {"use_cpu": True}),
    "tf32": True,
    "bf16_full_eval": (True, {"use_cpu": True}),
    "fp16_full_eval": True,
    "optim_target_modules": ["head"],
    "average_tokens_across_devices": False,
    "use_cache": True,
    "neftune_noise_alpha": 5.0,
    "use_liger_kernel": True,
    "liger_kernel_config": {"rope": True},
    "include_num_input_tokens_seen": "all",
    "length_column_name": "size",
    "local_rank": 1,
    "logging_nan_inf_filter": True,
    "prediction_loss_only": True,
    "eval_do_concat_batches": False,
    "eval_use_gather_object": True,
    "eval_accumulation_steps": 2,
    "include_for_metrics": ["loss"],
    "batch_eval_metrics": True,
    "remove_unused_columns": True,
    "label_names": ["label"],
    "fsdp": True,
    "fsdp_config": {"version": 2},
    "deepspeed": "zero.json",
    "parallelism_config": "a config",
    "warmup_ratio": 0.1,
    "logging_dir": "logs",
}
"""Field -> a value that every training refuses."""

NEED = {
    "lr_scheduler_kwargs": {"num_cycles": 2},
    "optim_args": "momentum=0.5",
    "eval_steps": 2,
    "eval_delay": 1,
    "metric_for_best_model": "loss",
    "greater_is_better": True,
    "run_name": "mine",
    "project": "mine",
    "trackio_space_id": "mine",
    "trackio_bucket_id": "mine",
    "trackio_static_space_id": "mine",
    "logging_steps": (1, {"logging_strategy": "epoch"}),
    "save_steps": (1, {"save_strategy": "epoch"}),
    "adam_beta1": (0.5, {"optim": "sgd"}),
    "adam_beta2": (0.5, {"optim": "sgd"}),
    "adam_epsilon": (0.1, {"optim": "sgd"}),
    "warmup_steps": (1, {"lr_scheduler_type": "constant"}),
    "num_train_epochs": (2, {"max_steps": 500}),
    "ddp_timeout": (60, {"use_cpu": True}),
    "dataloader_persistent_workers": True,
    "dataloader_prefetch_factor": 2,
    "dataloader_multiprocessing_context": "spawn",
    "dataloader_in_order": False,
    "activation_checkpointing_kwargs": {"use_reentrant": False},
    "gradient_checkpointing_kwargs": {"use_reentrant": False},
    "augmentation_device": ("cuda", {"augmentation": "none"}),
    "sampling_temperature": 3.0,
    "freeze_tower": True,
    "head_steps": 2,
    "head_learning_rate": 0.1,
    "lora_r": 4,
    "lora_alpha": 4,
    "lora_dropout": 0.1,
    "lora_target_modules": ["q_proj"],
    "use_rslora": True,
    "use_dora": True,
}
"""Field -> a value that is refused without the setting it needs."""

OF_SOME_VERSIONS = {
    "activation_checkpointing",
    "activation_checkpointing_kwargs",
    "dataloader_in_order",
    "dataloader_multiprocessing_context",
    "logging_dir",
    "warmup_ratio",
}
"""Fields that some supported versions of transformers do not have."""
SCRIPTS = ("do_train", "do_eval", "do_predict", "resume_from_checkpoint")
"""Fields for the user's own script, as in transformers; `hf-paint patch` refuses them (see tests/patching)."""


def case(entry):
    return entry if isinstance(entry, tuple) else (entry, {})


@pytest.fixture(scope="module")
def unchanged():
    """Results of trainings that differ only in the other arguments, so that each is run once."""
    return {}


@pytest.fixture(autouse=True)
def as_before(monkeypatch):
    """A tracker that counts as installed, and everything global as it was."""
    from transformers.integrations import integration_utils

    monkeypatch.setitem(integration_utils.INTEGRATION_TO_CALLBACK, "trackio", Tracker)
    monkeypatch.setattr(argument_checks, "get_available_reporting_integrations", lambda: ["trackio"])
    level = logging.get_verbosity()
    yield
    logging.set_verbosity(level)
    torch.use_deterministic_algorithms(mode=False)
    Tracker.seen = {}


def test_no_field_is_missing():
    """A field that transformers or this package adds must be listed here as one of the four kinds."""
    shown = [*CHANGES, *TOWER, *FIRST, *REFUSED, *SCRIPTS]
    assert len(shown) == len(set(shown))
    assert HERE <= set(shown) <= HERE | OF_SOME_VERSIONS
    assert set(READERS) <= REFUSED.keys() | NEED.keys()


@pytest.mark.parametrize("name", [name for name in CHANGES if name in HERE])
def test_a_field_changes_the_training_of_a_head(name, unchanged, tmp_path, monkeypatch):
    value, others = case(CHANGES[name])
    key = repr(others)
    if key not in unchanged:
        unchanged[key] = observe(tmp_path / "unchanged", **others)
    folder = tmp_path / ("elsewhere" if name == "output_dir" else "unchanged_again")
    changed = observe(folder, **others | ({} if name == "output_dir" else {name: value}))
    if name != "output_dir":
        changed.pop("folder"), unchanged[key].pop("folder", None)
    assert changed != unchanged[key]


def observe(folder, **fields):
    with pytest.MonkeyPatch.context() as patch:
        folder.mkdir()
        return train_head(folder, patch, **fields)


def test_two_trainings_with_the_same_arguments_do_not_differ(tmp_path):
    """Without this, every field would seem to change something."""
    for others in ({}, {"resume": True}, {"nan": True}, PUSH, TRACKED):
        first, second = (observe(tmp_path / f"{number}{len(str(others))}", **others) for number in (1, 2))
        assert first | {"folder": ""} == second | {"folder": ""}


@pytest.mark.parametrize("name", [name for name in TOWER if name in HERE])
def test_a_field_changes_the_training_of_a_tower(name, unchanged, model, processor, small_tasks, tmp_path):
    value, others = case(TOWER[name])
    key = f"tower {others!r}"
    if key not in unchanged:
        unchanged[key] = train_tower(tmp_path / "unchanged", deepcopy(model), processor, small_tasks, **others)
    changed = train_tower(tmp_path / "changed", model, processor, small_tasks, **others | {name: value})
    assert changed != unchanged[key]


@pytest.fixture(scope="module")
def small_tasks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    return [write_task(folder, name, train=size, test=4, seed=size) for name, size in (("colours", 20), ("more", 40))]


def test_two_towers_with_the_same_arguments_do_not_differ(model, processor, small_tasks, tmp_path):
    first, second = (train_tower(tmp_path / n, deepcopy(model), processor, small_tasks, **BEST) for n in "ab")
    assert first == second


@pytest.mark.parametrize("name", FIRST)
def test_a_field_changes_how_the_head_is_trained_first(name, tmp_path, monkeypatch):
    value, others = case(FIRST[name])
    unchanged = train_head_first(monkeypatch, tmp_path, **HEAD | others)
    assert train_head_first(monkeypatch, tmp_path, **HEAD | others | {name: value}) != unchanged


@pytest.mark.parametrize(("name", "entry"), [x for x in (*REFUSED.items(), *NEED.items()) if x[0] in HERE])
def test_a_field_without_effect_is_refused(name, entry, tmp_path):
    value, others = case(entry)
    with pytest.raises(ValueError, match=f"^[^\\n]*{name}[^\\n]*$") as error:
        PaintTrainingArguments(output_dir=str(tmp_path), **others | {name: value})
    assert isinstance(error.value, InputError) or name in ("tf32", "dataloader_prefetch_factor")
    if "would have no effect" in str(error.value):
        assert f"`{name}: {str(value).lower() if isinstance(value, bool) else value}`" in str(error.value)


def test_defaults_and_values_that_switch_something_off_are_not_refused(tmp_path):
    defaults = defaults_of(PaintTrainingArguments)
    for name in READERS.keys() & HERE:
        PaintTrainingArguments(output_dir=str(tmp_path), use_cpu=True, **{name: defaults[name]})
    off = {"eval_steps": 0, "prediction_loss_only": False, "fsdp": False, "optim_args": "", "warmup_steps": 0}
    assert PaintTrainingArguments(output_dir=str(tmp_path), lr_scheduler_type="constant", **off).eval_steps == 0
