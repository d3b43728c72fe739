"""When a patching run reads each of its options and arguments; what it would not read is refused before it starts."""

import logging
from collections.abc import Callable, Mapping
from dataclasses import fields

from transformers import PreTrainedModel

from hf_paint.files import expand
from hf_paint.patching.ingredients import ingredient_arguments
from hf_paint.patching.options import PatchOptions
from hf_paint.patching.recipe import Rule
from hf_paint.patching.request import Request
from hf_paint.training.readers import Reader, defaults_of, refuse_unread
from hf_paint.training.training_args import PaintTrainingArguments


logger: logging.Logger = logging.getLogger(__name__)


def check_everything_is_read(request: Request) -> None:
    """Refuse an option or argument that was given but that the run would not read.

    Raises:
        InputError: If one would have no effect; the message says what it needs.
    """
    options, rule, defaults = request.options, request.rule, defaults_of(PatchOptions) | defaults_of(Rule)
    given = {f.name: getattr(part, f.name) for part in (options, rule) for f in fields(part)}
    changed = {name: value for name, value in given.items() if value != defaults.get(name)}
    refuse_unread(changed, defaults, OPTIONS, request)
    shared = request.args.given()
    arguments = [args.given() for args in ingredient_arguments(request.args, options.ingredients).values()]
    for own in (shared, *({key: own[key] for key in own.keys() - shared.keys()} for own in arguments)):
        refuse_unread(own, defaults_of(PaintTrainingArguments), ARGUMENTS, request)
    if not request.trained_tasks:
        unread = [name for name in shared if name not in WITHOUT_TRAINING]
        if unread:
            logger.warning(
                f"Every model is given in `thetas`, so nothing is trained and {', '.join(unread)} have no effect."
            )


def _needs(what: str, reads: Callable[[Request], bool]) -> Reader[Request]:
    return Reader(reads, f"It needs {what}. Set that, or remove it.")


def _is_on_the_hub(request: Request) -> bool:
    return not isinstance(request.model, PreTrainedModel) and not expand(request.model).is_dir()


_CHOICE = _needs("a `selection`, which saves a patched model", lambda request: request.chooses)
_SEARCH = Reader[Request](
    lambda request: len(request.patching_tasks) > 1,
    "With one patching task, there is nothing to search: all `alphas` are evaluated. Remove it.",
)

_TRAINING = Reader[Request](
    lambda request: bool(request.trained_tasks), "Every model is given in `thetas`, so nothing is trained. Remove it."
)

OPTIONS: Mapping[str, Reader[Request]] = {
    "model_revision": _needs("a model on the Hub", _is_on_the_hub),
    "processor": Reader(
        lambda request: isinstance(request.model, PreTrainedModel),
        "A model from a folder or the Hub has its own processor. Remove it.",
    ),
    "tolerance": _needs("`selection: supported_within`", lambda request: request.rule.selection == "supported_within"),
    "save_variants": _needs(
        "a line of alphas: `strategy: single` or `joint`, or a method that merges",
        lambda request: request.strategy != "sequential" and not request.searches,
    ),
    "save_dtype": _needs(
        "a `selection` or `save_variants`, which save models",
        lambda request: request.chooses or request.options.save_variants,
    ),
    "num_examples": _CHOICE,
    "base_model_id": Reader(
        lambda request: request.chooses or request.args.use_peft,
        "It goes into the card of a patched model. Set a `selection`, or remove it.",
    ),
    "callbacks": _TRAINING,
    "replay_tasks": _TRAINING,
    "verify": _needs("`sweep: adaptive`", lambda request: request.options.sweep == "adaptive"),
    "search": _SEARCH,
    "search_budget": _SEARCH,
}
"""Option -> when a run reads it. An option that is not listed here is always read, or refused by `check_arguments`."""

_HUB = Reader[Request](
    lambda request: "push_to_hub" in request.args.given(), "It needs `push_to_hub: true`. Set that too, or remove it."
)
_SCRIPT = Reader[Request](lambda request: False, "A run always trains what is missing, then evaluates. Remove it.")

ARGUMENTS: Mapping[str, Reader[Request]] = {
    "resume_from_checkpoint": Reader(
        lambda request: False, "A run resumes from its own `output_dir` when it is started again. Remove it."
    ),
    "do_train": _SCRIPT,
    "do_eval": Reader(lambda request: request.args.eval_strategy != "no", _SCRIPT.advice),
    "do_predict": _SCRIPT,
    "hub_always_push": Reader(lambda request: False, "Only the finished run is published. Remove it."),
    **dict.fromkeys(("hub_model_id", "hub_private_repo", "hub_strategy", "hub_revision"), _HUB),
    "replay_share": _needs("`replay_tasks`", lambda request: bool(request.options.replay_tasks)),
    **dict.fromkeys(
        ("task_sampling", "sampling_temperature"),
        _needs(
            "`strategy: joint` with several patching tasks",
            lambda request: request.strategy == "joint" and len(request.patching_tasks) > 1,
        ),
    ),
}
"""Training argument -> when a run reads it. `READERS` says when the training of a run reads the others."""

WITHOUT_TRAINING = (
    *("output_dir", "use_cpu", "per_device_eval_batch_size", "seed"),
    *("torch_compile", "onednn", "disable_tqdm"),
)
"""Training arguments that a run reads even if nothing is trained."""
