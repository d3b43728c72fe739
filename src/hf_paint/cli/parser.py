"""The command line parser.

Each command is a module with two functions: `add` adds the parser of the command, and `run` imports its dependencies
and does the work.
"""

import argparse
import re
from collections.abc import Callable, Sequence
from typing import Any, NoReturn, TypeAlias

from hf_paint.errors import InputError


Run = Callable[[argparse.Namespace, list[str]], int | None]
"""Runs a command, and returns its exit code if that can be other than 0."""
Commands: TypeAlias = "argparse._SubParsersAction[Parser]"
"""Subparsers of `hf-paint`, to which each module adds its command."""


VALUE = "\0"
"""Stands before a value of a recipe that begins like a flag. No argument of a command line can contain it."""
BOOLEANS = {"true": True, "yes": True, "false": False, "no": False}


class StrictParser(argparse.ArgumentParser):
    """Argument parser that raises `InputError`, which the command line prints on one line with exit code 2."""

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._negative_number_matcher = re.compile(r"-\.?\d")  # as in Python 3.14, so that -1e-05 is not a flag

    def error(self, message: str) -> NoReturn:
        """Raise an error instead of printing usage and exiting."""
        raise InputError(message)

    def _get_value(self, action: argparse.Action, arg_string: str) -> object:
        value: object = super()._get_value(action, arg_string.removeprefix(VALUE))
        return value


class Parser(StrictParser):
    """Argument parser in which `true` or `false`, as in recipes and in `hf-paint patch`, may follow a bare flag."""

    def parse_known_args(  # type: ignore[override]
        self, args: Sequence[str] | None = None, namespace: argparse.Namespace | None = None
    ) -> tuple[argparse.Namespace, list[str]]:
        """Parse arguments, after removing `true` and `false` from flags that take no value."""
        kept, switched_off = self._without_booleans(args or ())
        parsed, rest = super().parse_known_args(kept, namespace)
        for dest in switched_off:
            setattr(parsed, dest, False)
        return parsed, rest

    def _without_booleans(self, args: Sequence[str]) -> tuple[list[str], list[str]]:
        """Return the arguments without values of flags that take none, and the names of the flags set to false."""
        flags = {name: action.dest for name, action in self._option_string_actions.items() if action.nargs == 0}
        kept: list[str] = []
        switched_off: list[str] = []
        rest = list(args)
        while rest:
            argument = rest.pop(0)
            flag, separator, value = argument.partition("=")
            if flag not in flags:
                kept.append(argument)
                continue
            if not separator:
                value = rest.pop(0) if rest and rest[0].lower() in BOOLEANS else "true"
            if value.lower() not in BOOLEANS:
                raise InputError(f"{flag} must be true or false, got '{value}'.")
            if BOOLEANS[value.lower()]:
                kept.append(flag)
            else:
                switched_off.append(flags[flag])
        return kept, switched_off


def add_command(commands: Commands, name: str, run: Run, *, summary: str, example: str) -> Parser:
    """Add a command with an example in its help text."""
    command = commands.add_parser(
        name,
        help=summary,
        description=summary,
        epilog=f"example:\n{example}",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    command.set_defaults(run=run)
    return command


def add_split(command: Parser) -> None:
    """Add `--split`, the split to report accuracy on."""
    command.add_argument(
        "--split",
        default="test",
        choices=["test", "validation"],
        help="split to report accuracy on (default: %(default)s)",
    )


def positive(text: str) -> int:
    """Parse a positive integer, as a `type` of an argument."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"must be a positive integer, got '{text}'")
    return int(text)


def add_image_counts(command: Parser) -> None:
    """Add `--batch_size` and `--max_eval_images` to an evaluation command."""
    command.add_argument(
        "--batch_size",
        type=positive,
        help="number of images per forward pass (default: 128; on a GPU, more for small models)",
    )
    command.add_argument(
        "--max_eval_images",
        type=positive,
        metavar="N",
        help="evaluate at most N images per task, drawn by class and always the same (default: all)",
    )
