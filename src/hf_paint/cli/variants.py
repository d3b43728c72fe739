"""`hf-paint variants`: what a repository of patched models holds."""

import argparse
from typing import Any

from hf_paint.cli.parser import add_command, print_table


def add(commands: Any) -> None:
    """Add the command."""
    text = "List the alphas of a repository that `hf-paint push` made, with their accuracies in percent."
    command = add_command(commands, "variants", run, text, "  hf-paint variants me/clip-mnist")
    command.add_argument("repo", metavar="REPO", help="an id on the Hub")
    command.add_argument("--split", default="test", choices=["test", "validation"], help="default: %(default)s")


def run(parsed: argparse.Namespace, rest: list[str]) -> None:
    """Run the command."""
    from hf_paint.hub.pull import variant_rows

    print_table(variant_rows(parsed.repo, split=parsed.split))
