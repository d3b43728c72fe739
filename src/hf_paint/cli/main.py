"""The command line: `hf-paint COMMAND ...`. Commands import their dependencies only when run, so help is fast."""

import argparse
import os
import sys
import traceback
from collections.abc import Sequence
from functools import partial
from importlib import import_module

from hf_paint.cli.console import console, nobody_reads, say
from hf_paint.cli.failures import TRACEBACK, describe, is_of_the_machine, remedy
from hf_paint.cli.parser import Parser, Run
from hf_paint.cli.signals import until_interrupted
from hf_paint.cli.version import Version
from hf_paint.errors import InputError, JobError, one_line


COMMANDS = (
    *("quickstart", "patch", "evaluate", "check", "apply", "interpolate", "extract-lora", "convert", "compare"),
    *("report", "push", "select", "variants", "tasks", "demo"),
)
"""Commands, each in the module of its name."""
EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_NOBODY_READS = 141
"""As shells report a process that SIGPIPE ended."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    The exit code is 0 for success, 1 for a failed job, 2 for invalid input, 130 after Ctrl+C, 143 after SIGTERM, and
    otherwise what the command returned.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    return until_interrupted(partial(_run, arguments))


def _run(arguments: list[str]) -> int:
    """Run a command, and say in one line why it failed, unless that is a bug."""
    try:
        parsed, rest = _parser(arguments).parse_known_args(arguments)
        if parsed.command != "patch" and rest:
            raise InputError(f"unrecognized arguments: {' '.join(rest)}")
        command: Run = parsed.run
        with console():
            code = command(parsed, rest)
        sys.stdout.flush()
    except InputError as error:
        message = one_line(str(error).rpartition("InputError: ")[2], limit=None)  # a dataloader worker wraps it
        if is_of_the_machine(error):
            return _failed(f"{message} {remedy(error)}", EXIT_FAILED)
        return _failed(message, EXIT_BAD_INPUT)
    except JobError as error:
        return _failed(one_line(error, limit=None), EXIT_FAILED)
    except Exception as error:
        if isinstance(error, BrokenPipeError) and nobody_reads():
            return EXIT_NOBODY_READS
        return _failed(describe(error), EXIT_FAILED)
    return code or 0


def _failed(message: str | None, code: int) -> int:
    """Say why a command failed, with the traceback of a bug or if the user wants it, and return the exit code."""
    if message is None or os.environ.get(TRACEBACK):
        say(traceback.format_exc())
    if message is not None:
        say(f"hf-paint: {message}")
    return code


def _parser(arguments: Sequence[str]) -> Parser:
    """Return the parser of the command that the arguments name, or of all commands; others need not be imported."""
    parser = Parser(
        prog="hf-paint",
        description="Patch open-vocabulary models: improve accuracy on one task and preserve it on the others.",
        epilog=f"example:\n  hf-paint quickstart\n\nSet {TRACEBACK}=1 to see the traceback of a failure.",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=Version, help="show the versions of hf-paint and its main dependencies")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    named = [name for name in COMMANDS if name in arguments[:1]]
    for name in named or COMMANDS:
        import_module(f"hf_paint.cli.{name.replace('-', '_')}").add(commands)
    return parser
