"""The parsers of the library, each with valid documents to start from."""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import yaml
from safetensors.torch import save_file

from hf_paint.adapters.lora_files import base_fingerprint_of, read_adapter_config
from hf_paint.adapters.patch_config import read_patch_config
from hf_paint.cli.recipe_keys import read_keys
from hf_paint.cli.run_recipe import _from_yaml
from hf_paint.cli.select import _alpha
from hf_paint.hub.pull import load_curve
from hf_paint.merging.registry import read_method
from hf_paint.models.classifier import HEAD, HEAD_CONFIG, HEAD_WEIGHT, ClassificationHead
from hf_paint.models.task_file import read_tasks
from hf_paint.repositories import fetch, split_revision
from hf_paint.results.alphas import canonical_alpha
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.curve_metadata import curve_to_metadata
from hf_paint.results.details_log import RunDetails
from hf_paint.results.identity import Identity
from hf_paint.results.pictures import read_pictures
from hf_paint.results.result_log import ResultLog
from hf_paint.results.robustness_table import RobustnessTable, read_baseline
from hf_paint.results.run_folder import RunFolder
from hf_paint.results.stored import read_named_tasks
from hf_paint.tasks.registry import get_task, get_tasks
from hf_paint.weights.changes import StoredChanges, WeightChanges
from hf_paint.weights.headers import read_checkpoint
from run_folders import CHOSEN, write_run


@dataclass(frozen=True)
class Parser:
    """A parser, valid documents for it, and, if it reads a file, where the document is written."""

    parse: Callable[[bytes], object]
    seeds: Sequence[bytes]


TASK = """name: odd
dataset: csv
data_files: {train: a.csv, test: [b.csv, c.csv]}
class_names: [no, 007, 2020-01-01]
class_groups: {a: [no], b: ["007"]}
label_names: null
templates: ["a photo of a {}."]
splits: {train: train, validation: auto, test: test}
where: {kind: 3}
class_split: {seed: 0, part: 1}
corruption: {name: noise, severity: 3, seed: 1}
"""
RECIPE = """model: openai/clip
strategy: single
patching_tasks: [mnist, {extends: cifar10, name: part, class_subset: [cat, 0]}]
supported_tasks: [cifar10]
alphas: [0, 0.5, 1.0]
selection: supported_within
tolerance: 0.01
method: {ties: {density: 0.2}}
thetas: {mnist: some/model}
learning_rate: 1.0e-5
max_steps: 10
report_to: [tensorboard]
output_dir: runs/x
"""
ORDERS = {
    "split": "test",
    "orders": ["mnist 0.30"],
    "tasks": [{"task": "a", "role": "patching", "zero_shot": 0.5, "mean": 0.7, "std": None}],
}
ROW = {"alpha": {"a": 0.5}, "reference": 0.5, "shift": 0.4, "relative": 0.1, "relative_interval": [0, 0.2]}
ROBUSTNESS = {
    "weights": {
        **{"rows": [ROW], "reference_tasks": ["a"], "reference_split": "test", "shift_tasks": ["b"]},
        "baseline": {"slope": 1.0, "intercept": 0.0},
    },
    "ensemble": None,
}
TENSORS = {
    "vision_model.a": {"dtype": "F32", "shape": [2, 2], "data_offsets": [0, 16]},
    "__metadata__": {"format": "pt"},
}


def parsers(folder: Path) -> dict[str, Parser]:
    """Return name -> parser; `folder` is empty, and holds the documents while they are read."""
    write_run(folder / "run", tasks=2, alphas=(0.0, 1.0), images=20, pictures=2)
    return {
        **_texts(),
        **_yaml_files(folder),
        **_lines(folder / "run"),
        **_run_files(folder / "run"),
        **_model_files(folder / "model"),
    }


def _texts() -> dict[str, Parser]:
    def of(parse: Callable[[str], object], *seeds: str) -> Parser:
        return Parser(lambda content: parse(content.decode("utf-8", "surrogateescape")), [x.encode() for x in seeds])

    def method(text: str) -> object:
        return read_method(_from_yaml("method", text))

    return {
        "inline task": of(
            lambda text: get_tasks([text]), "{name: a, dataset: csv, templates: ['{}'], class_names: [b]}", "mnist"
        ),
        "alpha of select": of(_alpha, "0.3", "{mnist: 0.3, 007: 1}"),
        "alpha": of(canonical_alpha, "0.5", "1e-7"),
        "baseline": of(lambda text: read_baseline([text]), "[0.6, 0.4]"),
        "method": of(method, "ties", "{ties: {density: 0.2}}", "{lines: {}}"),
        "reference": of(split_revision, "me/clip@main", "a/b@alpha-0.30"),
        "repository": of(lambda text: fetch(text, "README.md"), "me/clip", "../x", "a//b"),
    }


def _file(path: Path, read: Callable[[], object], *seeds: bytes) -> Parser:
    def parse(content: bytes) -> object:
        path.write_bytes(content)
        return read()

    path.parent.mkdir(parents=True, exist_ok=True)
    return Parser(parse, seeds)


def _yaml_files(folder: Path) -> dict[str, Parser]:
    task, recipe, card = folder / "task.yaml", folder / "recipe.yaml", folder / "card" / "README.md"
    curve = curve_to_metadata(AlphaCurve.from_run(folder / "run"))
    written = yaml.safe_dump({"license": "mit", "hf_paint": {"curve": curve, "selected_alpha": 1.0}})
    return {
        "task": _file(task, lambda: get_task(task), TASK.encode()),
        "recipe": _file(recipe, lambda: read_keys(str(recipe), []), RECIPE.encode()),
        "card": _file(card, lambda: load_curve(card.parent), f"---\n{written}---\n\n# A\n".encode()),
    }


def _lines(run: Path) -> dict[str, Parser]:
    results, details = run / "results.jsonl", run / "details.jsonl"
    whole = AlphaCurve.from_run(run)

    def read_details() -> None:
        for found in [RunDetails.of_run(run)]:
            for result in whole.results:
                found.of(result)

    def read_curve() -> None:
        curve = AlphaCurve.from_run(run)
        curve.select("mean")
        curve.to_markdown()

    return {
        "results": _file(results, read_curve, b"".join(results.read_bytes().splitlines(keepends=True)[:4])),
        "results, resumed": _file(results, lambda: ResultLog(run, write=False, mend=True), results.read_bytes()),
        "details": _file(details, read_details, details.read_bytes()),
    }


def _run_files(run: Path) -> dict[str, Parser]:
    files = RunFolder(run)

    def robustness() -> None:
        for table in (files.load_robustness() or {}).values():
            if table:
                RobustnessTable.from_dict(table).to_markdown()

    def changes() -> None:
        from hf_paint.documents.shapes import read_shaped

        stored = read_shaped(files.changes, StoredChanges)
        if stored is not None:
            WeightChanges.from_dict(stored)

    def of(path: Path, read: Callable[[], object], value: object = None) -> Parser:
        seed = path.read_bytes() if value is None else json.dumps(value).encode()
        return _file(path, read, seed)

    identity = {"num_processes": 1, "content": {"model": "abc"}}
    return {
        "selection.json": of(
            files.selection, files.load_selection, CHOSEN | {"history": [], "gains": [{"gain": 0.1}]}
        ),
        "card.json": of(files.card_facts, files.load_card_facts),
        "precision.json": of(files.precision, files.load_precision, {"precision": "fp32"}),
        "onednn.json": of(files.onednn, files.load_onednn, {"onednn": True}),
        "orders.json": of(files.orders, files.load_orders, ORDERS),
        "identity.json": of(files.identity, lambda: Identity.load(files), identity),
        "robustness.json": of(files.robustness, robustness, ROBUSTNESS),
        "changes.json": of(files.changes, changes),
        "examples.json": of(files.examples / "examples.json", lambda: read_pictures(run)),
        "tasks.json of a run": of(files.tasks, lambda: read_named_tasks(files.tasks)),
        "tasks.json": of(files.tasks, lambda: read_tasks(run)),
    }


def _model_files(model: Path) -> dict[str, Parser]:
    header = json.dumps(TENSORS).encode()
    weights = len(header).to_bytes(8, "little") + header + bytes(16)
    shard = model / "sharded" / "model.safetensors.index.json"
    index = {"metadata": {"total_size": 16}, "weight_map": {"vision_model.a": "model-00001-of-00001.safetensors"}}
    adapter = {
        "peft_type": "LORA",
        "r": 4,
        "lora_alpha": 8,
        "target_modules": ["q_proj"],
        "base_model_name_or_path": "a/b",
    }
    patch = {
        "base_fingerprint": "abc",
        "base_model_id": "a/b",
        "alpha": 0.5,
        "dtype": "float32",
        "patching_tasks": ["a"],
    }
    head = {"task": "a", "class_names": ["a", "b"], "templates": ["{}"]}
    one = model / "one" / "model.safetensors"
    lora = model / "lora"
    parsers = {
        "header": _file(one, lambda: read_checkpoint(one.parent), weights),
        "shard index": _file(shard, lambda: read_checkpoint(shard.parent), json.dumps(index).encode()),
        "adapter config": _file(
            lora / "adapter_config.json", lambda: read_adapter_config(lora), json.dumps(adapter).encode()
        ),
        "adapter header": _file(lora / "adapter_model.safetensors", lambda: base_fingerprint_of(lora), weights),
        "patch config": _file(
            model / "patch" / "patch_config.json",
            lambda: read_patch_config(model / "patch"),
            json.dumps(patch).encode(),
        ),
        "head config": _file(
            model / "head" / HEAD_CONFIG, lambda: ClassificationHead.load(model / "head"), json.dumps(head).encode()
        ),
    }
    (shard.parent / "model-00001-of-00001.safetensors").write_bytes(weights)
    save_file({HEAD_WEIGHT: torch.zeros(2, 4)}, model / "head" / HEAD)
    return parsers
