"""A few of the hostile files and names that `make torture` gives to the commands."""

import pytest
from hostile import KINDS, tally_of
from tally import Budget


FEW = {"pickles": 8, "remote code": 8, "traversal": 8, "documents": 8, "headers": 6, "bombs": 2, "secrets": 3}


@pytest.mark.parametrize("kind", KINDS)
def test_nothing_is_lost(kind):
    budget = Budget(60)
    rng = budget.rng(kind)
    cases = KINDS[kind](rng)
    chosen = {name: cases[name] for name in sorted(rng.sample(sorted(cases), min(FEW[kind], len(cases))))}
    tally = tally_of(kind, chosen, budget)
    assert (tally.tried, tally.lost) == (len(chosen), [])
