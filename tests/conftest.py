"""The order of the tests, their caches and temporary folders; the fixtures are in `support/common_fixtures.py`."""

import gc
import os
import shutil
import signal
import tempfile
from pathlib import Path

import pytest


MEMORY = Path("/dev/shm")
ENOUGH = 8 * 2**30
if MEMORY.is_dir() and shutil.disk_usage(MEMORY).free > ENOUGH:
    os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(MEMORY))  # a disk takes milliseconds to make or remove a folder
os.environ.setdefault("HF_HUB_OFFLINE", "1")
# Tests neither read nor fill the user's cache.
os.environ["HF_HOME"] = tempfile.mkdtemp("", "hf-paint-tests-", os.environ.get("PYTEST_DEBUG_TEMPROOT"))
os.environ["HF_PAINT_CACHE"] = os.environ["HF_HOME"] + "/hf_paint"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
os.environ["OMP_NUM_THREADS"] = "1"  # also for subprocesses: two workers share two cores

signal.signal(signal.SIGINT, signal.default_int_handler)  # ignored in jobs of the background, and in what they start
pytest.register_assert_rewrite("common_fixtures", "method_runs", "pushes", "tensors")
HOME = os.environ["HF_HOME"]
LONGEST = (
    "distributed/test_two_processes.py",
    "cli/test_quickstart.py",
    "test_reference.py",
    "training/test_head_training.py",
    "training/test_trainer.py",
    "patching/test_strategies.py",
)


def pytest_configure(config):
    """Import the fixtures, and so torch, where tests are run: a process that only hands them out needs neither."""
    if getattr(config.option, "dist", "no") == "no" or hasattr(config, "workerinput"):
        config.pluginmanager.import_plugin("common_fixtures")


def pytest_collection_modifyitems(items):
    """The longest files come first: a worker that begins one at the end works alone."""
    first = {Path(__file__).parent / name for name in LONGEST}
    items.sort(key=lambda item: item.path not in first)


def pytest_sessionfinish(session, exitstatus):
    """Leave no temporary folders in memory, unless a test failed."""
    if exitstatus == 0 and not hasattr(session.config, "workerinput"):
        shutil.rmtree(session.config._tmp_path_factory.getbasetemp(), ignore_errors=True)


def pytest_unconfigure():
    """Leave no caches behind."""
    shutil.rmtree(HOME, ignore_errors=True)


def pytest_collection_finish():
    """Modules and tests are permanent, so garbage collection need not scan them."""
    gc.collect()
    gc.freeze()
