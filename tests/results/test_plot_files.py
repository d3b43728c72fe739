"""Plots as files and in notebooks: PNG and SVG of a run, their words as text, and what HTML shows of results."""

import base64
import re
from dataclasses import replace
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image

from hf_paint import AlphaCurve, Task
from hf_paint.files import write_json
from hf_paint.results.calibration import Calibration
from hf_paint.results.class_changes import class_changes
from hf_paint.results.details import Confusion, Details
from hf_paint.results.details_log import DetailsLog
from hf_paint.results.plots.files import save_plot
from hf_paint.results.plots.kinds import save_run_plots
from hf_paint.results.plots.shown import Shown
from hf_paint.results.plots.trade_off import draw_curve
from hf_paint.results.result_log import ResultLog
from hf_paint.results.run_folder import RunFolder
from plotted import GRID, made_curve
from run_folders import CHOSEN


NAME = "<b>a_b$c$ &"
TASKS = {"patching": [NAME], "supported": ["größe"]}
TAGS = {"p", "table", "tr", "th", "td", "b", "img", "details", "summary"}


class Page(HTMLParser):
    """Tags, texts and attributes of images."""

    def __init__(self, text):
        super().__init__()
        self.tags, self.texts, self.images = set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.add(tag)
        self.images += [dict(attrs)] if tag == "img" else []

    def handle_data(self, data):
        self.texts.append(data)


@pytest.fixture(scope="module")
def curve():
    return made_curve(GRID, TASKS)


def svg_texts(path):
    tree = ElementTree.parse(path)
    return " ".join(element.text or "" for element in tree.iter("{http://www.w3.org/2000/svg}text"))


def test_a_plot_is_saved_twice_with_the_same_bytes(curve, tmp_path):
    for name in ("one", "two"):
        save_plot(draw_curve(Shown(curve=curve, split="test", selected=0.5)), tmp_path / f"{name}.png")
    for form in ("png", "svg"):
        assert (tmp_path / f"one.{form}").read_bytes() == (tmp_path / f"two.{form}").read_bytes()
    texts = svg_texts(tmp_path / "one.svg")
    for words in (
        NAME,
        "größe",
        "chosen: alpha 0.50",
        "best patching accuracy",
        "supported accuracy, % (größe; test)",
    ):
        assert words in texts
    with Image.open(tmp_path / "one.png") as image:
        assert image.width == 1050
        assert image.convert("RGB").getpixel((3, 3)) == (255, 255, 255)
    assert (tmp_path / "one.png").stat().st_size < 200_000
    assert (tmp_path / "one.svg").stat().st_size < 100_000


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run folder with details of two classes: cats lose 20 of 60 images, dogs gain 30 of 40."""
    folder = RunFolder(tmp_path_factory.mktemp("run"), write=True)
    log, details = ResultLog(folder.path), DetailsLog(folder.path)
    counts = {0.0: ([50, 5], [5, 10]), 1.0: ([30, 35], [25, 10])}
    for alpha, (right, _) in counts.items():
        for role, task in (("patching", "pets"), ("supported", "others")):
            [record] = made_curve([alpha], {role: [task]}, total=100).results
            record = replace(record, correct=sum(right), weights=f"weights {alpha}", correct_file=None)
            log.append(record)
            entries = [(0, 0, right[0]), (0, 1, 60 - right[0]), (1, 0, 40 - right[1]), (1, 1, right[1])]
            columns = [np.array(column) for column in zip(*entries, strict=True)]
            confusion = Confusion(**dict(zip(("classes", "predicted", "images"), columns, strict=True)))
            bins = Calibration.of(np.full(100, 0.5, dtype=np.float32), np.arange(100) < sum(right))
            details.append(record, Details(calibration=bins, confusion=confusion, answers=None))
    write_json(folder.tasks, {"tasks": [{"name": name, "class_names": ["cat", "dog"]} for name in ("pets", "others")]})
    write_json(folder.selection, CHOSEN | {"alpha": 1.0})
    return folder


def test_classes_are_counted_from_the_details(run):
    changes = class_changes(AlphaCurve.from_run(run.path), 1.0, "test")
    assert [(c.task, c.name, c.before, c.after, c.total) for c in changes] == [
        (task, *counts) for task in ("pets", "others") for counts in (("cat", 50, 30, 60), ("dog", 5, 35, 40))
    ]
    assert class_changes(AlphaCurve.from_run(run.path), 0.5, "test") == []
    assert class_changes(made_curve(GRID, TASKS), 1.0, "test") == []


@pytest.mark.usefixtures("_drawn_plots")
def test_a_run_has_the_plots_that_apply_and_no_others(run):
    curve = AlphaCurve.from_run(run.path)
    shown = Shown.of(curve)
    assert shown.selected == 1.0
    save_run_plots(run, shown, {})
    assert [path.name for path in run.plots] == ["curve.png", "accuracy.png", "per_class.png"]
    assert all(path.with_suffix(".svg").exists() for path in run.plots)
    texts = svg_texts(run.per_class_plot.with_suffix(".svg"))
    for words in ("cat (pets)", "dog (others)", "-33.3 (60 images)", "+75.0 (40 images)"):
        assert words in texts
    save_run_plots(run, replace(shown, selected=0.0), {})  # nothing changes, so there is nothing to show by class
    assert [path.name for path in run.plots] == ["curve.png", "accuracy.png"]
    assert not run.per_class_plot.with_suffix(".svg").exists()


def test_a_curve_shows_itself_as_text_and_a_picture(curve):
    html = curve._repr_html_()
    page = Page(html)
    assert page.tags <= TAGS
    assert len(html) < 200_000
    assert f"{NAME} (patching)" in page.texts
    [image] = page.images
    kind, _, content = image["src"].partition(",")
    assert kind == "data:image/png;base64"
    assert base64.b64decode(content).startswith(b"\x89PNG")
    assert NAME in image["alt"]
    assert "style" not in html


def test_long_and_wide_tables_fold():
    long = made_curve([step / 100 for step in range(101)], TASKS)
    wide = made_curve([step / 100 for step in range(101)], TASKS | {"transfer": [f"task-{n}" for n in range(50)]})
    page = Page(long._repr_html_())
    assert "All 101 alphas" in page.texts
    assert page.texts.count("0.50") == 1
    for curve in (long, wide):
        assert len(curve._repr_html_()) < 200_000
        assert Page(curve._repr_html_()).tags <= TAGS
        assert len(repr(curve)) < 200
    assert "101 alphas in all; to_frame() and to_markdown() have them." in Page(wide._repr_html_()).texts


def test_a_run_shows_the_chosen_alpha(run):
    html = AlphaCurve.from_run(run.path)._repr_html_()
    assert "<b>1 (fine-tuned)</b>" in html
    assert "at alpha 1.00" in html


def test_a_task_shows_its_definition(tmp_path):
    names = tuple(f"<i>{number}" for number in range(30))
    task = Task(name="pets", dataset="me/pets", templates=("a {}", "<s> {}"), class_names=names)
    page = Page(task._repr_html_())
    assert page.tags == {"table", "tr", "th", "td"}
    cells = " ".join(page.texts)
    assert "me/pets" in cells
    assert re.search(r"30: <i>0, <i>1, .*<i>19, … \(10 more\)", cells)
    assert "2: a {}, <s> {}" in cells
    assert "from the data" in " ".join(Page(Task(name="x", dataset="y", templates=("a {}",))._repr_html_()).texts)
