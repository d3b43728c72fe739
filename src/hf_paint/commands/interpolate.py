"""`hf-paint interpolate`: checkpoints from folder to folder."""

import argparse
import sys
from pathlib import Path
from typing import Any

from hf_paint.commands import add_command


def add(commands: Any) -> None:
    """Add the command."""
    text = "Interpolate two models from folder to folder; takes seconds and little memory."
    epilog = "  hf-paint interpolate clip runs/mnist/theta_1 --alphas 0.3 0.5 --output_dir runs/mnist/alphas"
    command = add_command(commands, "interpolate", run, text, epilog)
    command.add_argument("theta_0", metavar="THETA_0", help="the folder of the model before fine-tuning")
    command.add_argument("theta_1", metavar="THETA_1", help="the folder of the model after fine-tuning")
    command.add_argument("--alphas", nargs="+", type=float, required=True, metavar="ALPHA", help="0 is THETA_0")
    command.add_argument(
        "--output_dir", required=True, help="each model is written to its folder OUTPUT_DIR/alpha-x.xx"
    )
    command.add_argument("--save_dtype", help="float32, bfloat16 or float16 (default: the dtype of the models)")
    command.add_argument("--extrapolate", action="store_true", help="allow alphas outside [0, 1]")
    command.add_argument("--overwrite", action="store_true", help="replace models that are there")


def run(parsed: argparse.Namespace, rest: list[str]) -> None:
    """Run the command."""
    from hf_paint.alphas import format_alpha
    from hf_paint.checkpoints import interpolate_checkpoints

    folders = {alpha: Path(parsed.output_dir) / f"alpha-{format_alpha(alpha)}" for alpha in parsed.alphas}
    options = {name: getattr(parsed, name) for name in ("save_dtype", "extrapolate", "overwrite")}
    interpolate_checkpoints(parsed.theta_0, parsed.theta_1, folders, show_progress=True, **options)
    sys.stdout.writelines(f"{folder}\n" for folder in folders.values())
