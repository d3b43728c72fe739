"""What goes wrong while a run is pushed: it ends in the same repository, after another push at the latest.

`HF_PAINT_KILLS=20 pytest -s tests/test_hub_faults.py` kills twenty pushes and prints what was injected and survived.
"""

import contextlib
import io
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from hub_server import Fault
from huggingface_hub import HfApi, constants, hf_hub_download

import hf_paint
from conftest import write_task
from hf_paint import PaintTrainingArguments, patch_single
from hf_paint.cli.main import main
from hf_paint.fingerprints import fingerprint_values
from hf_paint.hub.pull import card_metadata


STAGES = {
    "whoami": "GET",
    "refs": "GET",
    "create_repo": "POST",
    "commits": "GET",
    "branch": "POST",
    "validate_yaml": "POST",
    "preupload": "POST",
    "lfs_batch": "POST",
    "lfs_put": "PUT",
    "lfs_verify": "POST",
    "commit": "POST",
}
KINDS = ("500", "429", "401", "403", "412", "507", "cut", "cut response", "slow")
REPOSITORY = "tester/clip"
NOT_OURS = {".gitattributes", "of-another.txt"}
SOURCE = str(Path(hf_paint.__file__).parents[1])
KILLS = int(os.environ.get("HF_PAINT_KILLS", "2"))


@pytest.fixture(scope="module")
def run(model_folder, tmp_path_factory):
    return make_run(model_folder, tmp_path_factory.mktemp("faults"))


def make_run(model_folder, folder):
    """A finished run with three alphas."""
    tasks = write_task(folder / "data"), write_task(folder / "data", "others", seed=7)
    keys = {"max_steps": 4, "warmup_steps": 1, "per_device_train_batch_size": 16, "learning_rate": 1e-3}
    args = PaintTrainingArguments(output_dir=str(folder / "run"), use_cpu=True, disable_tqdm=True, **keys)
    patch_single(model_folder, tasks[0], [tasks[1]], args, alphas=[0.0, 0.5, 1.0])
    return folder / "run"


@pytest.fixture
def lfs_hub(hub, monkeypatch):
    """A Hub to which weights travel by LFS, and a client that does not wait between its own tries."""
    hub.lfs_threshold = 1000
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    wait = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: wait(min(seconds, 0.01)))
    return hub


def push(run):
    """Return the exit code and what was said on stderr."""
    with contextlib.redirect_stderr(io.StringIO()) as said, contextlib.redirect_stdout(io.StringIO()):
        code = main(["push", str(run), "--repo_id", REPOSITORY, "--base_model_id", "o/clip"])
    return code, said.getvalue()


def repository():
    """Return branch -> {file: hash}, without what somebody else committed in between."""
    branches = {}
    for branch in HfApi().list_repo_refs(REPOSITORY).branches:
        tree = HfApi().list_repo_tree(REPOSITORY, revision=branch.name, recursive=True)
        branches[branch.name] = {file.path: file.blob_id for file in tree if file.path not in NOT_OURS}
    return branches


def check_readable(expected):
    """Each branch of a push that failed is complete, or holds no weights; `main` comes last."""
    try:
        found = repository()
    except OSError:
        return  # there is no repository yet
    complete = {name for name, files in found.items() if "model.safetensors" in files}
    for name in complete:
        assert found[name] == expected[name]
    assert "main" not in complete or complete == expected.keys()


def inject(hub, run, stage, kind, expected, nth=1):
    """Push with one fault; return what came of it."""
    part = {"part": "response"} if kind == "cut response" else {}
    fault = Fault(kind.split()[0], when=stage, method=STAGES[stage], nth=nth, seconds=0.1, **part)
    hub.faults.append(fault)
    code, said = push(run)
    hub.faults.clear()
    struck = fault.seen >= nth
    if code == 0:
        assert repository() == expected
        return "survived" if struck else "never reached"
    assert code == 1
    assert struck
    lines = [line for line in said.splitlines() if line.startswith("hf-paint:")]
    assert len(lines) == 1
    assert "failed" in lines[0]
    assert not said.startswith("Traceback")
    check_readable(expected)
    code, said = push(run)
    assert code == 0, said
    assert repository() == expected
    return "one clear error, then the same repository"


def forget(hub):
    """Delete the repository, and the weights that the Hub would know again."""
    HfApi().delete_repo(REPOSITORY)
    for blob in (hub.store.root / "blobs").iterdir():
        blob.unlink()


def expected_repository(hub, run):
    assert push(run)[0] == 0
    expected = repository()
    forget(hub)
    return expected


@pytest.fixture(scope="module")
def report():
    """(what was injected, what came of it), printed at the end."""
    rows = []
    yield rows
    print("\n\n| injected | what came of it |\n| --- | --- |")
    print("\n".join(f"| {injected} | {outcome} |" for injected, outcome in rows))


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_at_any_stage_ends_in_the_same_repository(lfs_hub, run, report, kind):
    expected = expected_repository(lfs_hub, run)
    assert expected.keys() == {"alpha-0.00", "alpha-0.50", "alpha-1.00", "main"}
    outcomes = {}
    for stage in ["commit"] if kind == "412" else STAGES:
        outcomes[stage] = inject(lfs_hub, run, stage, kind, expected)
        report.append((f"{kind} at {stage}", outcomes[stage]))
        forget(lfs_hub)
    assert [stage for stage, outcome in outcomes.items() if outcome == "never reached"] == []


@pytest.mark.parametrize("nth", [2, 4])
@pytest.mark.parametrize("kind", ["500", "cut", "cut response", "412", "507"])
def test_a_fault_in_the_commit_of_a_later_branch(lfs_hub, run, report, kind, nth):
    expected = expected_repository(lfs_hub, run)
    report.append((f"{kind} at commit {nth}", inject(lfs_hub, run, "commit", kind, expected, nth=nth)))


def test_a_branch_is_what_its_card_says(lfs_hub, run):
    """The fingerprint of a card is that of the weights beside it, computed again from the file."""
    from safetensors.torch import load_file

    from hf_paint.fingerprints import fingerprint_interpolation, fingerprint_weights
    from hf_paint.weights.layers import IMAGE_TOWER

    push(run)

    def tower(revision):
        weights = load_file(hf_hub_download(REPOSITORY, "model.safetensors", revision=revision))
        return fingerprint_weights({name: x for name, x in weights.items() if name.startswith(IMAGE_TOWER)})

    ends = tower("alpha-0.00"), tower("alpha-1.00")
    for branch, alpha in (("alpha-0.00", 0.0), ("alpha-0.50", 0.5), ("alpha-1.00", 1.0)):
        expected = fingerprint_values(fingerprint_interpolation(*ends, alpha), "float32")
        assert card_metadata(REPOSITORY, revision=branch)["weights"] == expected


def kill_and_push_again(hub, run, victim, delay, expected):
    """Kill a push some moments after its n-th request arrived, and push again; return where it was killed."""
    stages, command = [], [sys.executable, "-m", "hf_paint.cli", "push", str(run), "--repo_id", REPOSITORY]
    started = threading.Event()

    def strike(stage):
        stages.append(stage)
        if len(stages) == victim:
            started.wait()
            threading.Timer(delay, process.kill).start()

    hub.on_request = strike
    process = subprocess.Popen(
        [*command, "--base_model_id", "o/clip"],
        env={"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", "PYTHONPATH": SOURCE, **hub.environment()},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    started.set()
    code = process.wait()
    hub.on_request = None
    check_readable(expected)
    assert push(run)[0] == 0
    assert repository() == expected
    assert not list(run.glob(".push-*"))
    assert code == -9
    return f"killed {1000 * delay:.0f} ms after request {victim} ({stages[victim - 1]})"


def test_killed_pushes_end_in_the_same_repository(hub, run, report, monkeypatch):
    hub.lfs_threshold = 1000
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    push(run)
    requests = len(hub.log)
    forget(hub)
    expected = expected_repository(hub, run)
    generator = random.Random(0)
    for _ in range(KILLS):
        moment = generator.randrange(1, requests), generator.uniform(0, 0.02)
        where = kill_and_push_again(hub, run, *moment, expected)
        report.append((where, "the same repository after another push"))
        forget(hub)
