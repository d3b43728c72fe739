"""`hf-paint patch --dry_run`: what is printed before a run."""

import re

import pytest

from hf_paint.results.proportions import wilson_interval
from printed import printed_rows


ACCURACY = re.compile(r"([\d.]+) \(([\d.]+) to ([\d.]+)\) on (?:all (\d+)|(\d+) of (\d+)) (\w+) images")


@pytest.mark.parametrize("limit", [None, 4])
def test_samples_and_intervals_are_shown(recipe, capsys, monkeypatch, limit):
    monkeypatch.setattr("hf_paint.patching.timing.STEPS", 2)
    assert recipe("--dry_run", max_eval_images=limit, max_steps=8000) == 0
    out = capsys.readouterr().out
    rows = [row for row in printed_rows(out) if row[1] in ("patching", "supported")]
    assert len(rows) == 2
    for _, _, _, validation, test, _, accuracy, _ in rows:
        share, low, high, everything, sampled, drawn_from, split = ACCURACY.fullmatch(accuracy).groups()
        number = int(everything or sampled)
        shown = {"validation": validation, "test": test}[split]
        assert shown == (f"4 of {drawn_from}" if limit else everything)
        bounds = wilson_interval(round(float(share) * number / 100), number)
        assert [low, high] == [f"{100 * bound:.1f}" for bound in bounds]
    assert "e+0" not in out
