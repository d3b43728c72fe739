"""Patch the toy CLIP on scikit-learn's digits: a run of the GPU check, in a process of its own.

    python tests/benchmarks/gpu_patch.py DATA RUN [key=value ...]

Keys are training fields, `precision` and `alphas`, the number of steps on the line.
"""

import json
import os
import sys
from pathlib import Path
from typing import Any

import torch


def main() -> None:
    """Patch as the command line says."""
    data, folder, *keys = sys.argv[1:]
    patch(data, folder, {name: json.loads(value) for name, value in (key.split("=", 1) for key in keys)})


def patch(data: str, folder: str, values: dict[str, Any]) -> None:
    """Patch and write the selected alpha and every accuracy to `found.json` in the folder."""
    from hf_paint import PaintTrainingArguments, PatchOptions, get_task, patch_single
    from hf_paint.cli.run_quickstart import TOY

    fields = dict(values)
    precision, steps = fields.pop("precision", "fp32"), fields.pop("alphas", 10)
    tasks = [get_task(str(Path(data) / f"{name}.yaml")) for name in ("digits", "shapes")]
    defaults = {"learning_rate": 3e-4, "max_steps": 60, "warmup_steps": 10, "per_device_train_batch_size": 64}
    defaults |= {"save_steps": 20, "report_to": "none", "disable_tqdm": True, "logging_steps": 10}
    args = PaintTrainingArguments(output_dir=folder, **(defaults | fields))
    result = patch_single(
        str(TOY),
        tasks[0],
        [tasks[1]],
        args,
        alphas=[i / steps for i in range(steps + 1)],
        selection="mean",
        options=PatchOptions(precision=precision),
    )
    correct = {f"{r.task} {r.split} {r.alpha:.1f}": [r.correct, r.total] for r in result.curve.results}
    memory = torch.cuda.max_memory_allocated() if torch.cuda.is_available() else 0
    if os.environ.get("RANK", "0") == "0":
        found = {"alpha": result.alpha, "correct": correct, "device": str(args.device), "memory": memory}
        (Path(folder) / "found.json").write_text(json.dumps(found))


if __name__ == "__main__":
    main()
