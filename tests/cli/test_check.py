"""`hf-paint check` with real models: every exit code, and what is printed."""

import json

import numpy as np
import pytest

from drawn_tasks import write_task_yaml
from hf_paint import InputError, check_model, evaluate_tasks
from hf_paint.cli.main import main
from hf_paint.fingerprints import fingerprint_weights
from hf_paint.models.stored import StoredTower
from hf_paint.results.checks import Check, TaskCheck
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.records import Result


@pytest.fixture(scope="module")
def colours(tmp_path_factory):
    return write_task_yaml(tmp_path_factory.mktemp("check"), "colours")


def check(capsys, *arguments):
    capsys.readouterr()
    code = main(["check", *map(str, arguments), "--use_cpu"])
    return code, capsys.readouterr()


def test_passed(finished_run, model_folder, colours, capsys):
    code, shown = check(
        capsys, finished_run / "theta_1", "--against", model_folder, "--gain", f"{colours}=0.05", "--json"
    )
    assert code == 0
    report = json.loads(shown.out)
    [task] = report["tasks"]
    curve = AlphaCurve.from_run(finished_run)
    before, after = (curve.get(alpha, "patching", "colours", "test") for alpha in (0.0, 1.0))
    assert (task["before"], task["after"], task["images"]) == (before.accuracy, after.accuracy, after.total)
    correct = [np.load(finished_run / result.correct_file) for result in (before, after)]
    assert task["won"] == int((correct[1] & ~correct[0]).sum())
    assert task["lost"] == int((correct[0] & ~correct[1]).sum())
    assert (task["rule"], task["bound"], task["verdict"], task["images_needed"]) == ("gain", 0.05, "gained", None)
    assert (report["verdict"], report["exit_code"], report["against"]) == ("passed", 0, model_folder)
    assert report["fingerprint"] == after.weights
    assert report["against_fingerprint"] == before.weights


def test_failed(finished_run, model_folder, colours, capsys):
    code, shown = check(capsys, model_folder, "--against", finished_run / "theta_1", "--tasks", colours)
    assert code == 3
    assert "regressed" in shown.out
    assert shown.out.splitlines()[-1].startswith("Failed: colours must lose less than 1 point, but changed by -")
    code, shown = check(
        capsys, model_folder, "--against", model_folder, "--gain", f"{colours}=0.5", "--tasks", colours
    )
    assert code == 3
    assert shown.out.splitlines()[-1].startswith("Failed: colours must gain more than 50 points, but changed by +0.0")


def test_cannot_tell(model_folder, colours, capsys):
    """The same model on 40 images does not prove that it loses less than a point."""
    code, shown = check(capsys, model_folder, "--against", model_folder, "--tasks", colours)
    assert code == 4
    line = "40 images of colours do not tell whether it would lose less than 1 point; about 370 would"
    assert f"Cannot tell: {line}.\n" in shown.out
    code, _ = check(capsys, model_folder, "--against", model_folder, "--tasks", colours, "--tolerance", "0.1")
    assert code == 0


def test_a_sample_is_the_same_for_both_models_and_is_called_one(finished_run, model_folder, colours, capsys):
    """Every image that the sample holds is one that `evaluate_tasks` draws."""
    arguments = (finished_run / "theta_1", "--against", model_folder, "--tasks", colours, "--max_eval_images", 12)
    _, shown = check(capsys, *arguments, "--json")
    [task] = json.loads(shown.out)["tasks"]
    records = [evaluate_tasks(str(name), [colours], max_eval_images=12)[0] for name in (arguments[2], arguments[0])]
    assert (task["images"], task["drawn_from"]) == (12, 40)
    assert [task["before"], task["after"]] == [record.accuracy for record in records]
    _, shown = check(capsys, *arguments)
    assert "12 of 40" in shown.out


def test_a_run_is_checked_on_its_own_tasks(finished_run, model_folder, capsys):
    code, shown = check(capsys, finished_run, "--against", model_folder, "--tolerance", "0.9", "--json")
    assert code == 0
    assert [task["task"] for task in json.loads(shown.out)["tasks"]] == ["colours", "others"]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--tasks", "minst"], "Task 'minst' is unknown. Did you mean 'mnist'?"),
        (["--tasks", "mnist", "--tolerance", "2"], "The tolerance must be a fraction from 0 to 1, got 2.0"),
        (["--gain", "mnist=5"], "The gain of 'mnist' must be a fraction from 0 to 1, got 5.0"),
        (["--gain", "mnist"], "must be TASK=GAIN, like textures=0.05, got 'mnist'"),
        ([], "is not a run and has no tasks.json, so it names no tasks. Pass --tasks."),
    ],
)
def test_mistakes(model_folder, capsys, arguments, message):
    code, shown = check(capsys, model_folder, "--against", model_folder, *arguments)
    assert (code, shown.out) == (2, "")
    assert message in shown.err
    assert len(shown.err.splitlines()) == 1


def test_in_python_with_models_by_name_and_in_memory(model_folder, finished_run, colours, model, processor):
    checked = check_model(finished_run, model_folder, [colours], tolerance=0.5)
    assert checked.verdict == "passed"
    assert f"<p>{checked.sentence()}</p><table>" in checked._repr_html_()
    assert f"<td>{checked.tasks[0].verdict}</td>" in checked._repr_html_()
    with pytest.raises(InputError, match="needs a processor"):
        check_model(model, model_folder, [colours])
    with pytest.raises(InputError, match="There is nothing to check"):
        check_model(model_folder, model_folder)
    [named] = evaluate_tasks(model_folder, [colours])
    [held] = evaluate_tasks(model, [colours], processor=processor)
    assert named == held


def test_evaluate_prints_json_and_takes_a_run(finished_run, tmp_path, capsys):
    assert main(["evaluate", str(finished_run), "--use_cpu", "--json"]) == 0
    report = json.loads(capsys.readouterr().out)
    alpha = json.loads((finished_run / "selection.json").read_text())["alpha"]
    curve = AlphaCurve.from_run(finished_run)
    for task, role in (("colours", "patching"), ("others", "supported")):
        [record] = [record for record in report["tasks"] if record["task"] == task]
        expected = curve.get(alpha, role, task, "test")
        assert not {"alpha", "role", "examples"} & record.keys()
        assert (record["correct"], record["total"], record["loss"]) == (
            expected.correct,
            expected.total,
            expected.loss,
        )
    assert report["fingerprint"] == fingerprint_weights(StoredTower(finished_run / "patched"))
    assert main(["evaluate", str(finished_run / "patched"), "--use_cpu", "--json"]) == 0
    assert json.loads(capsys.readouterr().out)["tasks"] == report["tasks"]
    (tmp_path / "recipe.yaml").write_text("model: m\n")
    assert main(["evaluate", str(tmp_path), "--use_cpu"]) == 2
    assert "has no patched model: it is not finished" in capsys.readouterr().err


def test_a_difference_at_the_bound_is_named_as_that():
    record = Result(alpha=0.0, task="t", role="supported", split="test", correct=20, total=40)
    task = TaskCheck(before=record, after=record, won=3, lost=3, rule="keep", bound=0.0)
    said = Check(model="m", against="b", split="test", tasks=[task]).sentence()
    assert said.endswith("; the difference is too close to the bound.")
