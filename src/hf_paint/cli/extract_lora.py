"""`hf-paint extract-lora`: approximate a fine-tuned model with LoRA adapters."""

import argparse
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from hf_paint.cli.parser import Commands, add_command, add_split
from hf_paint.cli.tables import print_table
from hf_paint.files import expand
from hf_paint.results.tables import number, percent
from hf_paint.tasks.task import Task


if TYPE_CHECKING:
    from transformers import PreTrainedModel, ProcessorMixin

    from hf_paint.models.stored import StoredTower


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    text = "Approximate a fine-tuned model with LoRA adapters and report how much of the change each rank preserves."
    epilog = (
        "  hf-paint extract-lora openai/clip-vit-base-patch32 runs/mnist/theta_1 --rank 8 16 32 "
        "--output_dir runs/mnist/lora --task mnist"
    )
    command = add_command(commands, "extract-lora", run, summary=text, example=epilog)
    command.add_argument("theta_0", metavar="THETA_0", help="model before fine-tuning: folder or Hub repository id")
    command.add_argument("theta_1", metavar="THETA_1", help="model after fine-tuning: folder or Hub repository id")
    command.add_argument(
        "--rank", nargs="+", type=int, required=True, metavar="RANK", help="ranks; each gets its own adapter"
    )
    command.add_argument("--output_dir", required=True, help="output folder; adapters go to OUTPUT_DIR/rank-RANK")
    command.add_argument("--base_model_id", help="Hub repository id of THETA_0, if THETA_0 is a folder")
    command.add_argument("--overwrite", action="store_true", help="replace existing adapters")
    command.add_argument("--task", help="task to evaluate the adapters on, named as in a recipe")
    add_split(command)
    command.add_argument("--alpha", type=float, default=1.0, help="alpha to evaluate (default: %(default)s)")
    command.add_argument("--use_cpu", action="store_true", help="evaluate on the CPU")


def run(parsed: argparse.Namespace, rest: list[str]) -> None:
    """Run the command."""
    from hf_paint.adapters.lora_extraction import extract_lora
    from hf_paint.adapters.lora_files import ADAPTER_WEIGHTS, base_of_adapter
    from hf_paint.models.loading import load_clip
    from hf_paint.models.stored import StoredTower, find_tower
    from hf_paint.repositories import pinned
    from hf_paint.results.alphas import canonical_alpha
    from hf_paint.tasks.registry import get_task
    from hf_paint.weights.compatibility import check_alpha

    parsed.alpha = canonical_alpha(parsed.alpha)
    check_alpha(parsed.alpha)
    task = None if parsed.task is None else get_task(parsed.task)
    folder_0, folder_1 = find_tower(parsed.theta_0), find_tower(parsed.theta_1)
    theta_0 = StoredTower(folder_0)
    theta_1 = StoredTower(folder_1, theta_0)
    base, (name, revision) = base_of_adapter({}, parsed.base_model_id), (str(folder_0), "main")
    if not expand(parsed.theta_0).is_dir():
        name, _, revision = pinned(parsed.theta_0, folder_0).partition("@")
        base = (name, revision)
    extraction = extract_lora(theta_0, theta_1, parsed.rank, parsed.output_dir, base=base, overwrite=parsed.overwrite)
    folders = [Path(parsed.output_dir) / f"rank-{rank}" for rank in extraction.kept]
    rows = [["rank", "of the linear layers", "of the image tower", "MB"]]
    for folder, (rank, kept) in zip(folders, extraction.kept.items(), strict=True):
        megabytes = (folder / ADAPTER_WEIGHTS).stat().st_size / 1e6
        shares = (extraction.kept_of_linear[rank], kept)
        rows.append([str(rank), *(f"{percent(share)} %" for share in shares), number(megabytes)])
    if task is not None:
        model, processor, _ = load_clip(name, revision=revision)
        rows = _with_accuracies(rows, (model, processor), theta_1, folders, task, parsed)
    print_table(rows)
    sys.stdout.write(
        f"Shares of the squared norm of theta_1 - theta_0; {percent(sum(extraction.left_out.values()))} % are in "
        f"{len(extraction.left_out)} tensors that LoRA leaves unchanged (norms, biases, embeddings, convolutions).\n"
    )


def _with_accuracies(
    rows: list[list[str]],
    clip: "tuple[PreTrainedModel, ProcessorMixin]",
    theta_1: "StoredTower",
    adapters: Sequence[Path],
    task: Task,
    parsed: argparse.Namespace,
) -> list[list[str]]:
    """Return the table with an accuracy column for the given alpha and a last row for theta_1."""
    from accelerate import Accelerator

    from hf_paint.adapters.lora_extraction import adapted_weights
    from hf_paint.evaluation.evaluate import evaluate_tasks
    from hf_paint.merging.interpolation import interpolated
    from hf_paint.models.towers import image_tower_weights
    from hf_paint.results.alphas import format_alpha

    model, processor = clip
    accelerator = Accelerator(cpu=parsed.use_cpu)
    theta_0 = {name: tensor.clone() for name, tensor in image_tower_weights(model).items()}
    accuracies = [f"{task.name} {parsed.split}, alpha {format_alpha(parsed.alpha)}"]
    for weights in (*(adapted_weights(theta_0, folder) for folder in adapters), {**theta_1}):
        with interpolated(model, theta_0, weights, parsed.alpha):
            [result] = evaluate_tasks(model, [task], processor=processor, split=parsed.split, accelerator=accelerator)
        accuracies.append(f"{percent(result.accuracy)} %")
    rows = [*rows, ["theta_1", "100 %", "100 %", ""]]
    return [[*row, accuracy] for row, accuracy in zip(rows, accuracies, strict=True)]
