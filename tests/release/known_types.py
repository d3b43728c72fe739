"""`make types`: how many of the public names have types that a user's type checker knows, by pyright.

Public is every name that does not begin with an underscore, in every module. At least 98 % must be known. Packages
without types, such as datasets, are read as `Any`: what they leave unknown is not for hf_paint to say.
"""

import ast
import json
import os
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from pathlib import Path

import hf_paint


LEAST = 0.98
SOURCE = Path(hf_paint.__file__).parent
COMMAND = (sys.executable, "-m", "pyright", "--verifytypes", "hf_paint", "--ignoreexternal", "--outputjson")
ANY = "from typing import Any\n\ndef __getattr__(name: str) -> Any: ...\n"


def main() -> int:
    """Print the share, and each name whose type is not known; the exit code is 1 if they are too many."""
    with tempfile.TemporaryDirectory() as folder:
        for module in sorted(imported_modules()):
            package, *inner = module.split(".")
            if not has_types(package):
                stub = Path(folder, f"{package}-stubs", *inner, "__init__.pyi")
                stub.parent.mkdir(parents=True, exist_ok=True)
                stub.write_text(ANY)
        report = verify(folder)
    for symbol in report["symbols"]:
        if symbol["isExported"] and not (symbol["isTypeKnown"] and not symbol["isTypeAmbiguous"]):
            reasons = " ".join(item["message"].splitlines()[0] for item in symbol["diagnostics"])
            print(f"{symbol['name']}: {reasons}")
    counts, share = report["exportedSymbolCounts"], report["completenessScore"]
    print(f"{counts['withKnownType']} of {sum(counts.values())} public names have known types: {share:.2%}")
    return 0 if share >= LEAST else 1


def imported_modules() -> set[str]:
    """Return the modules of other packages that hf_paint imports."""
    found = set()
    for path in SOURCE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Import):
                found |= {alias.name for alias in node.names}
            elif isinstance(node, ast.ImportFrom) and node.module:
                found.add(node.module)
    return {name for name in found if name.split(".")[0] not in {"hf_paint", *sys.stdlib_module_names}}


def has_types(package: str) -> bool:
    """Return whether a package has types of its own or in a package of stubs; an absent one has none."""
    spec = find_spec(package)
    folders = [Path(folder) for folder in (spec and spec.submodule_search_locations) or ()]
    return any((folder / "py.typed").exists() or Path(f"{folder}-stubs").exists() for folder in folders)


def verify(stubs: str) -> dict:
    """Return what pyright reports."""
    # it looks for packages where the first `python` of the path does
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    places = os.pathsep.join([stubs, str(SOURCE.parent)])
    environment = {**os.environ, "PATH": path, "PYTHONPATH": places}
    done = subprocess.run(COMMAND, env=environment, capture_output=True, text=True)
    report = json.loads(done.stdout).get("typeCompleteness")
    if report is None:
        sys.exit(f"pyright read no types of hf_paint: {done.stdout}{done.stderr}")
    return report


if __name__ == "__main__":
    sys.exit(main())
