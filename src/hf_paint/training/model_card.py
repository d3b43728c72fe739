"""The card that `PaintTrainer` publishes for a model that is fine-tuned but not interpolated."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import yaml
from huggingface_hub import ModelCardData

from hf_paint.hub.card import Accuracy, Card, Training, Usage, citations_of, environment
from hf_paint.hub.card_metadata import accuracy_result, dataset_id
from hf_paint.hub.card_source import license_of
from hf_paint.hub.card_text import kept_sentences
from hf_paint.hub.model_card import MODEL_ID, base_link, licence_sentences
from hf_paint.models.families import FAMILIES, Family
from hf_paint.repositories import is_repo_id
from hf_paint.results.markdown import Markdown
from hf_paint.results.public_recipe import PUBLIC_KEYS
from hf_paint.results.tables import enumerated, percent, table
from hf_paint.tasks.task import Task
from hf_paint.training.regularization import weights_in_use
from hf_paint.training.training_args import PaintTrainingArguments


@dataclass(frozen=True, slots=True, kw_only=True)
class FineTuning:
    """Content of the card for a fine-tuned model.

    Attributes:
        base: Base model: a Hub repository id, a folder, or an empty string if unknown.
        model_type: `model_type` in the model config.
        repo_id: Hub repository id of the fine-tuned model.
        args: Training arguments.
        steps: Number of optimizer steps taken to get these weights.
        train_tasks: Tasks trained on; empty if the user passed a data set and a head.
        replay_tasks: Tasks whose train images were mixed into those of the train tasks.
        eval_tasks: Tasks that the trainer evaluates.
        accuracies: Mapping from task name to the accuracy of these weights on its validation images.
    """

    base: str
    model_type: str
    repo_id: str | None
    args: PaintTrainingArguments
    steps: int
    train_tasks: Sequence[Task]
    replay_tasks: Sequence[Task]
    eval_tasks: Sequence[Task]
    accuracies: Mapping[str, float]

    @property
    def base_model_id(self) -> str | None:
        """Hub repository id of the base; None if the base is not on the Hub."""
        return self.base if is_repo_id(self.base) else None

    @property
    def base_license(self) -> str | None:
        """Licence of the base, if its card states one."""
        return license_of(self.base) if self.base else None

    @property
    def family(self) -> Family:
        """Model family."""
        return FAMILIES[self.model_type]

    @property
    def tasks(self) -> dict[str, Task]:
        """Mapping from name to task, train tasks first."""
        return {task.name: task for task in (*self.train_tasks, *self.replay_tasks, *self.eval_tasks)}

    @property
    def trained_on(self) -> str:
        """The train tasks, listed as part of a sentence."""
        return enumerated([task.name for task in self.train_tasks] or ["a custom data set"])

    @property
    def title(self) -> str:
        """Title of the model."""
        base = (self.base_model_id or self.family.name).split("/")[-1]
        return f"{base} fine-tuned on {self.trained_on}"


def last_accuracies(log_history: Sequence[Mapping[str, float]], step: int) -> dict[str, float]:
    """Return the accuracy per task from the last logged evaluation, if it evaluated the weights at `step`."""
    for entry in reversed(log_history):
        accuracies = {match[1]: entry[key] for key in entry if (match := re.fullmatch("eval_(.+)_accuracy", key))}
        accuracies.pop("mean", None)
        if accuracies and entry["step"] == step:
            return accuracies
    return {}


def render_fine_tuned_card(fine_tuning: FineTuning, **metadata: object) -> str:
    """Return the text of the card, with metadata fields overridden by `metadata`."""
    tasks, args = fine_tuning.train_tasks, fine_tuning.args
    base = base_link(fine_tuning.base_model_id, fine_tuning.family)
    batch_size = args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size
    return Card(
        metadata=ModelCardData(**(_metadata(fine_tuning) | metadata)),  # type: ignore[arg-type]
        title=fine_tuning.title,
        introduction=_introduction(fine_tuning, base),
        usage=Usage(
            model_id=fine_tuning.repo_id or MODEL_ID,
            class_names=((tasks and tasks[0].class_names) or ("a cat", "a dog"))[:3],
            template=tasks[0].templates[0] if tasks else "a photo of {}.",
            trained_head_tasks=fine_tuning.trained_on if args.train_head else "",
        ),
        advice=True,
        accuracy=_accuracy(fine_tuning),
        training=Training(
            summary=f"Trained for {fine_tuning.steps} steps of {batch_size} images, with these arguments:",
            recipe=_public_arguments(args, joint=len(tasks) > 1, replays=bool(fine_tuning.replay_tasks)).strip(),
            versions=environment(),
        ),
        tasks=list(fine_tuning.tasks.values()),
        licence=licence_sentences(base, fine_tuning.base_license, "fine-tuned"),
        limits=LIMITS,
        citations=citations_of([*tasks, *fine_tuning.replay_tasks]),
    ).render()


LIMITS = (
    "Fine-tuning on one task usually reduces accuracy on others. Only the tasks in the table were measured.",
    "Accuracies were measured on validation images after a single training run.",
    "The fine-tuned model likely inherits its base model's biases and failure modes.",
)


def _introduction(fine_tuning: FineTuning, base: Markdown) -> Markdown:
    head, joint = "a frozen zero-shot head made of text embeddings", ""
    if fine_tuning.args.train_head:
        head = "a classification head, initialised with text embeddings and trained with it"
    if len(fine_tuning.train_tasks) > 1:
        head = "frozen zero-shot heads made of text embeddings"
        joint = " The tasks were trained jointly: each image was compared with the classes of its own task."
    return Markdown(
        "This is an ordinary {} model. Use it like its base model.\n\nThe image tower of {} was fine-tuned on {} "
        "against {}. This is the first step of patching ([PAINT](https://arxiv.org/abs/2208.05592)).{}{} The text "
        "tower is unchanged."
    ).format(fine_tuning.family.name, base, fine_tuning.trained_on, head, joint, _kept(fine_tuning))


def _kept(fine_tuning: FineTuning) -> Markdown:
    args, names = fine_tuning.args, [task.name for task in fine_tuning.replay_tasks]
    kept = kept_sentences(names, args.replay_share, weights_in_use(args.regularization))
    return Markdown(" {}").format(kept) if kept else Markdown()


def _accuracy(fine_tuning: FineTuning) -> Accuracy:
    if not fine_tuning.accuracies:
        return Accuracy(caption="These weights were not evaluated.")
    rows = [[task, percent(accuracy)] for task, accuracy in fine_tuning.accuracies.items()]
    return Accuracy(
        caption=f"Top-1 accuracy of these weights (step {fine_tuning.steps}) in percent on the validation images.",
        table=table([["task", "accuracy"], *rows], text_columns=1),
    )


def _metadata(fine_tuning: FineTuning) -> dict[str, object]:
    base = fine_tuning.base_model_id
    trained = [*fine_tuning.train_tasks, *fine_tuning.replay_tasks]
    data_sets = list(dict.fromkeys(filter(None, map(dataset_id, trained))))
    results = [
        accuracy_result(name, fine_tuning.tasks.get(name), accuracy, split="validation", metric_name="top-1 accuracy")
        for name, accuracy in fine_tuning.accuracies.items()
    ]
    return {
        "model_name": fine_tuning.title,
        "base_model": base,
        "base_model_relation": "finetune" if base else None,
        "library_name": "transformers",
        "pipeline_tag": "zero-shot-image-classification",
        "license": fine_tuning.base_license,
        "datasets": data_sets or None,
        "metrics": ["accuracy"] if results else None,
        "tags": [fine_tuning.model_type, "hf_paint", "paint"],
        "eval_results": results or None,
    }


def _public_arguments(args: PaintTrainingArguments, *, joint: bool, replays: bool) -> str:
    """Return the arguments that affect the results as YAML, without paths, secrets or unused arguments."""
    values: dict[str, object] = args.to_dict()  # type: ignore[no-untyped-call]
    epochs = args.max_steps is None or args.max_steps <= 0
    lora_keys = ("use_peft", "lora_r", "lora_alpha", "lora_dropout", "lora_target_modules", "use_rslora", "use_dora")
    unused = dict.fromkeys(lora_keys, not args.use_peft) | {
        "num_train_epochs": not epochs,
        "max_steps": epochs,
        "task_sampling": not joint,
        "replay_share": not replays,
        "regularization": not args.regularization,
        "train_head": not args.train_head,
        "freeze_tower": not args.freeze_tower,
        "head_steps": not args.head_steps,
        "sampling_temperature": not joint or args.task_sampling != "temperature",
    }
    public = {key: values[key] for key in PUBLIC_KEYS if values.get(key) is not None and not unused.get(key)}
    return yaml.safe_dump(public, sort_keys=False)
