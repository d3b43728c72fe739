"""The command line: `hf-paint quickstart | patch | evaluate | interpolate | tasks`. Heavy imports wait."""

import argparse
import logging
import sys
import traceback
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml
from tqdm import tqdm

from hf_paint.errors import InputError
from hf_paint.recipe import COMMON_TRAINING_FIELDS, describe_keys
from hf_paint.tasks import get_task, list_tasks


EXIT_FAILED = 1
EXIT_BAD_INPUT = 2

PATCH_EPILOG = """\
example:
  hf-paint patch --config recipes/clip-vit-base-patch32/mnist.yaml --output_dir runs/mnist

Keys of the YAML file and flags are the same; flags win. Unknown keys are refused. A run that was interrupted goes on
where it stopped when it is started again. On several processes: accelerate launch [...] recipes/patch.py --config ...

recipe keys:
{keys}

the commonest training fields (--help_all lists every field of transformers.TrainingArguments):
{training}
"""


class _Parser(argparse.ArgumentParser):
    """An argument parser whose errors are `InputError`s: one line, exit code 2."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage and exiting."""
        raise InputError(message)


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code: 0 done, 1 the job failed, 2 the input is wrong."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        parsed, rest = _parser().parse_known_args(arguments)
        if parsed.command != "patch" and rest:
            raise InputError(f"unrecognized arguments: {' '.join(rest)}")
        command: Callable[[argparse.Namespace, list[str]], None] = parsed.run
        command(parsed, rest)
    except InputError as error:
        message = str(error).rpartition("InputError: ")[2]  # a dataloader worker wraps the message in its traceback
        tqdm.write(f"hf-paint: {' '.join(message.split())}", file=sys.stderr)  # on a line of its own, above any bar
        return EXIT_BAD_INPUT
    except KeyboardInterrupt:
        tqdm.write("hf-paint: interrupted; start the same command again to go on", file=sys.stderr)
        return EXIT_FAILED
    except Exception:
        traceback.print_exc()
        return EXIT_FAILED
    return 0


def _parser() -> _Parser:
    parser = _Parser(
        prog="hf-paint",
        description="Patch open-vocabulary models: good at one more task, as good as before at the others.",
        epilog="example:\n  hf-paint quickstart",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=_Parser)
    _add_quickstart(commands)
    _add_patch(commands)
    _add_evaluate(commands)
    _add_interpolate(commands)
    _add_tasks(commands)
    return parser


def _add_command(commands: Any, name: str, run: Callable[..., None], help_text: str, epilog: str) -> _Parser:
    command: _Parser = commands.add_parser(
        name,
        help=help_text,
        description=help_text,
        epilog=epilog,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.set_defaults(run=run)
    return command


def _add_quickstart(commands: Any) -> None:
    text = "Patch a toy CLIP on handwritten digits: everything end to end, offline, in a few minutes."
    command = _add_command(commands, "quickstart", _quickstart, text, "example:\n  hf-paint quickstart")
    command.add_argument("--output_dir", default="runs/quickstart", help="the run folder (default: %(default)s)")


def _add_patch(commands: Any) -> None:
    epilog = PATCH_EPILOG.format(
        keys=_table(describe_keys()),
        training=_table(list(COMMON_TRAINING_FIELDS.items())),
    )
    text = "Fine-tune a CLIP model on a task, interpolate, choose alpha and save the patched model."
    command = _add_command(commands, "patch", _patch, text, epilog)
    command.add_argument("--config", metavar="RECIPE.yaml", help="the recipe")
    command.add_argument("--help_all", action="store_true", help="list every training field and exit")


def _add_evaluate(commands: Any) -> None:
    text = "Evaluate a CLIP model on tasks."
    epilog = "example:\n  hf-paint evaluate openai/clip-vit-base-patch32 --tasks mnist cifar10 --split test"
    command = _add_command(commands, "evaluate", _evaluate, text, epilog)
    command.add_argument("model", metavar="MODEL", help="an id on the Hub or a folder")
    command.add_argument("--tasks", nargs="+", required=True, metavar="TASK", help="built-in names or task YAMLs")
    command.add_argument("--split", default="test", choices=["test", "validation"], help="default: %(default)s")
    command.add_argument("--revision", default="main", help="a branch, tag or commit of the model (default: main)")
    command.add_argument(
        "--batch_size", type=_positive, default=128, help="images per forward pass (default: %(default)s)"
    )
    command.add_argument("--precision", default="fp32", choices=["auto", "fp32", "bf16"], help="default: %(default)s")
    command.add_argument("--use_cpu", action="store_true", help="stay on the CPU")


def _add_interpolate(commands: Any) -> None:
    text = "Interpolate two models from folder to folder; takes seconds and little memory."
    epilog = "example:\n  hf-paint interpolate clip runs/mnist/theta_1 --alphas 0.3 0.5 --output_dir runs/mnist/alphas"
    command = _add_command(commands, "interpolate", _interpolate, text, epilog)
    command.add_argument("theta_0", metavar="THETA_0", help="the folder of the model before fine-tuning")
    command.add_argument("theta_1", metavar="THETA_1", help="the folder of the model after fine-tuning")
    command.add_argument("--alphas", nargs="+", type=float, required=True, metavar="ALPHA", help="0 is THETA_0")
    command.add_argument(
        "--output_dir", required=True, help="each model is written to its folder OUTPUT_DIR/alpha-x.xx"
    )
    command.add_argument("--save_dtype", help="float32, bfloat16 or float16 (default: the dtype of the models)")
    command.add_argument("--extrapolate", action="store_true", help="allow alphas outside [0, 1]")
    command.add_argument("--overwrite", action="store_true", help="replace models that are there")


def _add_tasks(commands: Any) -> None:
    text = "List the built-in tasks, or show one."
    command = _add_command(commands, "tasks", _tasks, text, "example:\n  hf-paint tasks eurosat")
    command.add_argument("name", nargs="?", metavar="NAME", help="a built-in name or a task YAML")


def _tasks(parsed: argparse.Namespace, rest: list[str]) -> None:
    if parsed.name is not None:
        text = yaml.safe_dump(get_task(parsed.name).to_dict(), sort_keys=False, allow_unicode=True, width=100)
        sys.stdout.write(text)
        return
    rows = [["task", "data set", "classes", "prompts", "train", "validation", "test"]]
    for name in list_tasks():
        task = get_task(name)
        splits = [task.splits.train, task.splits.validation, task.splits.test]
        classes = len(task.class_names or ())
        rows.append([name, task.dataset, str(classes), str(len(task.templates)), *(split or "-" for split in splits)])
    _print_table(rows)


def _interpolate(parsed: argparse.Namespace, rest: list[str]) -> None:
    from hf_paint.checkpoints import interpolate_checkpoints
    from hf_paint.results import format_alpha

    folders = {alpha: Path(parsed.output_dir) / f"alpha-{format_alpha(alpha)}" for alpha in parsed.alphas}
    options = {name: getattr(parsed, name) for name in ("save_dtype", "extrapolate", "overwrite")}
    interpolate_checkpoints(parsed.theta_0, parsed.theta_1, folders, show_progress=True, **options)
    sys.stdout.writelines(f"{folder}\n" for folder in folders.values())


def _evaluate(parsed: argparse.Namespace, rest: list[str]) -> None:
    tasks = [get_task(name) for name in parsed.tasks]
    from accelerate import Accelerator

    from hf_paint.evaluation import evaluate_tasks
    from hf_paint.modeling import load_clip

    accelerator = Accelerator(cpu=parsed.use_cpu)
    model, processor, _ = load_clip(parsed.model, revision=parsed.revision)
    results = evaluate_tasks(
        model,
        tasks,
        processor=processor,
        split=parsed.split,
        precision=parsed.precision,
        batch_size=parsed.batch_size,
        accelerator=accelerator,
    )
    rows = [["task", "split", "images", "accuracy", "mean per class", "loss", "ECE"]]
    for result in results:
        values = (100 * result.accuracy, 100 * (result.mean_per_class or 0))
        calibration = (f"{result.loss:.4f}", f"{result.ece:.4f}")
        rows.append([result.task, result.split, str(result.total), *(f"{v:.2f}" for v in values), *calibration])
    if accelerator.is_main_process:
        _print_table(rows)


def _patch(parsed: argparse.Namespace, rest: list[str]) -> None:
    from hf_paint.recipe_runner import print_every_field, run_recipe

    if parsed.help_all:
        print_every_field()
    else:
        run_recipe(parsed.config, rest)


def _quickstart(parsed: argparse.Namespace, rest: list[str]) -> None:
    from hf_paint.quickstart import quickstart

    quickstart(parsed.output_dir)


def _positive(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a positive integer, got '{text}'")
    return int(text)


def _table(rows: Sequence[tuple[str, str]]) -> str:
    import textwrap

    lines = []
    for name, text in rows:
        first, *more = textwrap.wrap(text, 82)
        lines += [f"  {name:<28}{first}", *(" " * 30 + line for line in more)]
    return "\n".join(lines)


def _print_table(rows: Sequence[Sequence[str]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(*rows[0])
    for row in rows[1:]:
        table.add_row(*row)
    console = Console()
    console.print(table) if console.is_terminal else Console(width=160).print(table)


if __name__ == "__main__":
    sys.exit(main())
