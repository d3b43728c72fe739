"""Push runs to a local Hub, and pull them with plain transformers."""

import json
import re
import shutil
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from filelock import FileLock
from huggingface_hub import HfApi, ModelCard, constants
from PIL import Image
from transformers import CLIPModel, pipeline

from drawn_tasks import write_task
from forked_calls import Fork
from hf_paint import (
    InputError,
    PaintTrainingArguments,
    PatchOptions,
    PushOptions,
    apply_patch,
    interpolate,
    load_curve,
    patch_single,
    push_variants,
)
from hf_paint.cli.main import main
from hf_paint.hub.owners import check_owner
from hf_paint.models.towers import image_tower_weights
from hf_paint.results.bootstrap import paired_bootstrap_interval
from hf_paint.results.curve import AlphaCurve
from hf_paint.temporary import own_prefix
from hf_paint.weights.manifest import MANIFEST
from hub_server import Fault
from pushes import selected


ALPHAS = [0.0, 0.3, 1.0]
BASE = PushOptions(base_model_id="o/clip")


@pytest.fixture(scope="module")
def run(model_folder, tmp_path_factory):
    """A finished, read-only run."""
    folder = tmp_path_factory.mktemp("push")
    tasks = write_task(folder / "data"), write_task(folder / "data", "others", seed=7)
    keys = {"learning_rate": 1e-3, "max_steps": 8, "warmup_steps": 2, "per_device_train_batch_size": 16}
    args = PaintTrainingArguments(output_dir=str(folder / "run"), use_cpu=True, disable_tqdm=True, **keys)
    patch_single(model_folder, tasks[0], [tasks[1]], args, alphas=ALPHAS)
    return folder / "run"


@pytest.fixture
def thetas(run, model_folder):
    return CLIPModel.from_pretrained(model_folder).state_dict(), CLIPModel.from_pretrained(
        run / "theta_1"
    ).state_dict()


def same(model, weights):
    found = model.state_dict()
    return found.keys() == weights.keys() and all(torch.equal(found[name], weights[name]) for name in weights)


def repository(hub, repo_id="tester/clip"):
    """branch -> {file: content}, independent of the history."""
    api = HfApi()
    branches = {}
    for branch in api.list_repo_refs(repo_id).branches:
        files = api.list_repo_tree(repo_id, revision=branch.name, recursive=True)
        branches[branch.name] = {file.path: file.blob_id for file in files}
    return branches


def test_every_branch_is_a_model_of_plain_transformers(hub, run, thetas):
    plan = push_variants(run, "tester/clip", options=BASE)
    assert [branch.name for branch in plan.branches] == ["alpha-0.00", "alpha-0.30", "alpha-1.00", "main"]
    alphas = {"alpha-0.00": 0.0, "alpha-0.30": 0.3, "alpha-1.00": 1.0, "main": selected(run)}
    for branch, alpha in alphas.items():
        assert same(CLIPModel.from_pretrained("tester/clip", revision=branch), interpolate(*thetas, alpha))
    names = {"README.md", "config.json", "curve.png", "model.safetensors", "processor_config.json", "tokenizer.json"}
    for files in repository(hub).values():
        assert names <= files.keys()
        assert not [file for file in files if file.endswith((".partial", ".bin", ".pt", ".jsonl"))]


def test_pulled_where_hf_paint_cannot_be_imported(hub, run):
    push_variants(run, "tester/clip", options=BASE)

    def pull():
        for name in [name for name in sys.modules if name.partition(".")[0] == "hf_paint"]:
            del sys.modules[name]
        sys.modules["hf_paint"] = None
        classify = pipeline("zero-shot-image-classification", model="tester/clip", revision="alpha-0.30")
        assert len(classify(Image.new("RGB", (40, 40), "red"), candidate_labels=["red", "green"])) == 2

    code, printed = Fork(pull).wait(300)
    assert code == 0, printed


def test_main_is_written_last_and_each_branch_in_one_commit(hub, run):
    push_variants(run, "tester/clip", options=BASE)
    written = [call.path for call in hub.calls("commit")]
    assert [path.split("/commit/")[1] for path in written] == ["alpha-0.00", "alpha-0.30", "alpha-1.00", "main"]


def test_a_second_push_uploads_nothing(hub, run):
    push_variants(run, "tester/clip", options=BASE)
    before, commits = repository(hub), len(hub.calls("commit"))
    plan = push_variants(run, "tester/clip", options=BASE)
    assert {branch.action for branch in plan.branches} == {"keep"}
    assert (repository(hub), len(hub.calls("commit"))) == (before, commits)


def test_branches_can_be_added_to_a_repository(hub, run):
    push_variants(run, "tester/clip", alphas=[0.3], options=BASE)
    assert set(repository(hub)) == {"alpha-0.30", "main"}
    plan = push_variants(run, "tester/clip", options=BASE)
    actions = {branch.name: branch.action for branch in plan.branches}
    assert actions == {
        "alpha-0.00": "upload",
        "alpha-0.30": "update card",
        "alpha-1.00": "upload",
        "main": "update card",
    }
    once = repository(hub)
    push_variants(run, "tester/once", options=BASE)
    twice = repository(hub, "tester/once")
    weights = {branch: files["model.safetensors"] for branch, files in once.items()}
    assert weights == {branch: files["model.safetensors"] for branch, files in twice.items()}


def test_images_that_a_run_no_longer_shows_leave_the_repository(hub, run, tmp_path):
    run = Path(shutil.copytree(run, tmp_path / "run"))
    push_variants(run, "tester/clip", alphas=[0.3], options=BASE)
    assert "examples-colours.png" in repository(hub)["main"]
    (run / "examples-colours.png").unlink()
    facts = json.loads((run / "card.json").read_text())
    facts["examples"].pop("colours")
    (run / "card.json").write_text(json.dumps(facts))
    plan = push_variants(run, "tester/clip", alphas=[0.3], options=BASE)
    assert {branch.action for branch in plan.branches} == {"update card"}
    for files in repository(hub).values():
        assert "examples-colours.png" not in files
        assert "examples-others.png" in files
        assert "model.safetensors" in files


def test_the_report_stands_on_main_beside_the_card_that_links_it(hub, run, tmp_path):
    run = Path(shutil.copytree(run, tmp_path / "run"))
    push_variants(run, "tester/clip", alphas=[0.3], options=BASE)
    for branch, files in repository(hub).items():
        card = ModelCard.load(HfApi().hf_hub_download("tester/clip", "README.md", revision=branch)).content
        assert ("report.html" in files) == ("](report.html)" in card) == (branch == "main")
    (run / "report.html").unlink()
    plan = push_variants(run, "tester/clip", alphas=[0.3], options=BASE)
    assert {branch.name: branch.action for branch in plan.branches} == {"main": "update card", "alpha-0.30": "keep"}
    assert "report.html" not in repository(hub)["main"]


def test_other_weights_are_refused_unless_they_may_go(hub, run, model_folder):
    api = HfApi()
    api.create_repo("tester/clip")
    api.create_branch("tester/clip", branch="alpha-0.30")
    api.upload_folder(repo_id="tester/clip", folder_path=model_folder, revision="alpha-0.30")
    before = repository(hub)
    with pytest.raises(InputError, match=r"branch alpha-0.30 of tester/clip has different weights .*--overwrite"):
        push_variants(run, "tester/clip", options=BASE)
    assert repository(hub) == before
    push_variants(run, "tester/clip", overwrite=True, options=BASE)
    assert ModelCard.load("tester/clip").data.hf_paint["alpha"] == selected(run)


def test_main_is_the_patched_folder_of_the_run(hub, run):
    """Byte for byte, without computing it again; a second push recognises it."""
    push_variants(run, "tester/clip", options=BASE)
    files = [path for path in (run / "patched").iterdir() if path.name != "README.md" and path.suffix != ".png"]
    files.remove(run / "patched" / MANIFEST)  # it is not published
    assert MANIFEST not in repository(hub)["main"]
    assert {"config.json", "model.safetensors", "tokenizer.json"} <= {path.name for path in files}
    for path in files:
        assert Path(HfApi().hf_hub_download("tester/clip", path.name)).read_bytes() == path.read_bytes(), path.name
    plan = push_variants(run, "tester/clip", options=BASE)
    assert {branch.action for branch in plan.branches} == {"keep"}


@pytest.mark.parametrize("stale", [False, True])
def test_a_run_without_its_patched_model_is_published_alike(hub, run, tmp_path, stale):
    """The folder is missing, or contains an earlier model because a run was killed after another selection."""
    push_variants(run, "tester/clip", options=BASE)
    run = Path(shutil.copytree(run, tmp_path / "run"))
    if stale:
        shutil.copyfile(run / "theta_1/model.safetensors", run / "patched/model.safetensors")
        card = ModelCard.load(run / "patched/README.md")
        card.data.hf_paint["weights"] = "0123456789abcdef"
        card.save(run / "patched/README.md")
    else:
        shutil.rmtree(run / "patched")
    push_variants(run, "tester/again", options=BASE)
    models = [CLIPModel.from_pretrained(f"tester/{name}").state_dict() for name in ("clip", "again")]
    assert all(torch.equal(tensor, models[1][name]) for name, tensor in models[0].items())


def test_dry_run_touches_nothing(hub, run, capsys):
    command = ["push", str(run), "--repo_id", "tester/clip", "--base_model_id", "o/clip", "--dry_run"]
    assert main(command) == 0
    shown = capsys.readouterr().out
    for word in (
        "alpha-0.00",
        "alpha-0.30",
        "alpha-1.00",
        "main",
        "upload",
        "tester may write to tester",
        "will be created",
    ):
        assert word in shown
    assert {call.method for call in hub.log} <= {"GET", "HEAD"}


@pytest.mark.parametrize("flags", [[], ["--dry_run"]])
@pytest.mark.parametrize(
    ("token", "repo_id", "words"),
    [
        ("hf_read", "tester/clip", "read-only, so it cannot write to tester/clip. Log in with a token that has write"),
        ("hf_other", "tester/clip", "other cannot write to tester/clip: 'tester' is neither"),
        ("hf_other", "tester/clip", "Use the id other/clip, or log in with another account: hf auth login"),
        ("hf_test", "clip", "'clip' names no owner. Use the id tester/clip."),
    ],
)
def test_who_may_not_write_is_told_in_one_line(hub, run, capsys, monkeypatch, token, repo_id, words, flags):
    monkeypatch.setenv("HF_TOKEN", token)
    assert main(["push", str(run), "--repo_id", repo_id, "--base_model_id", "o/clip", *flags]) == 2
    said = capsys.readouterr().err.strip().splitlines()[-1]
    assert said.startswith("hf-paint: ")
    assert words in said
    assert token not in said
    assert {call.method for call in hub.log} <= {"GET", "HEAD"}


def test_a_wrong_token_is_named_as_a_missing_one_is(hub, run, capsys, monkeypatch):
    said = []
    for token in ("hf_wrong", ""):
        monkeypatch.setenv("HF_TOKEN", token)
        assert main(["push", str(run), "--repo_id", "tester/clip", "--base_model_id", "o/clip"]) == 2
        said.append(capsys.readouterr().err.strip().splitlines()[-1])
    for line in said:
        assert line.startswith("hf-paint: Planning the push to tester/clip failed: ")
        assert line.endswith("hf auth login")
        assert "Error" not in line
        assert ".." not in line
    assert "Invalid" in said[0]
    assert "not logged in" in said[1]


@pytest.mark.parametrize(
    ("role", "orgs", "words"),
    [
        ("write", ["museum"], "me may write to museum"),
        ("fineGrained", [], "The token of me does not tell whether it may write to museum"),
        ("write", None, "The token of me does not tell whether it may write to museum"),
        (None, [], "The token of me does not tell whether it may write to museum"),
    ],
)
def test_organisations_and_tokens_that_cannot_tell_are_let_through(role, orgs, words):
    token = {} if role is None else {"accessToken": {"role": role}}
    named = None if orgs is None else [{"name": name} for name in orgs]
    assert check_owner({"name": "me", "orgs": named, "auth": token}, "museum/clip") == words


def test_the_base_needs_an_id_and_an_alpha_must_have_been_evaluated(hub, run, tmp_path):
    with pytest.raises(InputError, match="started from a folder.*--base_model_id"):
        push_variants(run, "tester/clip")
    with pytest.raises(InputError, match=r"Alpha 0.70 was not evaluated in full"):
        push_variants(run, "tester/clip", alphas=[0.7], options=BASE)
    with pytest.raises(InputError, match="not a finished run with a selected alpha"):
        push_variants(tmp_path, "tester/clip", options=BASE)
    assert not hub.calls("create_repo")


def test_no_local_path_and_no_token_reaches_the_hub(hub, run):
    push_variants(run, "tester/clip", options=BASE)
    for branch in repository(hub):
        card = ModelCard.load(HfApi().hf_hub_download("tester/clip", "README.md", revision=branch)).content
        for word in (str(run.parent), "hf_test", "/tmp", "runs/"):
            assert word not in card
    report = Path(HfApi().hf_hub_download("tester/clip", "report.html")).read_text(encoding="utf-8")
    for word in (str(run.parent), "hf_test", "/tmp"):
        assert word not in report
    assert ModelCard.load("tester/clip").data.base_model == "o/clip"


def test_every_alpha_of_a_grid_in_floating_point_has_its_branch(hub, run, model_folder, tmp_path):
    folder = shutil.copytree(run, tmp_path / "run")
    tasks = write_task(run.parent / "data"), write_task(run.parent / "data", "others", seed=7)
    keys = {"learning_rate": 1e-3, "max_steps": 8, "warmup_steps": 2, "per_device_train_batch_size": 16}
    args = PaintTrainingArguments(output_dir=str(folder), use_cpu=True, disable_tqdm=True, **keys)
    alphas = [*np.arange(0, 0.4, 0.1), 0.3, 1.0, 1e-7, 1 / 3]
    patch_single(model_folder, tasks[0], [tasks[1]], args, alphas=alphas)
    push_variants(folder, "tester/clip", options=BASE)
    branches = set(repository(hub))
    names = {f"alpha-{value}" for value in ("0.00", "0.0000001", "0.10", "0.20", "0.30", "0.333333", "1.00")}
    assert branches == {"main", *names}
    push_variants(folder, "tester/some", alphas=[3 * 0.1, np.float32(0.2), 0.333333], options=BASE)
    assert set(repository(hub, "tester/some")) == {"main", "alpha-0.20", "alpha-0.30", "alpha-0.333333"}


def test_every_number_of_every_card_is_in_the_records(hub, run):
    """Decimal numbers outside of code and versions, and the counts of the metadata, against results.jsonl itself."""
    push_variants(run, "tester/clip", options=BASE)
    records = [json.loads(line) for line in (run / "results.jsonl").read_text().splitlines()]
    accuracies = [record["correct"] / record["total"] for record in records]
    allowed = {f"{100 * accuracy:.{digits}f}" for accuracy in accuracies for digits in (1, 2)}
    allowed |= {str(round(accuracy, 6)) for accuracy in accuracies} | {f"{alpha:.2f}" for alpha in ALPHAS}
    allowed |= {str(alpha) for alpha in ALPHAS}
    zero = {(r["task"], r["split"]): r["correct"] / r["total"] for r in records if r["alpha"] == 0}
    gains = [100 * (r["correct"] / r["total"] - zero[r["task"], r["split"]]) for r in records]
    allowed |= {f"{abs(gain):.{digits}f}" for gain in gains for digits in (1, 2)}
    files = {(r["task"], r["alpha"]): run / r["examples"] for r in records if r["split"] == "test"}
    for task, alpha in files:
        pair = np.load(files[task, 0.0]), np.load(files[task, alpha])
        allowed |= {f"{100 * abs(bound):.2f}" for bound in paired_bootstrap_interval(*pair)}
    counts = {str(r[key]) for r in records for key in ("correct", "total")}
    for branch in repository(hub):
        card = Path(HfApi().hf_hub_download("tester/clip", "README.md", revision=branch)).read_text()
        _, metadata, body = card.split("---\n", 2)
        for task in yaml.safe_load(metadata)["hf_paint"]["curve"]["tasks"]:
            assert set(f"{task['correct']} {task['total']}".split()) <= counts
        text = re.sub(r"```.*?```", "", body, flags=re.S).split("## Data and licences")[0]
        text = re.sub(r"^\| [\w-]+ \| \d+[^|]*\|$", "", text, flags=re.M)  # versions
        text = re.sub(r"arxiv\.org/abs/[\d.]+", "", text)
        values = [str(m["value"]) for r in yaml.safe_load(metadata)["model-index"][0]["results"] for m in r["metrics"]]
        found = set(re.findall(r"\d+\.\d+", text)) | set(values)
        assert len(found) > 4
        assert found <= allowed, found - allowed


def test_curve_and_variants_are_read_back(hub, run, capsys):
    push_variants(run, "tester/clip", options=BASE)
    curve, expected = load_curve("tester/clip", revision="alpha-0.30"), AlphaCurve.from_run(run)
    for result in expected.results:
        found = curve.get(result.alpha, result.role, result.task, result.split)
        assert (found.correct, found.total) == (result.correct, result.total)
    assert curve.select("mean") == selected(run)
    assert main(["variants", "tester/clip"]) == 0
    shown = capsys.readouterr().out
    assert f"{100 * expected.get(0.3, 'patching', 'colours', 'test').accuracy:.2f}" in shown
    assert "alpha-0.30" in shown
    with pytest.raises(InputError, match="neither a folder nor a repository on the Hub"):
        load_curve("tester/nothing")
    with pytest.raises(InputError, match="no branch, tag or commit"):
        load_curve("tester/clip", revision="alpha-0.77")


def test_what_hinders_a_download_is_told_in_one_line(hub, run, capsys, monkeypatch):
    push_variants(run, "tester/clip", alphas=[0.3], options=BASE)
    wait = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: wait(min(seconds, 0.01)))
    for kind, part in (("500", None), ("cut", "response"), ("cut", None)):
        hub.faults = [Fault(kind, when="resolve", method="*", times=99, part=part)]
        monkeypatch.setattr(constants, "HF_HUB_CACHE", f"{hub.store.root}/cache-{kind}-{part}")
        assert main(["variants", "tester/clip"]) == 1
        said = [line for line in capsys.readouterr().err.splitlines() if line.startswith("hf-paint:")]
        assert len(said) == 1
        assert "downloading it from the Hub at revision 'main' failed" in said[0]
        hub.faults = [Fault(kind, when="resolve", method="GET", part=part)]
        assert main(["variants", "tester/clip"]) in (0, 1)
        hub.faults = []
        assert main(["variants", "tester/clip"]) == 0
        capsys.readouterr()


def test_evaluate_takes_a_branch(hub, run, tmp_path, capsys):
    push_variants(run, "tester/clip", options=BASE)
    [task] = yaml.safe_load((run / "recipe.yaml").read_text())["patching_tasks"]
    (tmp_path / "colours.yaml").write_text(yaml.safe_dump(task))
    command = ["evaluate", "tester/clip", "--revision", "alpha-0.30", "--tasks", str(tmp_path / "colours.yaml")]
    assert main([*command, "--use_cpu"]) == 0
    expected = AlphaCurve.from_run(run).get(0.3, "patching", "colours", "test")
    assert f"{100 * expected.accuracy:.2f}" in capsys.readouterr().out


def test_delta_is_a_patch_that_names_its_base(hub, run, model_folder, thetas):
    push_variants(run, "tester/patch", options=PushOptions(base_model_id="o/clip", form="delta"))
    assert set(repository(hub, "tester/patch")) == {"main"}
    patched = apply_patch(model_folder, "tester/patch", alpha=0.3)
    assert same(patched, interpolate(*thetas, 0.3))
    card = ModelCard.load("tester/patch")
    assert (card.data.base_model, card.data.base_model_relation) == ("o/clip", "adapter")
    assert 'apply_patch("o/clip", "tester/patch"' in card.content
    with pytest.raises(InputError, match="needs o/clip"):
        apply_patch(str(run / "theta_1"), "tester/patch")
    plan = push_variants(run, "tester/patch", options=PushOptions(base_model_id="o/clip", form="delta"))
    assert [branch.action for branch in plan.branches] == ["keep"]


def test_delta_in_bf16_takes_half_the_space(hub, run, model_folder, thetas):
    sizes = {}
    for dtype in ("float32", "bfloat16"):
        options = PushOptions(base_model_id="o/clip", form="delta", delta_dtype=dtype)
        push_variants(run, f"tester/{dtype}", options=options)
        [file] = HfApi().get_paths_info(f"tester/{dtype}", ["patch.safetensors"])
        sizes[dtype] = file.size
    assert sizes["bfloat16"] < 0.6 * sizes["float32"]
    moved = max(float((theta - thetas[0][name]).abs().max()) for name, theta in thetas[1].items())
    patched = apply_patch(model_folder, "tester/bfloat16", alpha=1.0).state_dict()
    assert max(float((patched[name] - theta).abs().max()) for name, theta in thetas[1].items()) < 0.01 * moved


def test_tag_and_eval_results_can_be_added_later(hub, run, monkeypatch):
    monkeypatch.setattr("hf_paint.hub.card_metadata.benchmark_id", lambda task: f"o/{task.name}")
    push_variants(run, "tester/clip", alphas=[0.3], options=BASE)
    monkeypatch.setattr("hf_paint.hub.card_metadata.benchmark_id", lambda task: f"o/{task.name}")
    options = PushOptions(base_model_id="o/clip", tag="v1", eval_results=True)
    api = HfApi()
    for _ in range(2):
        plan = push_variants(run, "tester/clip", alphas=[0.3], options=options)
    assert {branch.action for branch in plan.branches} == {"keep"}
    assert [tag.name for tag in api.list_repo_refs("tester/clip").tags] == ["v1"]
    path = api.hf_hub_download("tester/clip", ".eval_results/colours.yaml", revision="alpha-0.30")
    [entry] = yaml.safe_load(Path(path).read_text())
    expected = AlphaCurve.from_run(run).get(0.3, "patching", "colours", "test").accuracy
    assert entry["dataset"]["id"] == "o/colours"
    assert entry["value"] == pytest.approx(100 * expected, abs=1e-3)


def test_a_public_repository_is_not_made_private(hub, run):
    HfApi().create_repo("tester/clip")
    with pytest.raises(InputError, match="already public"):
        push_variants(run, "tester/clip", private=True, options=BASE)
    push_variants(run, "tester/secret", private=True, options=BASE)
    assert HfApi().model_info("tester/secret").private


def test_a_dry_run_leaves_a_running_push_alone(hub, run):
    killed = Fork(lambda: (run / f"{own_prefix('push')}0").mkdir())
    assert killed.wait(300) == (0, "")
    [working] = run.glob(".push-*")
    push_variants(run, "tester/clip", dry_run=True, options=BASE)
    assert working.exists()
    with FileLock(run / ".lock"), pytest.raises(InputError, match="Another process is using"):
        push_variants(run, "tester/clip", options=BASE)
    assert working.exists()
    push_variants(run, "tester/clip", options=BASE)
    assert not working.exists()


def test_replacing_leaves_nothing_of_the_other_form(hub, run, model_folder):
    delta = PushOptions(base_model_id="o/clip", form="delta")
    push_variants(run, "tester/clip", options=BASE)
    push_variants(run, "tester/clip", overwrite=True, options=delta)
    plots = {path.name for path in run.glob("*.png")}
    assert {"curve.png", "accuracy.png", "examples-colours.png", "examples-others.png"} <= plots
    names = {".gitattributes", "README.md", "patch.safetensors", "patch_config.json", "tasks.json", "report.html"}
    assert set(repository(hub)["main"]) == names | plots
    push_variants(run, "tester/clip", overwrite=True, options=BASE)
    assert "patch_config.json" not in repository(hub)["main"]


def test_what_was_inferred_is_not_published(hub, model_folder, tmp_path):
    tasks = write_task(tmp_path / "data"), write_task(tmp_path / "data", "others", seed=7)
    keys = {"learning_rate": 1e-3, "max_steps": 8, "warmup_steps": 2, "per_device_train_batch_size": 16}
    args = PaintTrainingArguments(output_dir=str(tmp_path / "run"), use_cpu=True, disable_tqdm=True, **keys)
    alphas, options = [step / 20 for step in range(21)], PatchOptions(sweep="adaptive")
    result = patch_single(model_folder, tasks[0], [tasks[1]], args, alphas=alphas, options=options)
    assert len(result.curve.exact_alphas) < 21
    plan = push_variants(result, "tester/clip", options=BASE)
    assert [branch.alpha for branch in plan.branches[:-1]] == list(result.curve.exact_alphas)
    card = ModelCard.load("tester/clip").content
    assert "was not measured on every image" in card
    with pytest.raises(InputError, match="not evaluated in full"):
        push_variants(result, "tester/clip", alphas=[0.05], options=BASE)


def test_text_tower_of_every_branch_is_the_base(hub, run, thetas):
    push_variants(run, "tester/clip", options=BASE)
    model = CLIPModel.from_pretrained("tester/clip")
    frozen = thetas[0].keys() - image_tower_weights(model).keys()
    assert frozen
    assert all(torch.equal(model.state_dict()[name], thetas[0][name]) for name in frozen)
