"""`hf-paint interpolate`: write models or adapters at several alphas."""

import argparse
import sys
from pathlib import Path

from hf_paint.cli.parser import Commands, add_command
from hf_paint.errors import InputError


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    text = "Interpolate the weights of two models, or scale a LoRA adapter, and write the results in seconds."
    epilog = (
        "  hf-paint interpolate clip runs/mnist/theta_1 --alphas 0.3 0.5 --output_dir runs/mnist/alphas\n"
        "  hf-paint interpolate --adapter runs/lora/adapter --alphas 0.3 0.5 --output_dir runs/lora/adapters\n"
        "  hf-paint interpolate clip --adapter runs/lora/adapter --alphas 0.3 --output_dir runs/lora/models"
    )
    command = add_command(commands, "interpolate", run, summary=text, example=epilog)
    command.add_argument("theta_0", nargs="?", metavar="THETA_0", help="folder of the model before fine-tuning")
    command.add_argument("theta_1", nargs="?", metavar="THETA_1", help="folder of the model after fine-tuning")
    command.add_argument(
        "--adapter",
        help="folder of a LoRA adapter to use instead of THETA_1; without THETA_0, write adapters, not models",
    )
    command.add_argument(
        "--alphas",
        nargs="+",
        type=float,
        required=True,
        metavar="ALPHA",
        help="alphas; 0 gives THETA_0, 1 gives THETA_1",
    )
    command.add_argument("--output_dir", required=True, help="output folder; models go to OUTPUT_DIR/alpha-0.30 etc.")
    command.add_argument("--save_dtype", help="float32, bfloat16 or float16 (default: dtype of the models)")
    command.add_argument(
        "--base_model_id", help="Hub repository id of THETA_0, for adapters that do not name their base"
    )
    command.add_argument("--extrapolate", action="store_true", help="allow alphas outside [0, 1]")
    command.add_argument("--overwrite", action="store_true", help="replace existing models or adapters")


def run(parsed: argparse.Namespace, rest: list[str]) -> None:
    """Run the command."""
    from hf_paint.results.alphas import by_name, canonical_alpha

    names = by_name(map(canonical_alpha, parsed.alphas))
    folders = {alpha: Path(parsed.output_dir) / name for name, alpha in names.items()}
    scales = parsed.adapter is not None and parsed.theta_0 is None
    if (parsed.adapter is None) != (parsed.theta_1 is not None):
        raise InputError("Pass either THETA_0 and THETA_1, THETA_0 and --adapter, or --adapter alone.")
    if parsed.save_dtype if scales else parsed.base_model_id:
        raise InputError(
            "--save_dtype applies only to models, and --base_model_id only to adapters. Remove one of them."
        )
    if scales:
        _write_adapters(parsed, folders)
    else:
        _write_models(parsed, folders)
    sys.stdout.writelines(f"{folder}\n" for folder in folders.values())


def _write_adapters(parsed: argparse.Namespace, folders: dict[float, Path]) -> None:
    from hf_paint.adapters.lora_scaling import scale_adapter

    options = {name: getattr(parsed, name) for name in ("base_model_id", "extrapolate", "overwrite")}
    for alpha, folder in folders.items():
        scale_adapter(parsed.adapter, alpha, folder, **options)


def _write_models(parsed: argparse.Namespace, folders: dict[float, Path]) -> None:
    from hf_paint.weights.checkpoints import interpolate_checkpoints

    options = {name: getattr(parsed, name) for name in ("save_dtype", "extrapolate", "overwrite")}
    if parsed.adapter is None:
        interpolate_checkpoints(parsed.theta_0, parsed.theta_1, folders, show_progress=True, **options)
        return
    from hf_paint.adapters.lora import interpolate_adapter

    interpolate_adapter(parsed.theta_0, parsed.adapter, folders, show_progress=True, **options)
