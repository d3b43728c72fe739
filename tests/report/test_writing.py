"""Reports as files: of every run, on the command line, and from Python."""

import os
import shutil
import sys

import pytest

import hf_paint
from browser import check_page
from hf_paint import AlphaCurve, PatchResult, select_alpha, write_report
from hf_paint.cli.main import main
from hf_paint.documents.reading import read_json
from hf_paint.files import write_json
from hf_paint.report import page, writing
from hf_paint.report.building import report_of
from hf_paint.results.locks import working_in
from hf_paint.results.run_folder import RunFolder
from hf_paint.weights.changes import measure_weight_changes
from report_checks import checked_report
from run_folders import write_run


@pytest.fixture
def run(finished_run, tmp_path):
    """A copy of the finished run."""
    return shutil.copytree(finished_run, tmp_path / "mine")


def is_page(path):
    return path.read_text(encoding="utf-8").lower().startswith("<!doctype html>")


def test_a_finished_run_has_its_report(finished_run):
    assert is_page(finished_run / "report.html")
    check_page(finished_run, checked_report(finished_run)["runs"][0])
    result = PatchResult(alpha=1.0, curve=AlphaCurve([]), run_folder=finished_run, model=None)
    assert result.report == finished_run / "report.html"


def test_layers_are_measured_at_the_end_and_need_no_weights_later(finished_run, run, model_folder):
    expected = measure_weight_changes(model_folder, {"theta_1": finished_run / "theta_1"})
    shutil.rmtree(run / "theta_1")
    shutil.rmtree(run / "patched")
    layers = report_of([run])["runs"][0]["layers"]
    assert [layer["name"] for layer in layers] == list(expected.products)
    for layer in layers:
        assert layer["norm"] == pytest.approx(expected.norm("theta_1", layer["name"]))
        assert layer["cosine"] == pytest.approx(expected.cosine_to_base("theta_1", layer["name"]))


def test_an_earlier_run_is_measured_if_its_weights_are_there(run):
    measured = report_of([run])["runs"][0]["layers"]
    (run / "changes.json").unlink()
    again = report_of([run])["runs"][0]["layers"]
    assert [layer["norm"] for layer in again] == pytest.approx([layer["norm"] for layer in measured])


def test_no_run_starts_while_the_report_and_its_checksum_are_written(run, monkeypatch):
    """A run removes the checksums, so that those of a report drawn meanwhile would be all that is left."""
    drawn = []

    def draw(report):
        with pytest.raises(hf_paint.InputError, match="Another process is using"), working_in(run):
            pass
        drawn.append(run)
        return page.render(report)

    monkeypatch.setattr(writing, "render", draw)
    write_report(run)
    assert drawn == [run]


def test_the_report_follows_another_choice(run):
    before = (run / "report.html").read_text(encoding="utf-8")
    other = 0.5 if read_json(run / "selection.json")["alpha"] != 0.5 else 1.0
    select_alpha(run, alpha=other)
    assert (run / "report.html").read_text(encoding="utf-8") != before
    found = checked_report(run)["runs"][0]
    assert found["points"][found["chosen"]]["alpha"] == other
    assert "by hand" in found["choice"][0].lower()


def test_a_report_that_fails_never_loses_a_run(run, monkeypatch, caplog):
    monkeypatch.delattr(writing.logger, "warning")  # which fails in every other test
    monkeypatch.setattr(writing, "render", lambda report: 1 / 0)
    writing.redraw_report(RunFolder(run, write=True))
    assert "is finished, but its report was not drawn (ZeroDivisionError: division by zero)" in caplog.text
    assert f"hf-paint report {run}" in caplog.text
    assert not (run / "report.html").exists()  # it might show what the run no longer shows


def test_neither_a_missing_vega_nor_a_folder_in_the_way_loses_a_run(run, monkeypatch, caplog):
    monkeypatch.delattr(writing.logger, "warning")
    (run / "report.html").unlink()
    (run / "report.html").mkdir()
    monkeypatch.setitem(sys.modules, "vl_convert", None)
    page._vega.cache_clear()
    writing.redraw_report(RunFolder(run, write=True))
    assert "its report was not drawn (ModuleNotFoundError: import of vl_convert halted" in caplog.text


def test_another_alpha_can_be_chosen_after_pictures_were_removed(run):
    [first, *others] = sorted((run / "examples").glob("*/*.jpg"))
    first.unlink()
    select_alpha(run, alpha=0.5)
    assert (run / f"examples-{first.parent.name}.png").is_file()
    for picture in others:
        picture.unlink()
    select_alpha(run, alpha=1.0)
    assert not list(run.glob("examples-*.png"))


def test_only_the_process_that_writes_draws_it(run):
    (run / "report.html").unlink()
    writing.redraw_report(RunFolder(run))
    assert not (run / "report.html").exists()


def test_the_command_writes_where_it_says(run, tmp_path, monkeypatch, capsys):
    (run / "report.html").unlink()
    assert main(["report", str(run)]) == 0
    assert capsys.readouterr().out == f"{run / 'report.html'}\n"
    assert main(["report", str(run), "--output", str(tmp_path / "mine.html")]) == 0
    monkeypatch.chdir(tmp_path)
    write_run(tmp_path / "other")
    capsys.readouterr()
    assert main(["report", "mine", "other"]) == 0
    assert capsys.readouterr().out == "report.html\n"
    for path in (run / "report.html", tmp_path / "mine.html", tmp_path / "report.html"):
        assert is_page(path)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "nowhere is not a run folder: it has no recipe.yaml"),
        (["mine", "mine"], "mine is given twice"),
        (["mine", "--output", "."], "The output . is a folder. Name a file in it, like report.html."),
        (["mine", "--output", "report.pdf"], "its name must end in .html; got report.pdf"),
        (["mine", "--output", "missing/report.html"], "The folder missing of the output does not exist."),
        ([], "the following arguments are required: RUN_DIR"),
    ],
)
def test_mistakes_are_named_on_one_line(run, arguments, message, monkeypatch, capsys):
    monkeypatch.chdir(run.parent)
    assert main(["report", *arguments]) == 2
    error = capsys.readouterr().err
    assert message in error
    assert error.count("\n") == 1


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_may_not_be_written_to(run, capsys):
    run.chmod(0o555)
    assert main(["report", str(run)]) == 2
    run.chmod(0o755)
    assert "You may not write to" in capsys.readouterr().err


def test_without_examples_there_are_no_pictures(run):
    shutil.rmtree(run / "examples")
    assert [task["pictures"] for task in report_of([run])["runs"][0]["tasks"]] == [[], []]
    assert "data:image/" not in write_report(run).read_text(encoding="utf-8").split("<script")[0]


def test_the_public_name():
    assert hf_paint.write_report is write_report
    with pytest.raises(hf_paint.InputError, match="at least one run folder"):
        write_report([])


def test_facts_and_the_recipe_name_no_place(run):
    recipe = read_json(run / "card.json") | {"base_model_id": "openai/clip-vit-base-patch32"}
    write_json(run / "card.json", recipe)
    found = checked_report(run)["runs"][0]
    assert found["model"] == "openai/clip-vit-base-patch32"
    assert "model: openai/clip-vit-base-patch32" in found["recipe"]
