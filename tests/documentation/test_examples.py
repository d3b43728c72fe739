"""Every example is short, runs offline, and draws the picture that the page shows with its code."""

import ast
import runpy
import sys
from pathlib import Path

import pytest
from matplotlib import pyplot
from PIL import Image

from hf_paint import patch


sys.path.insert(0, str(Path(__file__).parents[2] / "docs"))
import build_gallery


EXAMPLES = build_gallery.EXAMPLES
SCRIPTS = sorted(path for path in EXAMPLES.glob("*.py") if path.name != build_gallery.SHARED)
MOST_LINES = 40
SHORT = {"max_steps": 4, "warmup_steps": 1, "per_device_train_batch_size": 32}
SHORT |= {"alphas": [0, 0.5, 1], "selection": "mean", "max_eval_images": 60}
"""Keys of every run, whatever a script says."""


def test_every_example_draws_its_picture(tmp_path, monkeypatch):
    """In one test and one process, so that a run that several scripts read is made once; the runs are short."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend(EXAMPLES)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    pyplot.switch_backend("agg")
    with pyplot.rc_context():
        monkeypatch.setattr("toy.patch", lambda *args, **keys: patch(*args, **(keys | SHORT)))
        for script in (EXAMPLES / f"{name}.py" for name in build_gallery.ORDER):
            runpy.run_path(str(script), run_name="__main__")
            pyplot.close("all")
            drawn, kept = (
                Image.open(folder / f"{script.stem}.png") for folder in (tmp_path / "runs/examples", EXAMPLES)
            )
            assert drawn.size == kept.size, script
            assert len(set(drawn.convert("L").get_flattened_data())) > 20, f"{script} draws nothing"


def test_the_page_shows_every_example():
    assert sorted(build_gallery.ORDER) == [script.stem for script in SCRIPTS]
    assert len(SCRIPTS) >= 8
    text = "\n".join(build_gallery.sections())
    for script in SCRIPTS:
        last = script.read_text(encoding="utf-8").rstrip().splitlines()[-1]
        assert f"![{title(script)}]({script.stem}.png)" in text
        assert f"    {last}\n    ```" in text


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_an_example_is_short_and_says_what_it_shows(script):
    assert len(script.read_text(encoding="utf-8").splitlines()) < MOST_LINES
    assert len(title(script)) < 60
    assert script.with_suffix(".png").stat().st_size < 150_000


def title(script):
    return ast.get_docstring(ast.parse(script.read_text(encoding="utf-8"))).splitlines()[0]
