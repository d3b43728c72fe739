"""`hf-paint push`: publish a run as a repository on the Hub."""

import argparse
import sys

from hf_paint.cli.parser import Commands, add_command, print_table


def add(commands: Commands) -> None:
    """Add the command."""
    text = (
        "Publish a run as one repository: the chosen model on `main`, every other alpha on its own branch. "
        "To resume an interrupted push, run the same command again."
    )
    example = (
        "  hf-paint push runs/mnist --repo_id me/clip-mnist --dry_run\n"
        "  hf-paint push runs/mnist --repo_id me/clip-mnist --private"
    )
    command = add_command(commands, "push", run, summary=text, example=example)
    command.add_argument("run_folder", metavar="RUN_DIR", help="the output_dir of `hf-paint patch`")
    command.add_argument(
        "--repo_id", required=True, help="the repository, such as me/clip-mnist; created if it does not exist"
    )
    command.add_argument(
        "--form",
        default="variants",
        choices=["variants", "delta"],
        help="`variants`: complete models; `delta`: only theta_1 - theta_0, a small file (default: %(default)s)",
    )
    command.add_argument(
        "--delta_dtype",
        default="float32",
        choices=["float32", "bfloat16"],
        help="the dtype of the delta (default: %(default)s)",
    )
    command.add_argument(
        "--alphas", nargs="+", type=float, metavar="ALPHA", help="the alphas to publish (default: all)"
    )
    command.add_argument("--base_model_id", help="the id of the base on the Hub, if the run started from a folder")
    command.add_argument("--private", action="store_true", default=None, help="create a private repository")
    command.add_argument("--overwrite", action="store_true", help="replace branches with other weights")
    command.add_argument("--tag", help="also tag `main`, for example v1.0")
    command.add_argument("--collection", metavar="SLUG", help="also add the repository to this collection")
    command.add_argument("--eval_results", action="store_true", help="also write the accuracies to .eval_results/")
    command.add_argument("--dry_run", action="store_true", help="show the plan and change nothing")


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
        sys.stdout.write(f"{plan.rights}\nNothing was changed: this is the plan of `hf-paint push`.\n")
    else:
        sys.stdout.write(f"{plan.url}\n")
