"""The card of a model that was fine-tuned and not yet interpolated: what `PaintTrainer` publishes."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from importlib.resources import files
from typing import Any

import yaml
from huggingface_hub import ModelCard, ModelCardData

from hf_paint.hub.card_metadata import PUBLIC_KEYS, accuracy_result, dataset_id
from hf_paint.hub.card_source import license_of
from hf_paint.hub.model_card import base_link, environment, source_row
from hf_paint.models.families import FAMILIES
from hf_paint.repositories import is_repo_id
from hf_paint.tasks.task import Task
from hf_paint.training.training_args import PaintTrainingArguments


TEMPLATE = files("hf_paint.training") / "model_card_template.md"


@dataclass(frozen=True, slots=True, kw_only=True)
class FineTuning:
    """What the card of a fine-tuned model is made of.

    Attributes:
        base: What was fine-tuned: an id on the Hub, a folder, or an empty string.
        model_type: The `model_type` of its config.
        repo_id: Where the model will be on the Hub.
        args: The training arguments.
        steps: The optimizer steps that made these weights.
        train_tasks: The tasks that were trained on together; none for a data set and a head of the user's own.
        eval_tasks: The tasks that the trainer evaluates.
        accuracies: Task -> accuracy of these weights on its validation images.
    """

    base: str
    model_type: str
    repo_id: str | None
    args: PaintTrainingArguments
    steps: int
    train_tasks: Sequence[Task]
    eval_tasks: Sequence[Task]
    accuracies: Mapping[str, float]

    @property
    def base_model_id(self) -> str | None:
        """The id of the base on the Hub; None for any other base."""
        return self.base if is_repo_id(self.base) else None

    @property
    def tasks(self) -> dict[str, Task]:
        """The tasks by their names, the train tasks first."""
        return {task.name: task for task in (*self.train_tasks, *self.eval_tasks)}

    @property
    def trained_on(self) -> str:
        """What was trained on, as a sentence says it."""
        *others, last = [task.name for task in self.train_tasks] or ["a data set of its own"]
        return f"{', '.join(others)} and {last}" if others else last

    @property
    def title(self) -> str:
        """The name of the model."""
        base = (self.base_model_id or FAMILIES[self.model_type].name).split("/")[-1]
        return f"{base} fine-tuned on {self.trained_on}"


def render_fine_tuned_card(fine_tuning: FineTuning, **metadata: Any) -> str:
    """Return the text of the card; `metadata` wins over what the card says of itself."""
    tasks, args = fine_tuning.train_tasks, fine_tuning.args
    family = FAMILIES[fine_tuning.model_type]
    base_license = license_of(fine_tuning.base) if fine_tuning.base else None
    card = ModelCard.from_template(
        ModelCardData(**(_metadata(fine_tuning, base_license) | metadata)),
        template_str=TEMPLATE.read_text(encoding="utf-8"),
        title=fine_tuning.title,
        trained_on=fine_tuning.trained_on,
        joint=len(tasks) > 1,
        trained_head=args.train_head,
        base=base_link(fine_tuning.base_model_id, family),
        family=family,
        base_license=base_license or "not stated",
        model_id=fine_tuning.repo_id or "path/or/id/of/this/model",
        example_labels=repr(list((tasks and tasks[0].class_names) or ("a cat", "a dog"))[:3]),
        example_template=repr(tasks[0].templates[0] if tasks else "a photo of {}."),
        accuracies={name: f"{100 * accuracy:.2f}" for name, accuracy in fine_tuning.accuracies.items()},
        steps=fine_tuning.steps,
        batch_size=args.per_device_train_batch_size * args.gradient_accumulation_steps * args.world_size,
        arguments=_public_arguments(args, joint=len(tasks) > 1).strip(),
        versions=list(environment().items()),
        sources=[source_row(task) for task in fine_tuning.tasks.values()],
        citations=list(dict.fromkeys(task.citation.strip() for task in tasks if task.citation)),
    )
    return str(card)


def _metadata(fine_tuning: FineTuning, base_license: str | None) -> dict[str, Any]:
    base = fine_tuning.base_model_id
    on_the_hub = list(dict.fromkeys(found for task in fine_tuning.train_tasks if (found := dataset_id(task))))
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
        "license": base_license,
        "datasets": on_the_hub or None,
        "metrics": ["accuracy"] if results else None,
        "tags": [fine_tuning.model_type, "hf_paint", "paint"],
        "eval_results": results or None,
    }


def _public_arguments(args: PaintTrainingArguments, *, joint: bool) -> str:
    """Return the training arguments that decide the numbers, as YAML, with nothing of the machine."""
    values: dict[str, Any] = args.to_dict()  # type: ignore[no-untyped-call]
    not_in_force = {
        "num_train_epochs": values["max_steps"] > 0,
        "max_steps": values["max_steps"] <= 0,
        "task_sampling": not joint,
        "train_head": not args.train_head,
        "freeze_tower": not args.freeze_tower,
        "head_steps": not args.head_steps,
        "sampling_temperature": not joint or args.task_sampling != "temperature",
    }
    public = {key: values[key] for key in PUBLIC_KEYS if values.get(key) is not None and not not_in_force.get(key)}
    return yaml.safe_dump(public, sort_keys=False)
