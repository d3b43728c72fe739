"""Complete and killed pushes of a run, and the repository they leave on the Hub."""

import contextlib
import io
import json
import signal
import threading
from functools import partial

from huggingface_hub import HfApi, constants

from forked_calls import Fork
from hf_paint.cli.main import main


REPOSITORY = "tester/clip"
NOT_OURS = {".gitattributes", "of-another.txt"}


def selected(run):
    return json.loads((run / "selection.json").read_text())["alpha"]


def push(run):
    """Return the exit code and stderr."""
    with contextlib.redirect_stderr(io.StringIO()) as stderr, contextlib.redirect_stdout(io.StringIO()):
        code = main(["push", str(run), "--repo_id", REPOSITORY, "--base_model_id", "o/clip"])
    return code, stderr.getvalue()


def repository():
    """Return branch -> {file: hash}, without the files of other committers."""
    branches = {}
    for branch in HfApi().list_repo_refs(REPOSITORY).branches:
        tree = HfApi().list_repo_tree(REPOSITORY, revision=branch.name, recursive=True)
        branches[branch.name] = {file.path: file.blob_id for file in tree if file.path not in NOT_OURS}
    return branches


def check_readable(expected):
    """Check that each branch of a failed push is complete or has no weights, and that `main` comes last."""
    try:
        found = repository()
    except OSError:
        return  # the repository does not exist yet
    complete = {name for name, files in found.items() if "model.safetensors" in files}
    for name in complete:
        assert found[name] == expected[name]
    assert "main" not in complete or complete == expected.keys()


def forget(hub, *, keep=()):
    """Delete the repository and the blobs that the Hub would recognise, except those of other repositories."""
    HfApi().delete_repo(REPOSITORY)
    for blob in (hub.store.root / "blobs").iterdir():
        if blob.name not in keep:
            blob.unlink()


def expected_repository(hub, run):
    assert push(run)[0] == 0
    expected = repository()
    forget(hub)
    return expected


def push_without_xet(run):
    constants.HF_HUB_DISABLE_XET = True
    return push(run)[0]


def kill_and_push_again(hub, run, victim, delay, expected):
    """Kill a push shortly after its n-th request, push again, and return where it was killed."""
    stages, started = [], threading.Event()

    def strike(stage):
        stages.append(stage)
        if len(stages) == victim:
            started.wait()
            threading.Timer(delay, process.signal, [signal.SIGKILL]).start()

    hub.on_request = strike
    process = Fork(partial(push_without_xet, run))
    started.set()
    code, _ = process.wait(300)
    hub.on_request = None
    check_readable(expected)
    assert push(run)[0] == 0
    assert repository() == expected
    assert not list(run.glob(".push-*"))
    assert code in (-signal.SIGKILL, 0)  # on a busy machine, a push may end before its timer
    return f"killed {1000 * delay:.0f} ms after request {victim} ({stages[victim - 1]})"
