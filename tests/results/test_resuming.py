"""Which keys of the selection rule may change when a run is resumed, and that a step may be divided otherwise."""

import pytest

from hf_paint import PaintTrainingArguments
from hf_paint.results.resuming import DEFAULTS, MICRO_BATCH, conflicts, describe
from hf_paint.results.selection import DEFAULT_RULE, DEFAULT_TOLERANCE


MEAN = {"selection": "mean", "tolerance": 0.01}
WITHIN = {"selection": "supported_within", "tolerance": 0.02}
NONE = {"selection": "none", "tolerance": 0.01}

CHANGES = {
    "another rule": ({}, MEAN, WITHIN, []),
    "another tolerance": ({}, WITHIN, WITHIN | {"tolerance": 0.1}, []),
    "a rule at last": ({}, NONE, WITHIN, []),
    "no rule any more": ({}, MEAN, NONE, ["selection"]),
    "steps start from the choice": ({"strategy": "sequential"}, MEAN, WITHIN, ["selection", "tolerance"]),
    "in a step": ({"step": "mnist"}, MEAN, WITHIN, ["selection", "tolerance"]),
    "a soup made by the rule": ({"method": {"greedy_soup": {"score": "selection"}}}, MEAN, WITHIN, [*WITHIN]),
    "a soup made otherwise": ({"method": {"greedy_soup": {"score": "patching"}}}, MEAN, WITHIN, []),
    "a search": ({"strategy": "parallel"}, MEAN, WITHIN, []),
}


@pytest.mark.parametrize(("keys", "before", "after", "expected"), CHANGES.values(), ids=CHANGES)
def test_a_rule_may_change_unless_weights_depend_on_it(keys, before, after, expected):
    assert conflicts(keys | before, keys | after) == expected


SIZE, NUMBER = MICRO_BATCH
DIVISIONS = {
    "smaller batches": ({SIZE: 64}, {SIZE: 16, NUMBER: 4}, []),
    "smaller than by default": ({}, {SIZE: 32, NUMBER: 4}, []),
    "the default, written out": ({}, {NUMBER: 1}, []),
    "fewer images": ({SIZE: 64}, {SIZE: 32}, [SIZE]),
    "more images": ({}, {NUMBER: 2}, [NUMBER]),
    "damage": ({SIZE: "x"}, {SIZE: 64}, [SIZE]),
}


@pytest.mark.parametrize(("before", "after", "expected"), DIVISIONS.values(), ids=DIVISIONS)
def test_the_images_of_a_step_may_be_divided_otherwise(before, after, expected):
    assert conflicts(before, after) == conflicts(after, before) == expected


def test_the_defaults_are_those_of_the_training(tmp_path):
    args = PaintTrainingArguments(output_dir=str(tmp_path), use_cpu=True)
    assert {key: getattr(args, key) for key in MICRO_BATCH} == MICRO_BATCH


def test_defaults_are_shown_for_keys_that_a_recipe_leaves_out(tmp_path):
    args = PaintTrainingArguments(output_dir=tmp_path / "run", use_cpu=True)
    given = {"selection": DEFAULT_RULE, "tolerance": DEFAULT_TOLERANCE}
    assert {key: given[key] if key in given else getattr(args, key) for key in DEFAULTS} == DEFAULTS
    assert describe(["max_steps", "seed"], {"max_steps": 25}, {"seed": 7}) == (
        "max_steps: 25 there, 2000 here, seed: 42 there, 7 here"
    )
    assert describe(["max_steps"], {"max_steps": 25}, {"num_train_epochs": 3}) == "max_steps: 25 there, not set here"
