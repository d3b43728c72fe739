"""`hf-paint push`: publish a run as a repository on the Hub."""

import argparse
import shlex
import sys
from typing import TYPE_CHECKING

from hf_paint.cli.parser import Commands, add_command
from hf_paint.cli.tables import print_table


if TYPE_CHECKING:
    from hf_paint.patching.options import PatchResult


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    text = (
        "Publish a run as one repository, with the chosen model on `main` and every alpha on a branch of its own. "
        "To resume an interrupted push, run the same command again."
    )
    example = (
        "  hf-paint push runs/mnist --repo_id me/clip-mnist --dry_run\n"
        "  hf-paint push runs/mnist --repo_id me/clip-mnist --private"
    )
    command = add_command(commands, "push", run, summary=text, example=example)
    command.add_argument("run_folder", metavar="RUN_DIR", help="run folder (output_dir of `hf-paint patch`)")
    command.add_argument(
        "--repo_id", required=True, help="Hub repository id, for example me/clip-mnist; created if it does not exist"
    )
    command.add_argument(
        "--form",
        default="variants",
        choices=["variants", "delta"],
        help="`variants` for complete models, `delta` for a small file with theta_1 - theta_0 (default: %(default)s)",
    )
    command.add_argument(
        "--delta_dtype",
        default="float32",
        choices=["float32", "bfloat16"],
        help="dtype of the delta (default: %(default)s)",
    )
    command.add_argument("--alphas", nargs="+", type=float, metavar="ALPHA", help="alphas to publish (default: all)")
    command.add_argument("--base_model_id", help="Hub repository id of the base, if the run started from a folder")
    command.add_argument("--private", action="store_true", default=None, help="create a private repository")
    command.add_argument("--overwrite", action="store_true", help="replace branches that have different weights")
    command.add_argument("--tag", help="tag for `main`, for example v1.0")
    command.add_argument("--collection", metavar="SLUG", help="collection to add the repository to")
    command.add_argument("--eval_results", action="store_true", help="also publish the accuracies in .eval_results/")
    command.add_argument("--yes", action="store_true", help="publish even if alpha 0 was chosen: nothing was patched")
    command.add_argument("--dry_run", action="store_true", help="show the plan without changing anything")


def run(parsed: argparse.Namespace, rest: list[str]) -> None:
    """Run the command."""
    from hf_paint.hub.push import PushOptions, push_variants

    options = PushOptions(
        form=parsed.form,
        delta_dtype=parsed.delta_dtype,
        base_model_id=parsed.base_model_id,
        tag=parsed.tag,
        collection=parsed.collection,
        eval_results=parsed.eval_results,
        allow_unpatched=parsed.yes,
    )
    plan = push_variants(
        parsed.run_folder,
        parsed.repo_id,
        alphas=parsed.alphas,
        private=parsed.private,
        overwrite=parsed.overwrite,
        dry_run=parsed.dry_run,
        options=options,
    )
    if parsed.dry_run:
        print_table(plan.rows())
        if plan.is_unpatched:
            effect = "a patch is applied at alpha 0 by default" if parsed.form == "delta" else "`main` is the base"
            sys.stdout.write(f"Alpha 0 was chosen: nothing was patched, and {effect}. A push needs --yes.\n")
        sys.stdout.write(f"{plan.rights}\nDry run: nothing was changed.\n")
    else:
        sys.stdout.write(f"{plan.url}\n")


def publish(result: "PatchResult", repo_id: str, *, private: bool | None, base_model_id: str | None) -> None:
    """Publish the run that has just finished, unless nothing was patched; print where it is, or how to push it."""
    from hf_paint.hub.push import PushOptions, push_variants
    from hf_paint.results.alphas import is_unpatched

    if result.alpha is None or is_unpatched(result.alpha):
        base = "" if base_model_id is None else f" --base_model_id {base_model_id}"
        command = f"hf-paint push {shlex.quote(str(result.run_folder))} --repo_id {repo_id}{base} --yes"
        sys.stdout.write(f"Nothing was pushed to {repo_id}, because nothing was patched. To push it: {command}\n")
        return
    options = PushOptions(base_model_id=base_model_id)
    sys.stdout.write(f"{push_variants(result, repo_id, private=private, options=options).url}\n")
