"""Warn about prompts that a model cannot read as they are meant: cut, or the same for several classes."""

from collections.abc import Iterable, Sequence
from copy import deepcopy

from transformers import CLIPModel, PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase
from transformers.utils import logging

from hf_paint.models.families import family_of
from hf_paint.models.processes import is_first_on_node
from hf_paint.models.prompts import TokenIds, context_length, tokenize
from hf_paint.tasks.multiple_choice import MultipleChoiceTask
from hf_paint.tasks.task import Task


NUM_SHOWN = 10
"""Maximum number of names in a message."""
SPECIAL_TOKENS = 4
"""More than any tokenizer adds to a text. Every other token stands for at least one byte of it."""
logger = logging.get_logger(__name__)


def warn_of_prompts(
    model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase, task: Task, class_names: Sequence[str]
) -> None:
    """Warn, once for each task, of prompts that are cut and of classes whose prompts are the same to the model.

    Args:
        model: Model whose text tower embeds the prompts.
        tokenizer: Tokenizer of the model.
        task: The task.
        class_names: Class names of the task or, for multiple choice, the prompts of all candidates.
    """
    if not is_first_on_node():
        return
    reader = _Reader(model, tokenizer)
    groups = task.class_groups or {}
    names = [(index, name) for index, own in enumerate(class_names) for name in groups.get(own, (own,))]
    _warn_of_cut_prompts(reader, task, dict.fromkeys(name for _, name in names))
    _warn_of_same_prompts(reader, task, names)


class _Reader:
    """What a model reads of a text: its tokens, up to the length of the context."""

    def __init__(self, model: PreTrainedModel, tokenizer: PreTrainedTokenizerBase) -> None:
        self.tokenizer = deepcopy(tokenizer)  # truncation changes its state
        self.context = context_length(model, tokenizer)
        config: PreTrainedConfig = model.config
        self.end_of_text: int | None = config.text_config.eos_token_id if isinstance(model, CLIPModel) else None
        self.lower_case = family_of(model).lower_case

    def is_cut(self, texts: Sequence[str]) -> list[bool]:
        """Return whether each text is longer than the context."""
        return [len(ids) > self.context for ids in self._tokenize(texts, truncation=False)]

    def read(self, texts: Sequence[str]) -> list[TokenIds]:
        """Return the tokens of each text that the model reads."""
        if self.end_of_text is not None:
            return tokenize(self.tokenizer, texts, self.context, self.end_of_text)
        return self._tokenize(texts, truncation=True)

    def _tokenize(self, texts: Sequence[str], *, truncation: bool) -> list[TokenIds]:
        texts = [text.lower() if self.lower_case else text for text in texts]
        limit = {"truncation": True, "max_length": self.context} if truncation else {"verbose": False}
        return [tuple(ids) for ids in self.tokenizer(texts, **limit).input_ids] if texts else []


def _warn_of_cut_prompts(reader: _Reader, task: Task, names: Iterable[str]) -> None:
    prompts = [template.replace("{}", name) for name in names for template in task.templates]
    long = [prompt for prompt in prompts if len(prompt.encode()) + SPECIAL_TOKENS > reader.context]
    cut = [prompt for prompt, is_cut in zip(long, reader.is_cut(long), strict=True) if is_cut]
    if cut:
        advice = "`prompt`" if isinstance(task, MultipleChoiceTask) else "the class names or `templates`"
        logger.warning_once(
            f"{len(cut)} of the {len(prompts)} prompts of task '{task.name}' are longer than the {reader.context} "
            f"tokens that the model reads, and are cut: {_shown(cut[:1])}. Shorten {advice}."
        )


def _warn_of_same_prompts(reader: _Reader, task: Task, names: Sequence[tuple[int, str]]) -> None:
    """Warn of names of different classes with the same tokens in all templates."""
    same = [names]
    for template in task.templates:  # the names that are left get fewer, usually none after the first
        same = [part for names in same for part in _same(reader, template, names)]
    if not same:
        return
    num_names = sum(len(part) for part in same)
    if isinstance(task, MultipleChoiceTask):
        example = _shown([name for _, name in same[0]])
        logger.warning_once(
            f"{num_names - len(same)} of the {len(names)} candidates of task '{task.name}' have the same embedding as "
            f"another, for instance {example}. Shorten `prompt`, or put the answer first."
        )
        return
    listed = "; ".join(_shown([name for _, name in part]) for part in same[:NUM_SHOWN])
    logger.warning_once(
        f"{num_names} class names of task '{task.name}' have the same prompts as another class, so the model cannot "
        f"tell these classes apart: {listed}{'; ...' if len(same) > NUM_SHOWN else ''}. Choose other `class_names`."
    )


def _same(reader: _Reader, template: str, names: Sequence[tuple[int, str]]) -> list[list[tuple[int, str]]]:
    """Return the names of different classes that are the same to the model in one template, grouped."""
    groups: dict[TokenIds, list[tuple[int, str]]] = {}
    for name, ids in zip(names, reader.read([template.replace("{}", name) for _, name in names]), strict=True):
        groups.setdefault(ids, []).append(name)
    return [part for part in groups.values() if len({index for index, _ in part}) > 1]


def _shown(names: Sequence[str]) -> str:
    """Return names in quotes, long ones without their middle."""
    short = [name if len(name) <= 60 else f"{name[:40]} ... {name[-15:]}" for name in names[:NUM_SHOWN]]
    text = ", ".join(f"'{name}'" for name in short)
    return text + (f" and {len(names) - NUM_SHOWN} more" if len(names) > NUM_SHOWN else "")
