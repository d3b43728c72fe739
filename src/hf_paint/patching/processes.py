"""Coordination between processes: which one writes, and when they wait for each other."""

from collections.abc import Callable
from functools import wraps
from inspect import signature
from pathlib import Path
from typing import ParamSpec, TypeVar

from accelerate import PartialState
from transformers import TrainingArguments

from hf_paint.results.progress import Display, progress
from hf_paint.training.training_args import PaintTrainingArguments


Arguments = ParamSpec("Arguments")
Output = TypeVar("Output")


def with_progress(function: Callable[Arguments, Output]) -> Callable[Arguments, Output]:
    """Wrap a function with an argument `args` so that it shows progress; with `args.disable_tqdm`, only in lines."""
    parameters = signature(function)

    @wraps(function)
    def call(*given: Arguments.args, **named: Arguments.kwargs) -> Output:
        args = parameters.bind(*given, **named).arguments["args"]
        in_lines = isinstance(args, TrainingArguments) and args.disable_tqdm
        with progress(Display.LINES if in_lines else Display.BAR):
            return function(*given, **named)

    return call


def is_main_process(args: PaintTrainingArguments) -> bool:
    """Return whether this is the process that writes the run folder."""
    return bool(PartialState(cpu=args.use_cpu).is_main_process)


def wait_for_everyone() -> None:
    """Wait until every process has reached this point."""
    PartialState().wait_for_everyone()


def make_once(path: Path, make: Callable[[], None], *, is_whole: Callable[[], bool] = lambda: True) -> None:
    """Create a file or folder unless an earlier run created it.

    All processes call `make` and share the work, but only the main process writes. Each process checks whether the
    path exists before any process can create it, so they all make the same decision.

    Args:
        path: File or folder to create.
        make: Called as `make()`; creates `path`.
        is_whole: Called as `is_whole()` if the path exists; if it returns False, the path is created again.
    """
    exists = path.exists() and is_whole()
    wait_for_everyone()
    if not exists:
        make()
        wait_for_everyone()
