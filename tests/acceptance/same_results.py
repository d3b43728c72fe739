"""Show that a refactoring changed no numbers, by running the same jobs on two trees and comparing their output.

    python tests/acceptance/same_results.py BEFORE [AFTER] [--folder FOLDER]

BEFORE and AFTER are commits or source folders; AFTER defaults to the working tree. `same_results.yaml` lists the runs
and commands, which use only the command line, on tiny models and drawn images shared by both trees. The comparison
covers records, the bytes of all weights, the selections, the other numbers of each run, and the weights on every
branch of a push. Paths, times, plots and card texts are not numbers and are not compared. If a record names a file,
the file's contents are compared instead of its name. The quickstart draws its own images, and data fingerprints depend
on file paths and times, so there the files are compared instead.
"""

import argparse
import hashlib
import json
import os
import re
import runpy
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any

import yaml


HERE = Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PLAN: dict[str, dict[str, Any]] = yaml.safe_load(Path(HERE, "same_results.yaml").read_text())
COLOURS = {"red": (200, 60, 60), "green": (60, 200, 60), "blue": (60, 60, 200), "grey": (130, 130, 130)}
INHERITED = ("HF_", "PYTHON", "ACCELERATE_", "TRANSFORMERS_", "OMP_", "MKL_", "XDG_", "MPL")
"""What variables of the environment begin with that no run is to see."""
VALUES = re.compile(r"(selection|scores|robustness|comparison|extraction|branches|printed)\.json")
KINDS = ("records", "weights", "values")
NO_NUMBERS = re.compile(r"'train_(runtime|\w+_per_second)': '\S+'|127\.0\.0\.1:\d+")
"""What commands print that differs from run to run: times, and where the Hub is."""


def main() -> int:
    """Run both trees and print what is equal; the exit code is 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("before", help="a commit, or a folder with a tree")
    parser.add_argument("after", nargs="?", default=str(ROOT), help="the same (default: the working tree)")
    parser.add_argument("--folder", help="an empty folder in which all that is made is kept")
    arguments = parser.parse_args()
    os.environ.update(dict.fromkeys(("HF_HUB_DISABLE_PROGRESS_BARS", "HF_DATASETS_DISABLE_PROGRESS_BARS"), "1"))
    os.environ["TRANSFORMERS_VERBOSITY"] = "error"
    with tempfile.TemporaryDirectory(prefix="same-results-") as temporary:
        folder = Path(arguments.folder or temporary).resolve()
        sides = {folder / "before": arguments.before, folder / "after": arguments.after}
        trees = [check_out(tree, side / "tree") for side, tree in sides.items()]
        make_shared(folder / "shared")
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(run_tree, trees, sides))
        return 0 if report(*sides) else 1


def check_out(tree: str, folder: Path) -> Path:
    """Return a tree's folder, unpacking it first if it is a commit."""
    folder.mkdir(parents=True)
    if Path(tree).is_dir():
        return Path(tree).resolve()
    archive = subprocess.run(["git", "-C", str(ROOT), "archive", tree], stdout=subprocess.PIPE, check=True).stdout
    subprocess.run(["tar", "-x", "-C", str(folder)], input=archive, check=True)
    return folder


def make_shared(folder: Path) -> None:
    """Write the models and tasks that both trees use."""
    import torch
    from transformers import CLIPConfig, CLIPImageProcessorPil, CLIPModel, CLIPProcessor, CLIPTokenizer

    sys.path.insert(0, str(next(ROOT.glob("tests/**/tiny_families.py")).parent))
    import tiny_families

    pieces = ["<|startoftext|>", "<|endoftext|>", *(x + end for end in ("", "</w>") for x in tiny_families.LETTERS)]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}  # a trained one is another in each process
    tokenizer = CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=32)
    images = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
    tokens = {name: getattr(tokenizer, name) for name in ("bos_token_id", "eos_token_id", "pad_token_id")}
    text = tiny_families.TEXT | tokens | {"vocab_size": len(tokenizer), "max_position_embeddings": 32}
    torch.manual_seed(0)
    config = CLIPConfig(text_config=text, vision_config=tiny_families.VISION, projection_dim=24)
    clip = CLIPModel(config), CLIPProcessor(image_processor=images, tokenizer=tokenizer)
    for name, parts in {"clip": clip, "siglip": tiny_families.make("siglip")}.items():
        for part in parts:
            part.save_pretrained(folder / name)
    for seed, (name, keys) in enumerate(PLAN["tasks"].items()):
        write_task(folder, name, keys, seed)


def write_task(folder: Path, name: str, keys: dict[str, Any], seed: int) -> None:
    """Draw noisy images coloured by class, and write them with their task's YAML."""
    import numpy as np
    from datasets import ClassLabel, Dataset, Features, Image, List, Value
    from PIL import Image as PILImage

    keys = {"dataset": "parquet", "templates": ["a photo of a {}."], "class_names": [*COLOURS]} | keys
    names, text, files = keys["class_names"] or [*COLOURS], Value("string"), {}
    columns = {"question": text, "answer": text, "choices": List(text), "kind": text}
    for split, count in (("train", 120), ("test", 60)):
        random, rows = np.random.default_rng((seed, count)), []
        for label in random.integers(len(names), size=count).tolist():
            noise = random.normal(scale=80, size=3) + random.integers(-60, 60, size=(36, 40, 3))
            pixels = np.clip(np.array([*COLOURS.values()])[label] + noise, 0, 255).astype(np.uint8)
            row = {"image": PILImage.fromarray(pixels), "label": label, "answer": names[label]}
            choices = sorted({names[label], *names[label - 2 :]})  # two to four of them
            rows.append(row | {"question": "which colour?", "choices": choices, "kind": f"kind-{label % 2}"})
        files[split] = f"{name}-{split}.parquet"
        features = Features({"image": Image(), "label": ClassLabel(names=names)} | columns)
        Dataset.from_list(rows, features=features).to_parquet(folder / files[split])
    Path(folder, f"{name}.yaml").write_text(yaml.safe_dump({"name": name, "data_files": files} | keys))


def run_tree(tree: Path, folder: Path) -> None:
    """Run everything on one tree, offline on one thread, with a separate home and caches."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith(INHERITED)}
    environment |= dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "HF_HUB_OFFLINE"), "1")
    environment |= {"CUDA_VISIBLE_DEVICES": "", "TOKENIZERS_PARALLELISM": "false", "PYTHONHASHSEED": "0"}
    homes = {"HOME": "home", "HF_HOME": "hf", "HF_PAINT_CACHE": "cache", "PYTHONPYCACHEPREFIX": "pycache"}
    environment |= {name: str(folder / home) for name, home in homes.items()}
    environment["PYTHONPATH"] = f"{tree / 'src'}{os.pathsep}{HERE}"
    for step in ("run_all", "push_all"):  # the Hub client reads its address once per process
        command = [sys.executable, "-c", f"import same_results; same_results.{step}({str(tree)!r})"]
        with Path(folder, f"{step}.log").open("w") as log:
            done = subprocess.run(command, cwd=folder, env=environment, stdout=log, stderr=log, check=False)
        if done.returncode:
            print(f"{folder.name}: {step} ends with\n{Path(folder, f'{step}.log').read_text()[-2000:]}")


def run_all(tree: str) -> None:
    """Execute all runs and commands in the working directory, which is the tree's output folder."""
    import hf_paint

    if not Path(hf_paint.__file__).is_relative_to(tree):
        raise RuntimeError(f"{hf_paint.__file__} is not of the tree {tree}")
    for name, keys in PLAN["runs"].items():
        Path(f"{name}.yaml").write_text(yaml.safe_dump(PLAN["base"] | keys | {"output_dir": f"runs/{name}"}))
        hf_paint_command(name, "patch", "--config", f"{name}.yaml")
    for name, command in PLAN["commands"].items():
        hf_paint_command(name, *command.split())


def push_all(tree: str) -> None:
    """Push runs to the local Hub from the tree's own tests, and download the weights from every branch."""
    sys.path[:0] = [str(next(Path(tree).glob("tests/**/hub_server.py")).parent), str(Path(tree, "tests"))]
    from hub_server import HubServer

    with HubServer(Path("hub")) as server:
        os.environ.update(server.environment())
        from huggingface_hub import HfApi, snapshot_download

        for name, words in PLAN["pushes"].items():
            repo_id, folder = f"tester/{name}", Path("runs", name)
            hf_paint_command(name, "push", *words.split(), "--repo_id", repo_id, "--base_model_id", "owner/base")
            branches = sorted(branch.name for branch in HfApi().list_repo_refs(repo_id).branches)
            Path(folder, "branches.json").write_text(json.dumps(branches))
            for branch in branches:
                snapshot_download(repo_id, revision=branch, local_dir=folder / branch, allow_patterns="*.safetensors")


def hf_paint_command(name: str, *words: str) -> None:
    """Run `hf-paint` in this process; record its exit code and the numbers it prints."""
    sys.argv, code = ["hf-paint", *words], None
    print(" ".join(sys.argv), file=sys.stderr, flush=True)
    with Path(f"{name}.txt").open("w") as output, redirect_stdout(output):
        try:
            runpy.run_module("hf_paint.cli", run_name="__main__")
        except SystemExit as end:
            code = end.code
    lines = NO_NUMBERS.sub("", Path(f"{name}.txt").read_text()).splitlines()
    printed = Path("runs", name, "printed.json")
    printed.parent.mkdir(parents=True, exist_ok=True)
    printed.write_text(json.dumps({"exit_code": code, "numbers": [line for line in lines if re.search(r"\d", line)]}))


def report(before: Path, after: Path) -> bool:
    """Print a table of what is equal, and the differences; return whether there are none."""
    differences = []
    print(f"| run | {' | '.join(f'{kind} equal' for kind in KINDS)} | sha256 of all weights, after |")
    print("| --- | ---: | ---: | ---: | --- |")
    for run in (*PLAN["runs"], *PLAN["commands"], *PLAN["pushes"]):
        cells, sides = [], [collect(side / "runs" / run) for side in (before, after)]
        for kind in KINDS:
            old, new = (side[kind] for side in sides)
            cells.append(f"{(old & new).total()} of {max(old.total(), new.total())}")
            for sign, lines in (("-", old - new), ("+", new - old)):
                differences += [f"{sign} {run}: {line}" for line in sorted(lines.elements())]
        weights = "\n".join(sorted(sides[1]["weights"].elements())).encode()
        print(f"| {run} | {' | '.join(cells)} | {hashlib.sha256(weights).hexdigest()[:16] if weights else '-'} |")
        if any("printed.json exit_code: 0" not in side["values"] for side in sides):
            differences.append(f"! {run}: failed")
    for name, run in PLAN["pushes"].items():
        if "--form" in run:
            continue
        main, patched = f"runs/{name}/main/model.safetensors", f"{run}/patched/model.safetensors"
        same = [sha256(side / main) == sha256(side / patched) != "missing" for side in (before, after)]
        print(f"{name}: main holds the weights of patched/ (before: {same[0]}, after: {same[1]})")
        differences += [] if same[1] else [f"! {name}: main does not hold the weights of patched/"]
    print("\n".join(["", "- before, + after", *differences]) if differences else "\nno difference")
    return not differences


def collect(run: Path) -> dict[str, Counter[str]]:
    """Return a run's output as one line for each record, weight file and other number."""
    found: dict[str, Counter[str]] = {kind: Counter() for kind in KINDS}
    for path in sorted(run.rglob("*")):
        name = path.relative_to(run).as_posix()
        if path.suffix == ".jsonl":
            found["records"].update(f"{name} {numbers(line, path.parent)}" for line in path.read_text().splitlines())
        elif path.suffix in (".safetensors", ".parquet"):
            found["weights"][f"{name} {sha256(path)}"] += 1
        elif VALUES.fullmatch(path.name):
            content = path.read_text().replace(str(run.parents[1]), "")
            found["values"].update(f"{name} {line}" for line in leaves(json.loads(content)))
    return found


def numbers(line: str, folder: Path) -> str:
    """Return a record with file contents instead of file names, and without fingerprints of files that a run wrote."""
    record = json.loads(line)
    if record.get("examples"):
        record["examples"] = sha256(folder / record["examples"])
    if Path(folder, "data").is_dir():
        record = {key: value for key, value in record.items() if key not in ("data", "rows")}
    return json.dumps(record, sort_keys=True)


def leaves(value: Any, where: str = "") -> Iterator[str]:
    """Yield each value in a JSON file with its location."""
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else enumerate(value):
            yield from leaves(inner, f"{where}.{key}" if where else str(key))
    else:
        yield f"{where}: {value!r}"


def sha256(path: Path) -> str:
    """Return a file's fingerprint, or a note that the file is missing."""
    return hashlib.sha256(path.read_bytes()).hexdigest() if path.is_file() else "missing"


if __name__ == "__main__":
    sys.exit(main())
