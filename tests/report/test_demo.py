"""What the demo shows: answers in words and as a table, the pictures of the run, and the measured curve."""

import json
import re
import shutil
from contextlib import contextmanager
from html import unescape
from importlib import metadata

import pytest
from PIL import Image

from by_hand import probabilities
from drawn_tasks import CLASS_NAMES
from hf_paint.cli.main import main
from hf_paint.report.comparison import Answer, comparison_html, sentence, split_words
from hf_paint.report.demo import Demo
from hf_paint.report.opening import open_subject
from hf_paint.results.alphas import Coefficients
from hf_paint.results.curve import AlphaCurve
from hf_paint.weights.manifest import MANIFEST


@pytest.fixture(scope="module")
def run(finished_run, tmp_path_factory):
    """A finished run with one picture of its own, and the picture."""
    folder = tmp_path_factory.mktemp("demo") / "run"
    shutil.copytree(finished_run, folder)
    (folder / "examples").mkdir(exist_ok=True)
    Image.new("RGB", (32, 32), "red").save(folder / "examples" / "0.jpg")
    picture = {"file": "0.jpg", "index": 0, "labels": [2], "written": None, "question": None, "candidates": None}
    asked = picture | {"question": "Is it {}?", "candidates": ["yes", "no"], "labels": [0]}
    lost = picture | {"file": "lost.jpg"}
    saved = {"role": "patching", "split": "test", "alpha": 0.5, "note": "", "pictures": [picture, lost, asked]}
    (folder / "examples" / "examples.json").write_text(json.dumps({"colours": saved}))
    (folder / "examples" / MANIFEST).unlink()
    return folder


@pytest.fixture(scope="module")
def demo(run):
    return Demo(open_subject(run))


def test_a_picture_that_would_fill_the_memory_is_refused(demo, tmp_path, monkeypatch):
    Image.new("L", (100, 100)).save(tmp_path / "bomb.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    assert "The picture cannot be read" in demo.answer(str(tmp_path / "bomb.png"), "cat, dog", "a {}", 0.5)


def rows(html):
    """The cells of a table, as texts."""
    cells = [re.findall(r"<t[dh][^>]*>(.*?)</t[dh]>", row) for row in re.findall(r"<tr>(.*?)</tr>", html)]
    return [[unescape(re.sub(r"<[^>]*>", "", cell)) for cell in row] for row in cells]


def test_the_table_shows_what_a_plain_model_answers(demo, run, model_folder):
    picture = Image.new("RGB", (50, 40), (40, 90, 200))
    path = run.parent / "picture.png"
    picture.save(path)
    words = ["red", "<script>alert(1)</script>", "blue"]
    html = demo.answer(str(path), ", ".join(words), "a {} thing", 0.3)
    assert "<script>" not in html
    before, after = (probabilities(model_folder, run / "theta_1", a, picture, words, "a {} thing") for a in (0, 0.3))
    header, *shown = rows(html)
    assert header == ["candidate", "before", "alpha 0.30", "points"]
    expected = sorted(zip(words, before, after, strict=True), key=lambda row: -row[2])
    for row, (word, x, y) in zip(shown, expected, strict=True):
        change = f"{100 * (y - x):+.1f}".replace("-", "\N{MINUS SIGN}")
        assert row == [word, f"{100 * x:.1f} %", f"{100 * y:.1f} %", change]


def test_a_moving_slider_gets_a_rough_answer_until_the_exact_one_is_known(run, monkeypatch):
    demo = Demo(open_subject(run))
    path = run.parent / "noise.png"
    Image.effect_noise((32, 32), 90).convert("RGB").save(path)
    asked = (str(path), ", ".join(CLASS_NAMES), "a {} thing", 0.3)
    monkeypatch.setattr("hf_paint.report.demo.multiplies_faster", lambda dtype: True)
    rough = demo.preview("a visitor", *asked)
    exact = demo.rest("a visitor", *asked)
    assert exact == demo.answer(*asked)
    assert demo.preview("a visitor", *asked) == exact
    [x], [y] = ([row for row in rows(html) if row[0] == "blue"] for html in (rough, exact))
    assert x[1] == y[1]
    assert float(x[2].rstrip(" %")) == pytest.approx(float(y[2].rstrip(" %")), abs=3)
    monkeypatch.setattr("hf_paint.report.demo.multiplies_faster", lambda dtype: False)
    other = (*asked[:3], 0.4)
    assert demo.preview("a visitor", *other) == demo.answer(*other)
    assert demo.rest("a visitor", *asked) is None  # the slider has moved on


def test_pictures_of_the_run_have_their_candidates_and_the_right_answer(demo, run):
    known, asked = demo.pictures  # a picture whose file is lost is left out
    assert (known.words, known.templates, known.right) == (CLASS_NAMES, ("a photo of a {}.",), {"blue"})
    assert (asked.words, asked.caption) == (("yes", "no"), "Is it {}? yes")
    path, words, prompts = demo.picked(0)
    html = demo.answer(path, words, prompts, 1.0)
    assert [row[0] for row in rows(html)[1:] if row[0].endswith("right")] == ["blue right"]
    assert "That is right." in html or "That is wrong." in html


def test_a_task_offers_its_words_and_unknown_ones_get_a_default(demo, model_folder):
    assert demo.offered() == demo.offered("colours") == ("\n".join(CLASS_NAMES), "a photo of a {}.")
    alone = Demo(open_subject(model_folder))
    words, prompts = alone.offered()
    assert split_words(words)
    assert prompts.count("{}") == 1


def test_many_coefficients_stand_in_the_sentence_and_not_in_the_table():
    html = comparison_html([Answer(word="w", before=0.5, after=1.0, right=None)], Coefficients({"a": 0.5, "b": 0.25}))
    assert rows(html)[0] == ["candidate", "before", "after", "points"]
    assert "a 0.50, b 0.25" in html


def test_a_model_alone_shows_one_column(run, model_folder):
    html = Demo(open_subject(model_folder)).answer(str(run / "examples" / "0.jpg"), "a, b", "{}")
    assert rows(html)[0] == ["candidate", "probability"]


def test_what_is_missing_is_said(demo, run, tmp_path):
    path = str(run / "examples" / "0.jpg")
    (tmp_path / "no.jpg").write_text("<b>")
    for arguments, said in [
        ((None, "a", "{}"), "Upload"),
        ((path, " , ", "{}"), "no words"),
        ((path, "a", "a photo"), "exactly one {}"),
        ((path, "a", ""), "no prompt"),
        ((str(tmp_path / "no.jpg"), "a", "{}"), "cannot be read"),
    ]:
        assert said in demo.answer(*arguments, 0.5)


def test_the_measured_curve(demo, run):
    curve = AlphaCurve.from_run(run)
    expected = [
        (alpha, 100 * curve.get(alpha, role, task, "test").accuracy, role)
        for alpha in (0.0, 0.5, 1.0)
        for role, task in (("patching", "colours"), ("supported", "others"))
    ]
    assert demo.accuracies() == [(a, pytest.approx(accuracy), role) for a, accuracy, role in expected]


def test_many_candidates_are_cut_but_never_the_right_or_the_first_one():
    answers = [Answer(word=f"w{i}", before=0.9 if i == 30 else 0.0, after=0.5**i, right=i == 20) for i in range(40)]
    html = comparison_html(answers, 0.5)
    assert [row[0] for row in rows(html)[1:]] == [*(f"w{i}" for i in range(10)), "w20 right", "w30"]
    assert "28 less probable" in html
    assert sentence(answers, 0.5) == (
        "The answer changes from w30 (90.0 %) to w0 (100.0 % at alpha 0.50). That is wrong."
    )


@pytest.mark.parametrize(
    ("version", "said"),
    [(None, "needs Gradio: pip install"), ("3.18.0", "needs Gradio 6.31 or newer, but 3.18.0 is installed")],
)
def test_without_gradio_the_command_says_how_to_install_it(run, version, said, monkeypatch, capsys):
    def installed(name):
        if version is None:
            raise metadata.PackageNotFoundError(name)
        return version

    monkeypatch.setattr("hf_paint.report.demo_server.metadata.version", installed)
    assert main(["demo", str(run)]) == 2
    [line] = capsys.readouterr().err.splitlines()
    assert said in line
    assert "hf-paint[demo]" in line


def test_the_command_serves_until_ctrl_c(run, monkeypatch, capsys):
    asked = {}

    @contextmanager
    def served(demo, **options):
        asked.update(options, title=demo.subject.title)
        yield "http://127.0.0.1:7860/"
        raise AssertionError("the command ended by itself")

    class Interrupted:
        def wait(self):
            raise KeyboardInterrupt

    monkeypatch.setattr("hf_paint.report.demo_server.check_gradio", lambda: None)
    monkeypatch.setattr("hf_paint.report.demo_server.served", served)
    monkeypatch.setattr("hf_paint.cli.demo.Event", Interrupted)
    assert main(["demo", str(run), "--no_browser", "--port", "7860"]) == 0
    assert asked == {"title": "run", "host": "127.0.0.1", "port": 7860, "share": False, "browser": False}
    assert "http://127.0.0.1:7860/" in capsys.readouterr().out


@pytest.mark.parametrize("flags", [["--port", "0"], ["--port", "x"], ["--base"]])
def test_wrong_flags(run, flags, capsys):
    assert main(["demo", str(run), *flags]) == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
