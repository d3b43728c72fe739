"""`hf-paint convert`: a model of open_clip as a CLIP repository."""

import argparse
import sys
from typing import Any

from hf_paint.cli.parser import add_command


def add(commands: Any) -> None:
    """Add the command."""
    text = "Convert a model of open_clip to a CLIP repository, which transformers reads and hf-paint patches."
    epilog = "  hf-paint convert laion/CLIP-ViT-B-32-laion2B-s34B-b79K clip-b32"
    command = add_command(commands, "convert", run, text, epilog)
    command.add_argument("source", metavar="SOURCE", help="an id on the Hub or a folder, with open_clip_config.json")
    command.add_argument("output", metavar="OUTPUT", help="the folder that is written")
    command.add_argument("--tokenizer", help="an id or a folder with CLIP's tokenizer (default: SOURCE)")
    command.add_argument("--revision", default="main", help="a branch, tag or commit of SOURCE (default: main)")
    command.add_argument("--overwrite", action="store_true", help="replace a model that is there")


def run(parsed: argparse.Namespace, rest: list[str]) -> None:
    """Run the command."""
    from hf_paint.models.open_clip import convert_open_clip

    options = {name: getattr(parsed, name) for name in ("tokenizer", "revision", "overwrite")}
    made = convert_open_clip(parsed.source, parsed.output, **options)
    compared = "not compared with open_clip's: open_clip_torch is not installed"
    if made.difference is not None:
        compared = f"those of open_clip, up to {made.difference:.0e}"
    sys.stdout.write(
        f"{made.folder}: a CLIPModel of {made.num_tensors} tensors in {made.dtype}, its tokenizer and processor\n"
        f"Embeddings: {compared}\n"
    )
