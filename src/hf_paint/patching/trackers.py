"""Experiment trackers as `accelerate` offers them, each with what it can show: series, tables and plots."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar

import numpy as np
from accelerate.tracking import GeneralTracker, TensorBoardTracker, TrackioTracker, WandBTracker
from PIL import Image

from hf_paint.results.tables import markdown
from hf_paint.training.training_args import PaintTrainingArguments


class Tracker:
    """One run in a tracker.

    Args:
        args: Training arguments, of which it reads `run_name`, `project` and the like.
        folder: Run folder.
        run_id: What the tracker calls a run that goes on, if it has told before.
    """

    name: ClassVar[str]

    def __init__(self, args: PaintTrainingArguments, folder: Path, run_id: str | None = None) -> None:
        self.run: GeneralTracker = self.make(args, folder, run_id)
        self.run.start()

    def make(self, args: PaintTrainingArguments, folder: Path, run_id: str | None) -> GeneralTracker:
        """Return the tracker, before it starts."""
        raise NotImplementedError

    @property
    def run_id(self) -> str | None:
        """What the tracker calls the run, if it needs to be told when the run goes on."""
        return None

    def log_recipe(self, recipe: Mapping[str, object]) -> None:
        """Log the recipe."""
        self.run.store_init_configuration(dict(recipe))

    def log_point(self, values: Mapping[str, float], *, axis: str, x: float, step: int) -> None:
        """Log values of series at a point.

        Args:
            values: Name of a series -> its value.
            axis: Name of what the series are plotted against.
            x: Point on this axis.
            step: The same point, for trackers whose steps are whole numbers.
        """
        self.run.log(dict(values), step=step)

    def log_table(self, name: str, rows: Sequence[Sequence[str]]) -> None:
        """Log a table, whose first row is its header."""
        raise NotImplementedError

    def log_plot(self, name: str, path: Path) -> None:
        """Log an image file."""
        raise NotImplementedError


class TensorBoard(Tracker):
    """TensorBoard: event files in the run folder. Its steps are whole numbers, and its tables are text."""

    name = "tensorboard"

    def make(self, args: PaintTrainingArguments, folder: Path, run_id: str | None) -> GeneralTracker:
        """Return a tracker that writes to the run folder, or to a folder named like it in $TENSORBOARD_LOGGING_DIR."""
        elsewhere = os.environ.get("TENSORBOARD_LOGGING_DIR")
        return TensorBoardTracker(folder.name, Path(elsewhere).expanduser() if elsewhere else folder.parent)

    def log_recipe(self, recipe: Mapping[str, object]) -> None:
        """Log the recipe as text: its hyperparameters would be another run."""
        self.run.log({"recipe": markdown([["key", "value"], *([key, str(value)] for key, value in recipe.items())])})

    def log_table(self, name: str, rows: Sequence[Sequence[str]]) -> None:
        """Log a table as Markdown."""
        self.run.log({name: markdown(rows)})

    def log_plot(self, name: str, path: Path) -> None:
        """Log an image file."""
        with Image.open(path) as image:
            self.run.log_images({name: np.asarray(image.convert("RGB"))[None]}, dataformats="NHWC")


class WandB(Tracker):
    """Weights & Biases: a series is plotted against its own axis, so alpha need not be a whole number."""

    name = "wandb"

    def __init__(self, args: PaintTrainingArguments, folder: Path, run_id: str | None = None) -> None:
        self.defined: set[str] = set()
        super().__init__(args, folder, run_id)

    def make(self, args: PaintTrainingArguments, folder: Path, run_id: str | None) -> GeneralTracker:
        """Return a tracker for the project in $WANDB_PROJECT, or for that of the arguments."""
        where = {} if os.environ.get("WANDB_DIR") else {"dir": str(folder)}
        project = os.environ.get("WANDB_PROJECT", args.project)
        return WandBTracker(project, name=run_name(args, folder), id=run_id, resume="allow", **where)

    @property
    def run_id(self) -> str | None:
        """The id of the run."""
        return str(self.run.tracker.id)

    def log_point(self, values: Mapping[str, float], *, axis: str, x: float, step: int) -> None:
        """Log values against their axis, as `wandb.define_metric` names it."""
        for group in {name.rpartition("/")[0] for name in values} - self.defined:
            self.run.tracker.define_metric(axis, hidden=True)
            self.run.tracker.define_metric(f"{group}/*", step_metric=axis)
            self.defined.add(group)
        self.run.log({**values, axis: x})

    def log_table(self, name: str, rows: Sequence[Sequence[str]]) -> None:
        """Log a table; W&B takes a cell of `Markdown` for one of another type."""
        self.run.log_table(name, columns=list(rows[0]), data=[[str(cell) for cell in row] for row in rows[1:]])

    def log_plot(self, name: str, path: Path) -> None:
        """Log an image file."""
        with Image.open(path) as image:
            self.run.log_images({name: [image]})


class Trackio(Tracker):
    """Trackio, whose steps are whole numbers."""

    name = "trackio"

    def make(self, args: PaintTrainingArguments, folder: Path, run_id: str | None) -> GeneralTracker:
        """Return a tracker for the project of the arguments, on this machine or in their Space."""
        given = {
            "space_id": args.trackio_space_id,
            "bucket_id": args.trackio_bucket_id,
            "private": args.hub_private_repo,
        }
        options = {key: value for key, value in given.items() if value is not None}
        return TrackioTracker(args.project, name=run_name(args, folder), resume="allow", **options)

    def log_table(self, name: str, rows: Sequence[Sequence[str]]) -> None:
        """Log a table."""
        import pandas as pd
        import trackio

        self.run.log({name: trackio.Table(dataframe=pd.DataFrame(rows[1:], columns=rows[0]))})

    def log_plot(self, name: str, path: Path) -> None:
        """Log an image file."""
        import trackio

        self.run.log({name: trackio.Image(str(path))})


TRACKERS = {kind.name: kind for kind in (TensorBoard, WandB, Trackio)}
"""Name in `report_to` -> tracker, for those that show a whole run. Others get the trainings only."""


def run_name(args: PaintTrainingArguments, folder: Path) -> str:
    """Return the name of a run: `run_name`, or else the run folder, such as `runs/clip-vit-base-patch32-mnist`."""
    return args.run_name or (folder.name if folder.is_absolute() else folder.as_posix())
