"""`hf-paint check`: check that a model keeps the accuracy of another, with an exit code for scripts."""

import argparse
import json
import sys

from hf_paint.cli.evaluate import warn_of_trained_head
from hf_paint.cli.parser import Commands, add_command, add_image_counts, add_split
from hf_paint.cli.tables import print_table
from hf_paint.tasks.registry import get_tasks


EXAMPLE = """\
  hf-paint check runs/textures --against openai/clip-vit-base-patch32 --tasks cifar10 stl10 --gain textures/=0.05

Both models are evaluated on the same images, each with its own zero-shot heads. A task is *kept* if the whole 95 %
interval of the difference is above minus the tolerance, *regressed* if it is below, and otherwise the images *cannot
tell*. The exit code is 0 if every task is kept or gained, 3 if one regressed or a gain is missing, 4 if neither, but
the images do not suffice to tell, and 2 if the input is wrong.
"""


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    text = "Check that a model keeps the accuracy of its base on some tasks and gains on others, for use in scripts."
    command = add_command(commands, "check", run, summary=text, example=EXAMPLE)
    command.add_argument("model", metavar="MODEL", help="folder, run folder, Hub repository id or id@revision")
    command.add_argument("--against", required=True, metavar="BASE", help="model to compare with, named like MODEL")
    command.add_argument(
        "--tasks", nargs="+", metavar="TASK", help="tasks to keep (default: those of the run, unless there are gains)"
    )
    command.add_argument(
        "--tolerance", type=float, default=0.01, help="accuracy that a task may lose (default: %(default)s, one point)"
    )
    command.add_argument(
        "--gain",
        nargs="+",
        action="extend",
        type=_gain,
        default=[],
        metavar="TASK=GAIN",
        help="tasks that must gain accuracy",
    )
    add_split(command)
    add_image_counts(command)
    command.add_argument("--use_cpu", action="store_true", help="evaluate on the CPU")
    command.add_argument("--json", action="store_true", help="print one JSON object instead of a table")


def run(parsed: argparse.Namespace, rest: list[str]) -> int:
    """Run the command."""
    tasks = get_tasks(parsed.tasks or [])
    from accelerate import Accelerator

    from hf_paint.evaluation.checking import check_model
    from hf_paint.evaluation.evaluator import Evaluator
    from hf_paint.models.given import model_of, own_tasks

    for name in (parsed.model, parsed.against):
        warn_of_trained_head(model_of(name))
    if not tasks and not parsed.gain:
        tasks = own_tasks(parsed.model)
    accelerator = Accelerator(cpu=parsed.use_cpu)
    check = check_model(
        parsed.model,
        parsed.against,
        tasks,
        tolerance=parsed.tolerance,
        gains=dict(parsed.gain),
        split=parsed.split,
        max_eval_images=parsed.max_eval_images,
        evaluator=Evaluator(accelerator, batch_size=parsed.batch_size),
    )
    if accelerator.is_main_process and parsed.json:
        sys.stdout.write(json.dumps(check.to_dict(), indent=2) + "\n")
    elif accelerator.is_main_process:
        print_table(check.rows())
        sys.stdout.write(f"{check.sentence()}\n")
    return check.exit_code


def _gain(text: str) -> tuple[str, float]:
    """Parse `TASK=GAIN`."""
    task, _, gain = text.rpartition("=")
    try:
        return task, float(gain)
    except ValueError:
        raise argparse.ArgumentTypeError(f"must be TASK=GAIN, like textures=0.05, got '{text}'") from None
