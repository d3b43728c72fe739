"""A run knows whether its records and other small files are those that were saved."""

import json
import shutil
from pathlib import Path

import pytest

from damaging import flip
from hf_paint import InputError, push_variants, select_alpha, write_report
from hf_paint.cli.main import main
from hf_paint.results.locks import working_in
from hf_paint.results.result_log import ResultLog
from hf_paint.results.run_folder import RunFolder
from hf_paint.results.seals import break_seal, check_readable, seal_run
from hf_paint.weights.manifest import MANIFEST, damages, seal


@pytest.fixture
def run(finished_run, tmp_path):
    """A copy of a finished run, sealed."""
    folder = Path(shutil.copytree(finished_run, tmp_path / "run"))
    seal_run(folder)
    return folder


@pytest.mark.parametrize("name", ["results.jsonl", "details.jsonl", "recipe.yaml", "selection.json", "card.json"])
def test_a_damaged_file_is_named_before_a_run_is_read(run, name, capsys):
    flip(run / name)
    for read in (lambda: push_variants(run, "me/clip"), lambda: select_alpha(run, alpha=0.5)):
        with pytest.raises(InputError, match=f"{name} has other bytes than when it was saved"):
            read()
    for command in (["report", str(run)], ["compare", str(run)], ["apply", "base", str(run), "--output_dir", "new"]):
        assert main(command) == 2
        assert f"{name} has other bytes" in capsys.readouterr().err


def test_what_people_add_or_remove_is_no_damage(run, tmp_path):
    (run / "notes.json").write_text("mine")
    (run / "curve copy.png").write_bytes((run / "curve.png").read_bytes())
    seal_run(run)
    (run / "notes.json").write_text("mine, edited")
    (run / "curve copy.png").unlink()
    for name in ("curve.png", "report.html", "examples-colours.png"):
        (run / name).unlink()
    shutil.rmtree(run / "correct")
    check_readable(run)
    write_report(run, tmp_path / "report.html")


def test_missing_files_of_single_images_are_told_once(run, caplog):
    names = sorted(path.name for path in (run / "correct").iterdir())
    for name in names[:2]:
        (run / "correct" / name).unlink()
    check_readable(run)
    [message] = caplog.messages
    assert names[0] in message
    assert "and so is 1 other," in message
    assert "hf-paint patch" in message


def test_a_new_report_has_a_checksum_and_hides_no_damage(run):
    flip(run / "curve.png")
    (run / "report.html").write_text("an old one")
    write_report(run)
    assert [damage.name for damage in damages(run)] == ["curve.png"]


def test_earlier_versions_have_sealed_more_files(run):
    (run / "notes.json").write_text("mine")
    seal(run, ["*"])
    (run / "notes.json").unlink()
    check_readable(run)


def test_every_file_of_a_run_is_sealed(run):
    paths = (path for path in [*run.iterdir(), *(run / "correct").iterdir()] if path.is_file())
    own = {path.relative_to(run).as_posix() for path in paths if not path.name.endswith((".lock", ".svg", MANIFEST))}
    assert json.loads((run / MANIFEST).read_text())["files"].keys() == own


def test_what_a_run_can_make_again_is_removed(run, caplog):
    [first, second, *_] = sorted((run / "correct").iterdir())
    flip(first)
    second.unlink()
    break_seal(run)
    assert not first.exists()
    assert [record.getMessage() for record in caplog.records] == [
        f"{first} has other bytes than when it was saved, so its damaged parts are made again."
    ]
    assert not (run / MANIFEST).exists()
    assert (run / "results.jsonl").exists()


def test_records_are_only_valid_together(run):
    (run / "details.jsonl").unlink()
    break_seal(run)
    assert not (run / "results.jsonl").exists()


@pytest.mark.parametrize("name", ["results.jsonl", "details.jsonl"])
def test_only_the_damaged_lines_of_records_are_evaluated_again(run, name):
    before = len(ResultLog(run).results)
    whole = (run / name).read_bytes().splitlines()
    damaged = [whole[0], whole[1].replace(b'"alpha"', b'"Alpha"', 1), *whole[2:-1]]  # and its owner removed one line
    (run / name).write_bytes(b"\n".join(damaged) + b"\n")
    break_seal(run)
    assert (run / name).read_bytes().splitlines() == [whole[0], *whole[2:-1]]
    assert len(ResultLog(run, mend=True).results) == before - 2


def test_what_a_run_was_started_with_cannot_be_made_again(run):
    flip(run / "identity.json")
    with pytest.raises(InputError, match=r"identity\.json has other bytes"):
        break_seal(run)


def test_a_run_is_sealed_while_nobody_works_in_it(run, monkeypatch):
    monkeypatch.setattr("hf_paint.results.run_folder.seal_run", seal_run)
    folder = RunFolder(run, write=True)
    with folder.claimed(folder.load_recipe()):
        assert not (run / MANIFEST).exists()
    assert (run / MANIFEST).exists()


def test_a_run_in_use_is_not_read(run, capsys):
    with working_in(run):
        for command in (
            ["report", str(run)],
            ["select", str(run)],
            ["apply", "base", str(run), "--output_dir", "new"],
        ):
            assert main(command) == 2
            assert "Another process is using" in capsys.readouterr().err
