"""What a run is asked to do, before anything is loaded."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from transformers import PreTrainedModel

from hf_paint.merging.base import Method
from hf_paint.patching.options import PatchOptions
from hf_paint.patching.recipe import Rule, Strategy
from hf_paint.tasks.task import Task
from hf_paint.training.training_args import PaintTrainingArguments


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Request:
    """The arguments of a patching function, with its tasks and its method looked up. `Recipe` has the base too."""

    strategy: Strategy
    model: str | Path | PreTrainedModel
    args: PaintTrainingArguments
    patching_tasks: Sequence[Task]
    supported_tasks: Sequence[Task]
    rule: Rule
    options: PatchOptions
    method: Method

    @property
    def searches(self) -> bool:
        """Whether the run searches for one coefficient per task."""
        return self.strategy == "parallel" and self.method.takes == "one"

    @property
    def chooses(self) -> bool:
        """Whether the run chooses an alpha, and so saves a patched model with a card."""
        return self.rule.selection != "none" or self.method.chooses

    @property
    def trains(self) -> bool:
        """Whether the run trains on a task, or reads its training images."""
        options = self.options
        if self.strategy == "parallel":
            return any(task.name not in options.thetas for task in self.patching_tasks)
        return bool(options.ingredients or not options.thetas or self.method.needs_train)
