"""The command line: `hf-paint COMMAND ...`. Commands import their dependencies only when run, so help is fast."""

import argparse
import logging
import os
import sys
import traceback
from collections.abc import Sequence

from tqdm import tqdm

from hf_paint.cli import (
    apply,
    check,
    compare,
    convert,
    evaluate,
    extract_lora,
    interpolate,
    patch,
    push,
    quickstart,
    tasks,
    variants,
)
from hf_paint.cli.parser import Parser, Run
from hf_paint.errors import InputError, JobError, one_line


COMMANDS = (
    quickstart,
    patch,
    evaluate,
    check,
    apply,
    interpolate,
    extract_lora,
    convert,
    compare,
    push,
    variants,
    tasks,
)
EXIT_FAILED = 1
EXIT_BAD_INPUT = 2


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code.

    It is 0 for success, 1 for a failed job, 2 for invalid input, and otherwise what the command returned.
    """
    arguments = list(sys.argv[1:] if argv is None else argv)
    main_process = os.environ.get("RANK", "0") == "0"  # set by the launcher; other processes log only warnings
    logging.basicConfig(level=logging.INFO if main_process else logging.WARNING, format="%(message)s")
    logging.getLogger("httpx").setLevel(logging.WARNING)
    try:
        parsed, rest = _parser().parse_known_args(arguments)
        if parsed.command != "patch" and rest:
            raise InputError(f"unrecognized arguments: {' '.join(rest)}")
        command: Run = parsed.run
        code = command(parsed, rest)
    except InputError as error:
        message = str(error).rpartition("InputError: ")[2]  # a dataloader worker wraps the message in its traceback
        line = one_line(message, limit=None)
        tqdm.write(f"hf-paint: {line}", file=sys.stderr)  # on its own line, above any progress bar
        return EXIT_BAD_INPUT
    except JobError as error:
        tqdm.write(f"hf-paint: {one_line(error, limit=None)}", file=sys.stderr)
        return EXIT_FAILED
    except KeyboardInterrupt:
        tqdm.write("hf-paint: interrupted; run the same command again to resume", file=sys.stderr)
        return EXIT_FAILED
    except Exception:
        traceback.print_exc()
        return EXIT_FAILED
    return code or 0


def _parser() -> Parser:
    parser = Parser(
        prog="hf-paint",
        description="Patch open-vocabulary models: improve accuracy on one task and preserve it on the others.",
        epilog="example:\n  hf-paint quickstart",
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND", parser_class=Parser)
    for command in COMMANDS:
        command.add(commands)
    return parser
