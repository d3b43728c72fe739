"""Numbers among the training arguments are checked before anything else is done with them."""

import math
from dataclasses import fields
from types import NoneType
from typing import get_args, get_type_hints

import pytest

from hf_paint import InputError, PaintTrainingArguments
from hf_paint.training.ranges import RANGES
from hf_paint.training.unread_fields import NEVER_READ


NUMBERS = {
    f.name
    for f in fields(PaintTrainingArguments)
    if f.init
    and {
        *(get_args(get_type_hints(PaintTrainingArguments)[f.name]) or [get_type_hints(PaintTrainingArguments)[f.name]])
    }
    - {NoneType}
    in ({int}, {float})
}
NEEDED = {
    "head_learning_rate": {"train_head": True, "head_steps": 2},
    "head_steps": {"train_head": True},
    **{name: {"use_peft": True} for name in NUMBERS if name.startswith("lora_")},
}
WRONG = [
    *((name, value) for name in sorted(NUMBERS - NEVER_READ.keys()) for value in (-5, math.nan, True)),
    *((name, math.inf) for name in sorted(NUMBERS - NEVER_READ.keys() - {"max_grad_norm"})),
    ("seed", 2**32),
    *((name, 2.5) for name in ("seed", "max_steps", "per_device_eval_batch_size", "lora_r", "head_steps")),
    *((name, 0) for name in ("per_device_eval_batch_size", "save_total_limit", "num_train_epochs", "lora_r")),
    *((name, 1) for name in ("adam_beta1", "adam_beta2", "lora_dropout")),
    ("label_smoothing_factor", 1.5),
]
RIGHT = {
    "max_steps": [1, -1],
    "max_grad_norm": [0, math.inf],
    "learning_rate": [0, 1e-9],
    "seed": [0, 2**32 - 1],
    "save_steps": [1, 0.5],
    "save_total_limit": [1, None],
    "label_smoothing_factor": [0.999],
}


def test_every_number_has_a_range():
    assert NUMBERS - NEVER_READ.keys() == RANGES.keys()


@pytest.mark.parametrize(("name", "value"), WRONG)
def test_a_wrong_number_is_refused_by_name(name, value, monkeypatch):
    monkeypatch.setattr("transformers.TrainingArguments.__post_init__", None)  # nothing heavy comes before
    with pytest.raises(InputError, match=rf"^`?{name}`? must be .*, got .*\.$"):
        PaintTrainingArguments(output_dir="x", use_cpu=True, **NEEDED.get(name, {}), **{name: value})


@pytest.mark.parametrize(("name", "value"), [(name, value) for name, values in RIGHT.items() for value in values])
def test_the_ends_of_a_range_are_taken(name, value):
    args = PaintTrainingArguments(output_dir="x", use_cpu=True, warmup_steps=0, **{name: value})
    assert getattr(args, name) == value
