"""Evaluating tasks, and predicting on them, with the current model of a `Trainer`."""

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from torch import nn
from torch.utils.data import Dataset
from transformers import Trainer, TrainerControl
from transformers.trainer_utils import PredictionOutput, speed_metrics

from hf_paint.data.images import Example
from hf_paint.errors import InputError
from hf_paint.evaluation.evaluator import Evaluator
from hf_paint.evaluation.given_tasks import EvaluationSet, EvaluationSets
from hf_paint.evaluation.predictions import predictions_from_logits, score
from hf_paint.evaluation.prepared_task import PreparedTask
from hf_paint.results.scores import Scores
from hf_paint.training.trained_clip import TrainedClip


class EvaluationMixin(Trainer):
    """`evaluate` and `predict` for tasks. Each task has its own head, so a data collator cannot batch them together.

    Attributes:
        clip: Model in training.
        tasks: Tasks that `evaluate()` evaluates.
        evaluator: Evaluator that runs the image tower.
    """

    model: nn.Module
    control: TrainerControl
    clip: TrainedClip
    tasks: list[PreparedTask]
    evaluator: Evaluator

    def evaluate(
        self,
        eval_dataset: EvaluationSets | None = None,
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "eval",
    ) -> dict[str, float]:
        """Evaluate the current model on the validation split of each task.

        Args:
            eval_dataset: What to evaluate instead of `eval_tasks`: a task, or what `get_task` makes one of, or a
                `datasets.Dataset` with an image column and a label column; several of them, or name -> one of them.
            ignore_keys: Unused; kept for compatibility with `Trainer.evaluate`.
            metric_key_prefix: Prefix of the metric names.

        Returns:
            `eval_<task>_accuracy`, `eval_<task>_loss` and the other metrics of each task (see `Result.metrics`), plus
            `eval_mean_accuracy` and `eval_loss`, the unweighted means over the tasks. Any of them can be used as
            `metric_for_best_model`.

        Raises:
            InputError: If there are no tasks to evaluate, or a task has no validation split.
        """
        tasks = self.tasks if eval_dataset is None else self.clip.prepare(eval_dataset, "validation")
        if not tasks:
            raise InputError("There are no tasks to evaluate. Pass `eval_tasks` to the trainer.")
        start = time.time()
        with self._evaluating() as model:
            predictions = [self.evaluator.predict(model, task, "validation") for task in tasks]
        scores = {
            task.task.name: score(found, task, "validation") for task, found in zip(tasks, predictions, strict=True)
        }
        metrics = _metrics(scores, metric_key_prefix)
        metrics |= speed_metrics(metric_key_prefix, start)
        self.log(metrics)
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def predict(
        self,
        test_dataset: EvaluationSet | Dataset[Example],
        ignore_keys: list[str] | None = None,
        metric_key_prefix: str = "test",
    ) -> PredictionOutput:
        """Predict the class of each image in the test split of a task with the current model.

        Args:
            test_dataset: A task, or what `get_task` makes one of, or a `datasets.Dataset` with an image column and a
                label column. The trainer's own `train_dataset` is given to `Trainer.predict`.
            ignore_keys: Unused for tasks.
            metric_key_prefix: Prefix of the metric names.

        Returns:
            `predictions`, the logits in float32, shape (num_images, num_classes); `label_ids`, the indices of the
            correct classes, shape (num_images,), or (num_images, max_classes) padded with -1 for a multi-label task;
            and `metrics`, named as in `evaluate`. The images are in the order
            of the split. With multiple choice, the columns are the candidates of each image, padded with minus
            infinity.

        Raises:
            InputError: If this is not one task, or the task has no test split.
        """
        if isinstance(test_dataset, Dataset):
            return super().predict(test_dataset, ignore_keys, metric_key_prefix)
        tasks = self.clip.prepare(test_dataset, "test")
        if len(tasks) != 1:
            raise InputError(f"`predict` takes one task or data set, got {len(tasks)}. Call it for each of them.")
        [task] = tasks
        start = time.time()
        with self._evaluating() as model:
            logits, labels = self.evaluator.logits(model, task, "test")
        predictions = predictions_from_logits(logits.float(), labels, task.images["test"].written)
        metrics = _metrics({task.task.name: score(predictions, task, "test")}, metric_key_prefix)
        metrics |= speed_metrics(metric_key_prefix, start, num_samples=len(labels))
        self.control = self.callback_handler.on_predict(self.args, self.state, self.control, metrics)
        return PredictionOutput(logits.float().numpy(), labels.numpy(), metrics)

    @contextmanager
    def _evaluating(self) -> Iterator[nn.Module]:
        """Yield the model in evaluation mode, and return it to its mode afterwards."""
        training = self.model.training
        yield self.model.train(False)
        self.model.train(training)


def _metrics(scores: Mapping[str, Scores], prefix: str) -> dict[str, float]:
    """Return the metrics of each task under its name, and the unweighted means over the tasks."""
    metrics = {f"{prefix}_{task}_{name}": x for task, found in scores.items() for name, x in found.metrics.items()}
    metrics[f"{prefix}_mean_accuracy"] = sum(found.accuracy for found in scores.values()) / len(scores)
    metrics[f"{prefix}_loss"] = sum(found.loss or 0.0 for found in scores.values()) / len(scores)
    return metrics
