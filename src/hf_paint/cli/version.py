"""`hf-paint --version`: the versions that a bug report needs, read from the metadata of packages."""

import argparse
import platform
import sys
from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version

from hf_paint import __version__


PACKAGES = ("torch", "transformers", "datasets", "accelerate", "huggingface_hub", "peft")


class Version(argparse.Action):
    """Flag that prints versions and exits."""

    def __init__(self, option_strings: Sequence[str], dest: str, help: str | None = None) -> None:
        super().__init__(option_strings, dest, nargs=0, help=help)

    def __call__(self, parser: argparse.ArgumentParser, *ignored: object) -> None:
        """Print one package per line."""
        versions = {"hf-paint": __version__, "python": platform.python_version()}
        versions |= {name: _version(name) for name in PACKAGES}
        sys.stdout.write("".join(f"{name} {text}\n" for name, text in versions.items()))
        parser.exit()


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"
