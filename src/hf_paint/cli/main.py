"""The command line: `hf-paint COMMAND ...`. Commands import their dependencies only when run, so help is fast."""

import argparse
import sys
import traceback
from collections.abc import Sequence
from importlib import import_module

from hf_paint.cli.console import console, say
from hf_paint.cli.parser import Parser, Run
from hf_paint.cli.version import Version
from hf_paint.errors import InputError, JobError, one_line


COMMANDS = (
    *("quickstart", "patch", "evaluate", "check", "apply", "interpolate", "extract-lora", "convert", "compare"),
    *("report", "push", "select", "variants", "tasks", "demo"),
)
"""Commands, each in the module of its name."""
EXIT_FAILED = 1
EXIT_BAD_INPUT = 2
EXIT_INTERRUPTED = 130
"""As shells report a process that SIGINT ended; one that SIGTERM ends is reported as 143."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    It is 0 for success, 1 for a failed job, 2 for invalid input, 130 after Ctrl+C, and otherwise what the command
    returned.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    try:
        parsed, rest = _parser(arguments).parse_known_args(arguments)
        if parsed.command != "patch" and rest:
            raise InputError(f"unrecognized arguments: {' '.join(rest)}")
        command: Run = parsed.run
        with console():
            code = command(parsed, rest)
    except InputError as error:
        message = str(error).rpartition("InputError: ")[2]  # a dataloader worker wraps the message in its traceback
        say(f"hf-paint: {one_line(message, limit=None)}")
        return EXIT_BAD_INPUT
    except JobError as error:
        say(f"hf-paint: {one_line(error, limit=None)}")
        return EXIT_FAILED
    except KeyboardInterrupt:
        say("hf-paint: interrupted; run the same command again to resume")
        return EXIT_INTERRUPTED
    except Exception:
        say(traceback.format_exc())
        return EXIT_FAILED
    return code or 0


def _parser(arguments: Sequence[str]) -> Parser:
    """Return the parser of the command that the arguments name, or of all commands; others need not be imported."""
    parser = Parser(
        prog="hf-paint",
        description="Patch open-vocabulary models: improve accuracy on one task and preserve it on the others.",
        epilog="example:\n  hf-paint quickstart",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action=Version, help="show the versions of hf-paint and its main dependencies")
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    named = [name for name in COMMANDS if name in arguments[:1]]
    for name in named or COMMANDS:
        import_module(f"hf_paint.cli.{name.replace('-', '_')}").add(commands)
    return parser
