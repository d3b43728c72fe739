"""Faults during a push: the repository ends up the same, after a second push at the latest.

`HF_PAINT_KILLS=20 pytest -s tests/hub/test_push_faults.py` kills twenty pushes, injects every fault at every stage and
prints a table of the faults.
"""

import os
import random
import time

import pytest
from huggingface_hub import constants, hf_hub_download

from drawn_tasks import write_task
from hf_paint import PaintTrainingArguments, patch_single
from hf_paint.fingerprints import fingerprint_values
from hf_paint.hub.pull import card_metadata
from hub_server import Fault
from pushes import REPOSITORY, check_readable, expected_repository, forget, kill_and_push_again, push, repository


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
KILLS = int(os.environ.get("HF_PAINT_KILLS", "2"))
AT_COMMIT = {"412"} if "HF_PAINT_KILLS" in os.environ else {"412", "429", "401", "403", "507", "slow"}
"""Kinds injected at the commit only: 412 comes from nowhere else; the others are left to the long version."""


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


@pytest.fixture(scope="module")
def undisturbed(run):
    """A function that pushes without faults, once for all tests, and returns the repository."""
    found = []

    def push_once(hub):
        if not found:
            found.append(expected_repository(hub, run))
        return found[0]

    return push_once


@pytest.fixture
def lfs_hub(hub, monkeypatch):
    """A Hub that receives weights by LFS, and a client that does not wait between retries."""
    hub.lfs_threshold = 1000
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    wait = time.sleep
    monkeypatch.setattr(time, "sleep", lambda seconds: wait(min(seconds, 0.01)))
    return hub


def inject(hub, run, stage, kind, expected, nth=1):
    """Push with one fault, and return the outcome."""
    part = {"part": "response"} if kind == "cut response" else {}
    fault = Fault(kind.split()[0], when=stage, method=STAGES[stage], nth=nth, seconds=0.1, **part)
    hub.faults.append(fault)
    code, said = push(run)
    hub.faults.clear()
    struck = fault.seen >= nth
    if code == 0:
        assert repository() == expected
        return "survived" if struck else "never reached"
    assert code == (2 if kind == "401" else 1)
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


@pytest.fixture(scope="module")
def report():
    """(fault, outcome) pairs, printed at the end."""
    rows = []
    yield rows
    print("\n\n| fault | outcome |\n| --- | --- |")
    print("\n".join(f"| {injected} | {outcome} |" for injected, outcome in rows))


@pytest.mark.parametrize("kind", KINDS)
def test_a_fault_at_any_stage_ends_in_the_same_repository(lfs_hub, run, undisturbed, report, kind):
    expected = undisturbed(lfs_hub)
    assert expected.keys() == {"alpha-0.00", "alpha-0.50", "alpha-1.00", "main"}
    outcomes = {}
    for stage in ["commit"] if kind in AT_COMMIT else STAGES:
        outcomes[stage] = inject(lfs_hub, run, stage, kind, expected)
        report.append((f"{kind} at {stage}", outcomes[stage]))
        forget(lfs_hub)
    assert [stage for stage, outcome in outcomes.items() if outcome == "never reached"] == []


@pytest.mark.parametrize("nth", [2, 4])
@pytest.mark.parametrize("kind", ["500", "cut", "cut response", "412", "507"])
def test_a_fault_in_the_commit_of_a_later_branch(lfs_hub, run, undisturbed, report, kind, nth):
    expected = undisturbed(lfs_hub)
    report.append((f"{kind} at commit {nth}", inject(lfs_hub, run, "commit", kind, expected, nth=nth)))


def test_a_branch_is_what_its_card_says(lfs_hub, run):
    """The fingerprint in a card equals that of the weights in its branch, recomputed from the file."""
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


def test_killed_pushes_end_in_the_same_repository(hub, run, undisturbed, report, monkeypatch):
    hub.lfs_threshold = 1000
    monkeypatch.setattr(constants, "HF_HUB_DISABLE_XET", True)
    push(run)
    requests = len(hub.log)
    forget(hub)
    expected = undisturbed(hub)
    generator = random.Random(0)
    for _ in range(KILLS):
        moment = generator.randrange(1, requests), generator.uniform(0, 0.02)
        where = kill_and_push_again(hub, run, *moment, expected)
        report.append((where, "the same repository after another push"))
        forget(hub)
