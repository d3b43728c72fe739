"""`hf-paint variants`: list the alphas in a repository of patched models."""

import argparse

from hf_paint.cli.parser import Commands, add_command, add_split
from hf_paint.cli.tables import print_table


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    text = "List the alphas in a repository published by `hf-paint push`, with their accuracies in percent."
    command = add_command(commands, "variants", run, summary=text, example="  hf-paint variants me/clip-mnist")
    command.add_argument("repo", metavar="REPO", help="Hub repository id")
    add_split(command)


def run(parsed: argparse.Namespace, rest: list[str]) -> None:
    """Run the command."""
    from hf_paint.hub.pull import variant_rows

    print_table(variant_rows(parsed.repo, split=parsed.split))
