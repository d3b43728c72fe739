"""The parser of the command line, and tables on the terminal.

Each command is a module with two functions: `add` adds its parser, `run` does the work and imports its dependencies.
"""

import argparse
from collections.abc import Callable, Sequence
from typing import NoReturn, TypeAlias

from hf_paint.errors import InputError


Run = Callable[[argparse.Namespace, list[str]], None]
Commands: TypeAlias = "argparse._SubParsersAction[Parser]"
"""The commands of `hf-paint`; each module adds its own."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose errors are `InputError`s: one line, exit code 2."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage and exiting."""
        raise InputError(message)


def add_command(commands: Commands, name: str, run: Run, *, summary: str, example: str) -> Parser:
    """Add a command whose help shows an example."""
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
    """Add `--split`: the split on which a command reports accuracies."""
    command.add_argument(
        "--split",
        default="test",
        choices=["test", "validation"],
        help="the split of the images (default: %(default)s)",
    )


def print_table(rows: Sequence[Sequence[str]]) -> None:
    """Print a table whose first row is the header."""
    from rich.console import Console
    from rich.table import Table

    table = Table(*rows[0])
    for row in rows[1:]:
        table.add_row(*row)
    console = Console()
    if not console.is_terminal:
        console = Console(width=160)  # a file or a pipe has no width, and 80 columns would wrap
    console.print(table)
