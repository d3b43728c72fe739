"""`hf-paint apply`: add patches to their base model."""

import argparse
import re
import sys
from pathlib import Path

from hf_paint.cli.parser import Commands, add_command
from hf_paint.errors import InputError
from hf_paint.files import expand


EXAMPLE = """\
  hf-paint apply openai/clip-vit-base-patch32 me/clip-mnist-patch --output_dir patched
  hf-paint apply openai/clip-vit-base-patch32 me/mnist-patch@0.5 me/cars-patch@0.4 --output_dir both

A patch is a repository pushed with `--form delta`, a folder written by `save_patch`, a LoRA adapter of hf_paint, or a
model patched by hf_paint, for its difference from BASE. Each must have been made from BASE, which is verified before
anything is written. Without @ALPHA, a patch is applied at the alpha in its config, and the other forms at 1. To name a
revision that is a number, also give the alpha: me/patch@1.0@0.5.
"""
ALPHA = re.compile(r"[-+]?(\d+\.?\d*|\.\d+)(e[-+]?\d+)?", re.IGNORECASE)


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    text = "Add one or more patches to their base model, and write the result as an ordinary CLIP model."
    command = add_command(commands, "apply", run, summary=text, example=EXAMPLE)
    command.add_argument("base", metavar="BASE", help="folder, Hub repository id or id@revision of the base")
    command.add_argument("patches", nargs="+", metavar="PATCH[@ALPHA]", help="patches, and their alphas")
    command.add_argument("--output_dir", required=True, help="output folder")
    command.add_argument("--save_dtype", help="float32, bfloat16 or float16 (default: dtype of BASE)")
    command.add_argument("--extrapolate", action="store_true", help="allow alphas outside [0, 1]")
    command.add_argument("--overwrite", action="store_true", help="replace an existing model")


def run(parsed: argparse.Namespace, rest: list[str]) -> None:
    """Run the command."""
    alphas: dict[str | Path, float | None] = dict(map(split_alpha, parsed.patches))
    if len(alphas) < len(parsed.patches):
        raise InputError("A patch is named twice. Name it once, with the sum of its alphas.")
    from hf_paint.adapters.apply import open_changes, verified_base, write_patched
    from hf_paint.hub.applied_card import Applied, applied_card
    from hf_paint.models.given import model_of
    from hf_paint.models.task_file import merge_tasks, read_tasks, tasks_to_json
    from hf_paint.results.alphas import format_alpha
    from hf_paint.weights.folders import TASKS

    changes = open_changes(alphas, extrapolate=parsed.extrapolate)
    base = verified_base(parsed.base, changes)
    tasks = merge_tasks(read_tasks(name) for name in [*map(model_of, alphas), str(base.folder)])
    applied = Applied(
        base=parsed.base,
        base_fingerprint=base.fingerprint,
        patches=[(change.name, change.alpha or 0.0) for change in changes],
        tasks=[task.name for task in tasks],
    )
    files = {"README.md": applied_card(applied)} | ({TASKS: tasks_to_json(tasks)} if tasks else {})
    options = {name: getattr(parsed, name) for name in ("save_dtype", "overwrite")}
    write_patched(base, changes, parsed.output_dir, files=files, **options)
    parts = ", ".join(f"{name} at alpha {format_alpha(alpha)}" for name, alpha in applied.patches)
    sys.stdout.write(
        f"{parsed.output_dir}: {parsed.base} with {parts}. It was not evaluated; compare it with its base: "
        f"hf-paint check {parsed.output_dir} --against {parsed.base} --tasks TASK ...\n"
    )


def split_alpha(text: str) -> tuple[str, float | None]:
    """Split `PATCH@ALPHA`. A folder may have any name, and `id@revision` is not split if the revision is no number.

    Example:
        >>> split_alpha("me/patch@v2"), split_alpha("me/patch@v2@0.5")
        (('me/patch@v2', None), ('me/patch@v2', 0.5))
    """
    name, _, alpha = text.rpartition("@")
    if not name or not ALPHA.fullmatch(alpha) or expand(text).is_dir():
        return text, None
    return name, float(alpha)
