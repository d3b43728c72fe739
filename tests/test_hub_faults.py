"""What goes wrong while a run is pushed: it ends in the same repository, after another push at the latest.

`python tests/test_hub_faults.py` prints the tables: every fault at every stage, and pushes killed at random moments.
"""

import contextlib
import io
import random
import subprocess
import sys
import threading
import time

import pytest
from huggingface_hub import HfApi, constants, hf_hub_download

from conftest import write_task
from hf_paint import PaintTrainingArguments, patch_single
from hf_paint.cli import main
from hf_paint.fingerprints import fingerprint_values
from hf_paint.pull import card_metadata
from hub_server import Fault


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
NOT_OURS = ".gitattributes"


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
        ours = [f for f in tree if f.path.endswith((".json", ".safetensors", ".md", ".png", ".txt"))]
        branches[branch.name] = {file.path: file.blob_id for file in ours}
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
    assert "Traceback" not in said
    check_readable(expected)
    code, said = push(run)
    assert code == 0, said
    assert repository() == expected
    return "one clear error, then the same repository"


def expected_repository(run):
    assert push(run)[0] == 0
    expected = repository()
    HfApi().delete_repo(REPOSITORY)
    return expected


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_at_any_stage_ends_in_the_same_repository(lfs_hub, run, kind):
    expected = expected_repository(run)
    assert expected.keys() == {"alpha-0.00", "alpha-0.50", "alpha-1.00", "main"}
    outcomes = {}
    for stage in STAGES:
        outcomes[stage] = inject(lfs_hub, run, stage, kind, expected)
        HfApi().delete_repo(REPOSITORY)
    assert "survived" in outcomes.values() or "one clear error, then the same repository" in outcomes.values()
    assert sum(outcome == "never reached" for outcome in outcomes.values()) <= 1


@pytest.mark.parametrize("nth", [2, 4])
@pytest.mark.parametrize("kind", ["500", "cut", "cut response", "412", "507"])
def test_a_fault_in_the_commit_of_a_later_branch(lfs_hub, run, kind, nth):
    expected = expected_repository(run)
    inject(lfs_hub, run, "commit", kind, expected, nth=nth)


def test_a_branch_is_what_its_card_says(lfs_hub, run):
    """The fingerprint of a card is that of the weights beside it, computed again from the file."""
    from safetensors.torch import load_file

    from hf_paint.fingerprints import fingerprint_interpolation, fingerprint_weights
    from hf_paint.modeling import IMAGE_TOWER

    push(run)

    def tower(revision):
        weights = load_file(hf_hub_download(REPOSITORY, "model.safetensors", revision=revision))
        return fingerprint_weights({name: x for name, x in weights.items() if name.startswith(IMAGE_TOWER)})

    ends = tower("alpha-0.00"), tower("alpha-1.00")
    for branch, alpha in (("alpha-0.00", 0.0), ("alpha-0.50", 0.5), ("alpha-1.00", 1.0)):
        expected = fingerprint_values(fingerprint_interpolation(*ends, alpha), "float32")
        assert card_metadata(REPOSITORY, revision=branch)["weights"] == expected


def kill_and_push_again(hub, run, generator, expected):
    """Kill a push at a random request, or a random moment after it, and push again; return where it was killed."""
    victim, struck = generator.randrange(1, 60), threading.Event()
    seen, where = 0, ["before the first request"]

    def count(stage):
        nonlocal seen
        seen += 1
        where[0] = f"{stage} (request {seen})"
        if seen == victim:
            struck.set()

    hub.on_request = count
    command = [sys.executable, "-m", "hf_paint.cli", "push", str(run), "--repo_id", REPOSITORY]
    process = subprocess.Popen(
        [*command, "--base_model_id", "o/clip"],
        env={"PATH": "/usr/bin:/bin", "OMP_NUM_THREADS": "1", **hub.environment()},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    while process.poll() is None and not struck.wait(0.05):
        pass
    time.sleep(generator.uniform(0, 0.05))
    process.kill()
    code = process.wait()
    hub.on_request = None
    check_readable(expected)
    assert push(run)[0] == 0
    assert repository() == expected
    assert not list(run.glob(".push-*"))
    return f"killed at {where[0]}" if code == -9 else "was done before"


def test_killed_pushes_end_in_the_same_repository(hub, run, monkeypatch):
    hub.lfs_threshold = 1000
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    expected = expected_repository(run)
    generator = random.Random(0)
    for _ in range(2):
        kill_and_push_again(hub, run, generator, expected)
        HfApi().delete_repo(REPOSITORY)
