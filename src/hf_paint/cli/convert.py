"""`hf-paint convert`: convert an open_clip model to a CLIP repository."""

import argparse
import sys

from hf_paint.cli.parser import Commands, add_command


def add(commands: Commands) -> None:
    """Add the command to the parser."""
    text = "Convert an open_clip model to a CLIP repository for transformers and hf-paint."
    epilog = "  hf-paint convert laion/CLIP-ViT-B-32-laion2B-s34B-b79K clip-b32"
    command = add_command(commands, "convert", run, summary=text, example=epilog)
    command.add_argument("source", metavar="SOURCE", help="Hub repository id or folder with an open_clip_config.json")
    command.add_argument("output", metavar="OUTPUT", help="output folder")
    command.add_argument("--tokenizer", help="Hub repository id or folder of the CLIP tokenizer (default: SOURCE)")
    command.add_argument("--revision", default="main", help="branch, tag or commit of SOURCE (default: main)")
    command.add_argument("--overwrite", action="store_true", help="replace an existing model")


def run(parsed: argparse.Namespace, rest: list[str]) -> None:
    """Run the command."""
    from hf_paint.models.open_clip import convert_open_clip

    options = {name: getattr(parsed, name) for name in ("tokenizer", "revision", "overwrite")}
    conversion = convert_open_clip(parsed.source, parsed.output, **options)
    embeddings = "not compared with open_clip, because open_clip_torch is not installed"
    if conversion.difference is not None:
        embeddings = f"match open_clip to within {conversion.difference:.0e}"
    sys.stdout.write(
        f"{conversion.folder}: a CLIPModel with {conversion.num_tensors} tensors in {conversion.dtype}, its tokenizer "
        f"and its processor\nEmbeddings: {embeddings}\n"
    )
