"""Which keys of the selection rule may change when a run is resumed."""

import pytest

from hf_paint.results.resuming import conflicts


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
