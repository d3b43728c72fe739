"""Reporting a run to experiment trackers (`report_to`): its trainings, its curve and what was chosen, each once."""

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from functools import partial
from pathlib import Path

from transformers import Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK, rewrite_logs

from hf_paint.documents.shapes import read_shaped
from hf_paint.errors import one_line
from hf_paint.files import write_json
from hf_paint.fingerprints import fingerprint_values
from hf_paint.patching.options import PatchResult
from hf_paint.patching.recipe import Recipe
from hf_paint.patching.trackers import TRACKERS, Tracker
from hf_paint.results.alphas import Coefficients
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.curve_table import curve_rows
from hf_paint.results.outcome_text import outcome_rows
from hf_paint.results.records import ROLES
from hf_paint.results.run_files import TRACKER_IDS
from hf_paint.results.run_folder import RunFolder
from hf_paint.results.stored import AGAIN
from hf_paint.training.training_args import PaintTrainingArguments


STEPS = (100, 1000, 1_000_000)
"""Whole numbers that stand for alpha 1, for trackers whose steps are whole numbers."""
logger: logging.Logger = logging.getLogger(__name__)


class Tracking:
    """The trackers of a run, and what they have been told, so that a run that is resumed tells nothing twice.

    Args:
        recipe: Recipe of the whole run.
    """

    def __init__(self, recipe: Recipe) -> None:
        self.args: PaintTrainingArguments = recipe.args
        self.folder: RunFolder = recipe.folder
        self.recipe: dict[str, object] = recipe.to_dict()
        self.path: Path = self.folder.path / TRACKER_IDS
        chosen = self.args.report_to or ()
        self.names: list[str] = [name for name in TRACKERS if name in chosen and self.folder.write]
        self.trackers: dict[str, Tracker] = {}
        self.told: dict[str, dict[str, object]] = (
            read_shaped(self.path, dict[str, dict[str, object]], advice=AGAIN) or {}
        )
        self.before: dict[str, dict[str, object]] = deepcopy(self.told)

    def start(self) -> None:
        """Start the trackers, and log the recipe in those that are new."""
        for name in [name for name in self.names if name not in self.trackers]:
            told = self.told.setdefault(name, {})

            def start(name: str = name, told: dict[str, object] = told) -> None:
                run_id = told.get("id")
                tracker = TRACKERS[name](self.args, self.folder.path, None if run_id is None else str(run_id))
                self.trackers[name] = tracker
                told["id"] = tracker.run_id
                if not told.get("recipe"):
                    self.tell(name, "recipe", True, partial(tracker.log_recipe, self.recipe))

            self.attempt(name, start)

    def point(self, values: Mapping[str, float], *, axis: str, x: float, step: int, in_order: bool) -> None:
        """Log values of series at a point, unless that was done before.

        Args:
            values: Name of a series -> its value.
            axis: Name of what the series are plotted against.
            x: Point on this axis.
            step: The same point as a whole number.
            in_order: Whether the points come in ascending order, so that the last one tells what was done.
        """
        self.start()
        for name, tracker in tuple(self.trackers.items()):
            before, known = self.before.get(name, {}).get(axis), self.told[name].get(axis)
            steps = known if isinstance(known, list) else []
            if step in steps or (isinstance(before, int) and step <= before):
                continue
            mark = step if in_order else [*steps, step]
            self.tell(name, axis, mark, partial(tracker.log_point, values, axis=axis, x=x, step=step))

    def result(self, tables: Mapping[str, Sequence[Sequence[str]]], plot: Path) -> None:
        """Log tables and a plot, unless the same was done before."""
        mark = fingerprint_values({name: [list(row) for row in rows] for name, rows in tables.items()})
        for name in self.names:
            if self.told.get(name, {}).get("tables") == mark:
                continue
            self.start()
            if (tracker := self.trackers.get(name)) is None:
                continue
            for title, rows in tables.items():
                self.attempt(name, partial(tracker.log_table, title, rows))
            self.tell(name, "tables", mark, partial(tracker.log_plot, "curve", plot))

    def tell(self, name: str, key: str, mark: object, action: Callable[[], None]) -> None:
        """Tell a tracker something, and note in the run folder that it knows."""
        if self.attempt(name, action):
            self.told[name][key] = mark
            write_json(self.path, self.told)

    def attempt(self, name: str, action: Callable[[], None]) -> bool:
        """Return whether an action of a tracker succeeds; one that fails is not used again, and the run goes on."""
        if name not in self.names:
            return False
        try:
            action()
        except Exception as error:  # every tracker has its own types of errors
            self.names.remove(name)
            self.trackers.pop(name, None)
            logger.warning(f"Nothing more is reported to {name}, but the run goes on: {one_line(error)}")
            return False
        return True

    def finish(self) -> None:
        """Close the trackers."""
        for name, tracker in tuple(self.trackers.items()):
            self.attempt(name, tracker.run.finish)


_current: Tracking | None = None


@contextmanager
def tracked(recipe: Recipe) -> Iterator[None]:
    """Report what happens inside the block as one run. A block inside another one is a part of its run."""
    global _current
    if _current is not None:
        yield
        return
    _current = tracking = Tracking(recipe)
    try:
        yield
    finally:
        _current = None
        tracking.finish()


def own_reports(args: PaintTrainingArguments) -> list[str]:
    """Return the trackers that a trainer reports to by itself: those that do not show a whole run."""
    return [name for name in args.report_to or () if _current is None or name not in TRACKERS]


def track_training(trainer: Trainer) -> None:
    """Report a training as part of the run; other trackers report it alone, and cannot stop it either."""
    handler, others = trainer.callback_handler, tuple(INTEGRATION_TO_CALLBACK.values())
    callbacks: list[TrainerCallback] = handler.callbacks
    handler.callbacks = [_Guarded(each) if type(each) in others else each for each in callbacks]
    if _current is not None and _current.names:
        trainer.add_callback(_Reports(_current, _prefix(_current, Path(str(trainer.args.output_dir)))))


def track_result(folder: RunFolder, result: PatchResult, *, is_whole: bool) -> None:
    """Report the curve of a run or of one of its steps and, for the whole run, what was chosen.

    Args:
        folder: Folder of the run or step.
        result: Its result.
        is_whole: Whether this is the whole run.
    """
    if _current is None or not _current.names:
        return
    prefix, curve = _prefix(_current, folder.path), result.curve
    alphas = [alpha for alpha in curve.alphas if not isinstance(alpha, Coefficients)]
    one = next(one for one in STEPS if one == STEPS[-1] or len({round(one * x) for x in alphas}) == len(alphas))
    for alpha in alphas if len(alphas) > 1 else ():
        values = {f"{prefix}{name}": accuracy for name, accuracy in _accuracies(curve, alpha).items()}
        _current.point(values, axis=f"{prefix}curve/alpha", x=alpha, step=round(one * alpha), in_order=False)
    if is_whole:
        split = curve.reported_split
        tables = {"accuracy by alpha": curve_rows(curve, split, selected=result.alpha)}
        if result.alpha is not None:
            tables["outcome"] = outcome_rows(result.outcome)
        _current.result(tables, folder.curve_plot)


def _accuracies(curve: AlphaCurve, alpha: float) -> dict[str, float]:
    """Return `curve/<split>/<task>` -> accuracy in [0, 1], and the means over the tasks in each role."""
    found: dict[str, float] = {}
    for role in ROLES:
        for split in sorted(curve.splits(role)):
            results = [curve.get(alpha, role, task, split) for task in curve.tasks[role]]
            known = [result for result in results if result is not None and result.is_labelled]
            found |= {f"curve/{split}/{result.task}": result.accuracy for result in known}
            if known:
                found[f"curve_mean/{split}/{role}"] = float(curve.mean_accuracy(alpha, role, split))
    return found


def _prefix(tracking: Tracking, folder: Path) -> str:
    """Return what the series of a step or of one of several trainings begin with; empty for the run itself."""
    inner = folder.relative_to(tracking.folder.path).as_posix().removeprefix("thetas/")
    return "" if inner == "." else f"{inner}/"


class _Guarded(TrainerCallback):
    """Calls the callback of a tracker until it fails."""

    def __init__(self, callback: TrainerCallback) -> None:
        self.callback: TrainerCallback | None = callback
        for event in (name for name in vars(TrainerCallback) if name.startswith("on_")):
            setattr(self, event, partial(self._call, event))

    def _call(self, event: str, *args: object, **kwargs: object) -> TrainerControl | None:
        if self.callback is None:
            return None
        try:
            control: TrainerControl | None = getattr(self.callback, event)(*args, **kwargs)
        except Exception as error:  # every tracker has its own types of errors
            logger.warning(f"{type(self.callback).__name__} stops, but the run goes on: {one_line(error)}")
            self.callback = control = None
        return control


class _Reports(TrainerCallback):
    """Reports the losses, learning rates and evaluations of a training, as transformers names them."""

    def __init__(self, tracking: Tracking, prefix: str) -> None:
        self.tracking, self.prefix = tracking, prefix

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Start the trackers, so that it is soon known if one cannot be used."""
        self.tracking.start()

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, object] | None = None,
        **kwargs: object,
    ) -> None:
        """Report what the trainer logs."""
        numbers = {key: float(value) for key, value in (logs or {}).items() if isinstance(value, (int, float))}
        kinds: dict[str, dict[str, float]] = {}
        for name, value in rewrite_logs(numbers).items():
            kinds.setdefault(name.partition("/")[0], {})[f"{self.prefix}{name}"] = value
        for kind, values in kinds.items():
            axis = f"{self.prefix}{kind}/global_step"
            self.tracking.point(values, axis=axis, x=state.global_step, step=state.global_step, in_order=True)
