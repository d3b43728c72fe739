"""Trainings that are interrupted and resumed, and end as if they had never been interrupted."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from accelerate.utils import broadcast_object_list
from torch import nn
from transformers import EarlyStoppingCallback, Trainer
from transformers.trainer_utils import PREFIX_CHECKPOINT_DIR, TrainOutput

from hf_paint.errors import InputError, JobError, one_line
from hf_paint.merging.averaging import WeightAveraging
from hf_paint.results import checkpoints
from hf_paint.training.divergence import first_not_finite


class ResumingMixin(Trainer):
    """Write checkpoints that can be checked, resume from the newest whole one, and never train beyond the last step.

    `Trainer` takes one more step when it resumes from the checkpoint of the last step in the middle of an epoch,
    forgets for how long early stopping has waited, and sorts checkpoints by the time at which they were modified.
    """

    model: nn.Module
    _resumed_from: str | None = None

    def last_checkpoint(self) -> str | None:
        """Return the newest whole checkpoint in the output folder, or None. Damaged ones are removed.

        The process that saves checkpoints chooses, and all others follow.
        """
        averages = [x.file_name for x in self.callback_handler.callbacks if isinstance(x, WeightAveraging)]
        found: list[Path | None] = [None]
        if self.is_world_process_zero():
            folder, best = Path(str(self.args.output_dir)), self.args.load_best_model_at_end
            found = [checkpoints.last_checkpoint(folder, averages, best=best, remove=True)]
        if self.args.world_size > 1:
            broadcast_object_list(found)
        return None if found[0] is None else str(found[0])

    def train(self, resume_from_checkpoint: str | bool | None = None, *args: Any, **kwargs: Any) -> TrainOutput:
        """Train like `Trainer.train`; True stands for the newest whole checkpoint.

        Raises:
            InputError: If there is none.
        """
        if resume_from_checkpoint is True:
            resume_from_checkpoint = self.last_checkpoint()
            if resume_from_checkpoint is None:
                raise InputError(f"{self.args.output_dir} has no whole checkpoint to resume from.")
        self._resumed_from = resume_from_checkpoint or None
        return super().train(resume_from_checkpoint, *args, **kwargs)

    def _init_training_state(self, *args: Any, **kwargs: Any) -> tuple[int, int]:
        """Start counting, or go on where a checkpoint stopped, also with how long early stopping has waited."""
        started: tuple[int, int] = super()._init_training_state(*args, **kwargs)
        if self.state.global_step and self._resumed_from is not None:
            best = checkpoints.best_of(Path(self._resumed_from))
            self.state.best_model_checkpoint = None if best is None or not best.is_dir() else str(best)
        states: Any = self.state.stateful_callbacks
        for callback in self.callback_handler.callbacks:
            if isinstance(callback, EarlyStoppingCallback):
                stored = states.setdefault(type(callback).__name__, {}) if self.state.global_step else {}
                last = stored[-1] if isinstance(stored, list) else stored
                counter = "early_stopping_patience_counter"
                setattr(callback, counter, last.get("attributes", {}).get(counter, 0))
        return started

    def _run_epoch(self, *args: Any, **kwargs: Any) -> None:
        """Run an epoch, or end the training if it has taken all its steps."""
        if self._has_ended():
            self.control.should_training_stop = True
        else:
            super()._run_epoch(*args, **kwargs)  # type: ignore[no-untyped-call]

    def _has_ended(self) -> bool:
        stoppers = [x for x in self.callback_handler.callbacks if isinstance(x, EarlyStoppingCallback)]
        stopped = any(x.early_stopping_patience_counter >= x.early_stopping_patience for x in stoppers)
        return stopped or self.state.global_step >= self.state.max_steps

    def _save_optimizer_and_scheduler(self, output_dir: str) -> None:
        """Save the optimizer and the schedule, then the averages of the weights."""
        super()._save_optimizer_and_scheduler(output_dir)
        if self.args.should_save:
            for callback in self.callback_handler.callbacks:
                if isinstance(callback, WeightAveraging):
                    callback.save(Path(output_dir))

    def _save_checkpoint(self, model: nn.Module, trial: Any) -> None:
        """Save a checkpoint with its manifest; only then, older ones may be removed."""
        limit, self.args.save_total_limit = self.args.save_total_limit, None
        try:
            super()._save_checkpoint(model, trial)
        finally:
            self.args.save_total_limit = limit
        self.accelerator.wait_for_everyone()  # each process has saved its own random numbers
        if self.args.should_save:
            folder = Path(self._get_output_dir(trial))
            saved = folder / f"{PREFIX_CHECKPOINT_DIR}-{self.state.global_step}"
            checkpoints.complete(saved)
            best = self.state.best_model_checkpoint
            checkpoints.remove_oldest(folder, limit, keep={saved} if best is None else {saved, Path(best)})

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: nn.Module | None = None) -> None:
        with _reading(resume_from_checkpoint):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            if (name := first_not_finite(model or self.model)) is not None:
                raise ValueError(f"'{name}' holds NaN or inf.")

    def _load_best_model(self) -> None:
        with _reading(self.state.best_model_checkpoint):
            super()._load_best_model()

    def _load_optimizer_and_scheduler(self, checkpoint: str | None) -> None:
        with _reading(checkpoint):
            super()._load_optimizer_and_scheduler(checkpoint)

    def _load_rng_state(self, checkpoint: str | None) -> None:
        with _reading(checkpoint):
            super()._load_rng_state(checkpoint)

    def _load_scaler(self, checkpoint: str | None) -> None:
        with _reading(checkpoint):
            super()._load_scaler(checkpoint)


@contextmanager
def _reading(checkpoint: str | None) -> Iterator[None]:
    """Turn whatever the block raises for a file that it cannot read into one line."""
    try:
        yield
    except InputError:
        raise
    except Exception as error:  # pickles, archives and tensors of a wrong shape fail in many ways
        raise JobError(
            f"{checkpoint} cannot be resumed from: {one_line(error)} Remove it; the run then resumes from an earlier "
            "checkpoint."
        ) from error
