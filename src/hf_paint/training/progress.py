"""The progress of training in a run: one bar, instead of the bar, tables and lines of `transformers`."""

from collections.abc import Mapping
from typing import Never

from tqdm.auto import tqdm
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainerControl, TrainerState, TrainingArguments
from transformers.trainer import DEFAULT_PROGRESS_CALLBACK

from hf_paint.results.progress import say_progress


class StepBar(TrainerCallback):
    """Counts the steps with a `tqdm` bar that also shows the latest loss. Evaluations are lines of their own."""

    def __init__(self) -> None:
        self.bar: tqdm[Never] | None = None

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Start the bar, at the step that training resumes from."""
        quiet = not state.is_world_process_zero
        self.bar = tqdm(total=state.max_steps, initial=state.global_step, desc="Training", unit="step", disable=quiet)

    def on_step_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Advance the bar."""
        if self.bar is not None:
            self.bar.update(state.global_step - self.bar.n)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Mapping[str, float] | None = None,
        **kwargs: object,
    ) -> None:
        """Show the loss beside the bar."""
        if self.bar is not None and "loss" in (logs or {}):
            self.bar.set_postfix_str(f"loss {(logs or {})['loss']:.3g}", refresh=False)

    def on_evaluate(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        metrics: Mapping[str, float] | None = None,
        **kwargs: object,
    ) -> None:
        """Say how accurate the model is."""
        accuracy = (metrics or {}).get("eval_mean_accuracy")
        if accuracy is not None and state.is_world_process_zero:
            say_progress(f"step {state.global_step}: {100 * accuracy:.2f} % correct on validation images")

    def on_train_end(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **kwargs: object
    ) -> None:
        """Remove the bar."""
        if self.bar is not None:
            self.bar.close()


def show_one_bar(trainer: Trainer) -> None:
    """Show the progress of a trainer as one bar."""
    for shown in (DEFAULT_PROGRESS_CALLBACK, PrinterCallback):
        trainer.remove_callback(shown)
    trainer.add_callback(StepBar)
