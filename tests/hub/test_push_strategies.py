"""Push joint, sequential and parallel runs to a local Hub, and pull them with plain transformers."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from huggingface_hub import HfApi, ModelCard, snapshot_download
from safetensors.torch import load_file
from transformers import CLIPModel

from drawn_tasks import write_task
from hf_paint import InputError, PatchOptions, PushOptions, load_curve, push_variants
from hf_paint.cli.main import main
from hf_paint.results.curve import AlphaCurve
from patch_runs import joint, parallel, sequential
from pushes import expected_repository, kill_and_push_again, repository, selected


BASE = PushOptions(base_model_id="o/clip")
REPOSITORY = "tester/clip"
STRATEGIES = {"joint": joint, "sequential": sequential, "parallel": parallel}
SEVERAL = ["sequential", "parallel"]


pytestmark = pytest.mark.usefixtures("_data_stay_the_same")


@pytest.fixture(scope="module")
def tasks(tmp_path_factory):
    folder = tmp_path_factory.mktemp("tasks")
    return [write_task(folder, name, seed=seed) for name, seed in (("first", 0), ("second", 3), ("kept", 7))]


@pytest.fixture(scope="module")
def runs(model_folder, tasks, tmp_path_factory):
    """strategy -> a finished, read-only run."""
    folder = tmp_path_factory.mktemp("strategies")
    return {name: patch(model_folder, tasks, folder / name).run_folder for name, patch in STRATEGIES.items()}


def branches_of(runs, strategy, model_folder):
    """branch -> the folder with its weights."""
    run = runs[strategy]
    patched = {"main": run / "patched"}
    if strategy == "sequential":
        return {"step-1": run / "step-1/patched", "step-2": run / "step-2/patched"} | patched
    return {"alpha-0.00": Path(model_folder)} | patched


def alphas_of(run, strategy):
    """branch -> its alpha as in JSON."""
    chosen = selected(run)
    if strategy == "sequential":
        return {"step-1": {"first": chosen["first"]}, "step-2": chosen, "main": chosen}
    return {"alpha-0.00": 0.0, "main": chosen}


@pytest.mark.parametrize("strategy", SEVERAL)
def test_every_branch_is_a_model_of_plain_transformers(hub, runs, model_folder, strategy):
    plan = push_variants(runs[strategy], REPOSITORY, options=BASE)
    expected = branches_of(runs, strategy, model_folder)
    assert [branch.name for branch in plan.branches] == list(expected)
    assert repository().keys() == expected.keys()
    names = {"README.md", "config.json", "model.safetensors", "processor_config.json"}
    names |= {"preprocessor_config.json", "tokenizer.json", "tokenizer_config.json", "tasks.json"}
    names |= {f"examples-{name}.png" for name in ("first", "second", "kept")}
    names |= {"curve.png", "accuracy.png"} | {path.name for path in runs[strategy].glob("per_class.png")}
    for branch, folder in expected.items():
        assert set(repository()[branch]) == names | ({"report.html"} if branch == "main" else set())
        found = CLIPModel.from_pretrained(REPOSITORY, revision=branch).state_dict()
        weights = load_file(folder / "model.safetensors")
        assert all(torch.equal(found[name], weights[name]) for name in weights)


def test_steps_are_published_in_the_dtype_of_the_run(hub, model_folder, tasks, tmp_path):
    """The run stores them in float32, to round once."""
    options = PatchOptions(save_dtype="bfloat16")
    run = sequential(model_folder, tasks, tmp_path / "run", options=options).run_folder
    push_variants(run, REPOSITORY, options=BASE)
    for branch in ("step-1", "step-2", "main"):
        model = CLIPModel.from_pretrained(REPOSITORY, revision=branch, dtype="auto")
        assert {tensor.dtype for tensor in model.parameters()} == {torch.bfloat16}


@pytest.mark.parametrize("strategy", SEVERAL)
def test_cards_tell_the_coefficients_of_their_branch(hub, runs, strategy):
    push_variants(runs[strategy], REPOSITORY, options=BASE)
    curve = AlphaCurve.from_run(runs[strategy])
    for branch, alpha in alphas_of(runs[strategy], strategy).items():
        card = ModelCard.load(HfApi().hf_hub_download(REPOSITORY, "README.md", revision=branch))
        assert card.data.hf_paint["alpha"] == alpha
        assert card.data.hf_paint["selected_alpha"] == selected(runs[strategy])
        for value in alpha.items() if isinstance(alpha, dict) else []:
            assert "{} {:.2f}".format(*value) in card.text
        [bold] = [line for line in card.text.splitlines() if line.startswith("| **")]
        for task, role in (("first", "patching"), ("second", "patching"), ("kept", "supported")):
            assert f"{100 * curve.get(as_key(curve, alpha), role, task, 'test').accuracy:.2f}" in bold


def test_a_step_is_patched_on_the_tasks_before_it(hub, runs):
    push_variants(runs["sequential"], REPOSITORY, options=BASE)
    for branch, tasks in (("step-1", "first"), ("step-2", "first, second"), ("main", "first, second")):
        card = ModelCard.load(HfApi().hf_hub_download(REPOSITORY, "README.md", revision=branch)).text
        assert f"# clip patched on {tasks}\n" in card
        assert f"Trained on the train split of {tasks} with" in card


def test_the_base_of_a_parallel_run_is_told_as_what_it_is(hub, runs):
    push_variants(runs["parallel"], REPOSITORY, options=BASE)
    card = ModelCard.load(HfApi().hf_hub_download(REPOSITORY, "README.md", revision="alpha-0.00")).text
    assert "the weight changes were added" in card
    assert "with the coefficients 0.00." in card
    assert "The unpatched model has a branch in this repository" in card


def as_key(curve, alpha):
    return next(held for held in curve.alphas if held == alpha)


def test_a_joint_run_is_published_like_a_run_on_one_task(hub, runs):
    plan = push_variants(runs["joint"], REPOSITORY, options=BASE)
    assert [branch.name for branch in plan.branches] == [
        *("alpha-0.00", "alpha-0.25", "alpha-0.50", "alpha-1.00", "main")
    ]
    theta_1 = CLIPModel.from_pretrained(runs["joint"] / "theta_1").state_dict()
    found = CLIPModel.from_pretrained(REPOSITORY, revision="alpha-1.00").state_dict()
    assert all(torch.equal(found[name], theta_1[name]) for name in theta_1)
    push_variants(runs["joint"], "tester/patch", options=PushOptions(base_model_id="o/clip", form="delta"))
    assert json.loads(Path(HfApi().hf_hub_download("tester/patch", "patch_config.json")).read_text())[
        "patching_tasks"
    ] == ["first", "second"]


@pytest.mark.parametrize("strategy", SEVERAL)
def test_curve_and_variants_are_read_back(hub, runs, strategy, capsys):
    push_variants(runs[strategy], REPOSITORY, options=BASE)
    curve, expected = load_curve(REPOSITORY), AlphaCurve.from_run(runs[strategy])
    assert curve.alphas == expected.alphas
    for result in expected.results:
        found = curve.get(result.alpha, result.role, result.task, result.split)
        assert (found.correct, found.total) == (result.correct, result.total)
    assert main(["variants", REPOSITORY]) == 0
    shown = [line for line in capsys.readouterr().out.splitlines() if line.strip()]
    for branch, alpha in alphas_of(runs[strategy], strategy).items():
        accuracy = expected.get(as_key(expected, alpha), "supported", "kept", "test").accuracy
        [line] = [line for line in shown if branch in line]
        assert f"{100 * accuracy:.2f}" in line
        assert all(f"{task} {value:.2f}" in line for task, value in (alpha or {}).items())


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_second_push_uploads_nothing(hub, runs, strategy):
    push_variants(runs[strategy], REPOSITORY, options=BASE)
    before, commits = repository(), len(hub.calls("commit"))
    plan = push_variants(runs[strategy], REPOSITORY, options=BASE)
    assert {branch.action for branch in plan.branches} == {"keep"}
    assert (repository(), len(hub.calls("commit"))) == (before, commits)


@pytest.mark.parametrize("flags", [["--form", "delta"], ["--alphas", "0", "0.5"], ["--alphas", "0"]])
@pytest.mark.parametrize("strategy", SEVERAL)
def test_what_needs_one_alpha_is_refused_in_one_line(hub, runs, strategy, flags, capsys):
    command = ["push", str(runs[strategy]), "--repo_id", REPOSITORY, "--base_model_id", "o/clip", *flags]
    assert main(command) == 2
    [said] = capsys.readouterr().err.strip().splitlines()
    assert "requires a run with one alpha" in said
    assert strategy in said
    assert not hub.calls("create_repo")


@pytest.mark.parametrize(("strategy", "victim"), [("sequential", 9), ("parallel", 7)])
def test_a_killed_push_goes_on(hub, runs, strategy, victim):
    expected = expected_repository(hub, runs[strategy])
    kill_and_push_again(hub, runs[strategy], victim, 0.01, expected)


def test_another_run_is_refused_unless_it_may_go(hub, runs):
    push_variants(runs["parallel"], REPOSITORY, options=BASE)
    with pytest.raises(InputError, match="The branch main of tester/clip has different weights"):
        push_variants(runs["sequential"], REPOSITORY, options=BASE)
    push_variants(runs["sequential"], REPOSITORY, overwrite=True, options=BASE)
    assert ModelCard.load(REPOSITORY).data.hf_paint["alpha"] == selected(runs["sequential"])


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_no_local_path_reaches_the_hub(hub, runs, strategy):
    push_variants(runs[strategy], REPOSITORY, options=BASE)
    assert_no_path(runs[strategy].parent)


def assert_no_path(folder):
    for branch in repository():
        for path in Path(snapshot_download(REPOSITORY, revision=branch)).iterdir():
            text = path.read_bytes().decode(errors="ignore")
            assert not [
                word for word in (str(folder), "/tmp", "runs/", "snapshots", str(Path.home())) if word in text
            ], path.name


def test_the_card_names_given_models_by_their_ids_and_never_by_their_paths(hub, runs, tasks, model_folder, tmp_path):
    fine_tuned = {task: runs["parallel"] / "thetas" / task / "theta_1" for task in ("first", "second")}
    HfApi().create_repo("tester/first-tuned")
    HfApi().upload_folder(repo_id="tester/first-tuned", folder_path=fine_tuned["first"])
    thetas = {"first": "tester/first-tuned", "second": str(fine_tuned["second"])}
    result = parallel(model_folder, tasks, tmp_path / "run", thetas=thetas)
    assert result.alpha == selected(runs["parallel"])
    push_variants(result, REPOSITORY, options=BASE)
    assert_no_path(tmp_path)
    recipe = ModelCard.load(REPOSITORY).text.split("```yaml\n")[1].split("```")[0]
    assert yaml.safe_load(recipe)["thetas"] == {"first": "tester/first-tuned", "second": "a local folder"}
