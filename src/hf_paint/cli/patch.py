"""`hf-paint patch`: run a recipe to get a patched model."""

import argparse
from collections.abc import Sequence

from hf_paint.cli.parser import Commands, add_command
from hf_paint.cli.recipe import COMMON_TRAINING_FIELDS, describe_keys


PATCH_EPILOG = """\
  hf-paint patch --model openai/clip-vit-base-patch32 --patching_tasks textures/ --supported_tasks cifar10
  hf-paint patch --config recipes/clip-vit-base-patch32/mnist.yaml --output_dir runs/mnist --dry_run

Every key in the YAML file is also a flag; flags override the file, and unknown keys are errors. Paths in the file are
relative to it, or else to the working directory. To resume an interrupted run, run the same command again. To run on
several processes: accelerate launch [...] recipes/patch.py --config ...

recipe keys:
{keys}

common training fields with their defaults (--help_all also lists all fields of transformers.TrainingArguments):
{training}
"""


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    epilog = PATCH_EPILOG.format(
        keys=_table(describe_keys()),
        training=_table(list(COMMON_TRAINING_FIELDS.items())),
    )
    text = "Fine-tune a CLIP model on a task, interpolate its weights, choose alpha and save the patched model."
    command = add_command(commands, "patch", run, summary=text, example=epilog)
    command.add_argument("--config", metavar="RECIPE.yaml", help="recipe YAML file")
    command.add_argument(
        "--dry_run", action="store_true", help="check everything, print what the run would do and cost, and stop"
    )
    command.add_argument("--help_all", action="store_true", help="list every training field and exit")


def run(parsed: argparse.Namespace, rest: list[str]) -> None:
    """Run the command; mistakes in the keys are answered before torch is imported."""
    if not parsed.help_all:
        from hf_paint.cli.recipe_keys import read_keys

        read_keys(parsed.config, rest)
    from hf_paint.cli.run_recipe import plan_recipe, print_every_field, run_recipe

    if parsed.help_all:
        print_every_field()
    elif parsed.dry_run:
        plan_recipe(parsed.config, rest)
    else:
        run_recipe(parsed.config, rest)


def _table(rows: Sequence[tuple[str, str]]) -> str:
    import textwrap

    lines = []
    for name, text in rows:
        first, *more = textwrap.wrap(text, 82)
        lines += [f"  {name:<28}{first}", *(" " * 30 + line for line in more)]
    return "\n".join(lines)
