"""Make the example cards again; `make docs-figures` does it, too.

    python model_cards/make.py              # the runs, their records and the cards
    python model_cards/make.py --render     # only the cards, from the records that are here

Run from the root of the checkout; the runs take a few minutes. Each folder holds the card of one kind of run as
`README.md`, and what it is rendered from: the recipe, the choice and the records, and which images are right before
patching and at the chosen alpha.
"""

import shutil
import sys
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

import yaml
from datasets import Dataset, DatasetDict, Features, Image, List, Value

from hf_paint import PatchResult, SceneStyle, Task, draw_scene, get_task, write_report
from hf_paint.files import write_text
from hf_paint.hub.card_source import CardSource
from hf_paint.hub.model_card import render_model_card
from hf_paint.results.alphas import alpha_from_json
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.run_folder import RunFolder
from hf_paint.results.tables import markdown


HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent / "docs/examples"))
REPORT = "../report.html"
BASE = "hf-paint/toy-clip"
"""The id under which a push would name the base."""
KEPT = ("selection.json", "card.json", "methods.jsonl", "tasks.json", "accuracy.png")
ALPHAS = [0, 0.2, 0.4, 0.6, 0.8, 1]
INTRODUCTION = """\
# Model cards

The card that a run writes, for each kind of run. All are of the toy CLIP of the package, patched for 120 steps: they
show what a card says, and their numbers say nothing about a real CLIP. `python model_cards/make.py` makes the runs and
the cards again. [One report](report.html) shows all runs beside each other; a pushed run has its own beside its card.

"""
OBJECTS = ("circle", "square", "triangle", "star")
"""Classes of the multi-label task."""


def scenes() -> Task:
    """Scenes of one to three objects; their classes are all shapes that can be seen."""
    style = SceneStyle(image_size=32, radius=(0.15, 0.2), shapes=OBJECTS, colours=("green",))
    features = Features({"image": Image(), "objects": List(Value("string"))})
    splits = {}
    for seed, (split, number) in enumerate({"train": 800, "validation": 200, "test": 200}.items()):
        drawn = [draw_scene(1 + row % 3, (seed, row), style) for row in range(number)]
        rows = [{"image": one.image, "objects": sorted({thing.shape for thing in one.objects})} for one in drawn]
        splits[split] = Dataset.from_list(rows, features=features)
    keys = {"name": "scenes", "label_column": "objects", "multi_label": True, "class_names": list(OBJECTS)}
    return get_task(keys | {"dataset": DatasetDict(splits), "templates": ["a photo of a green {}."]})


def runs() -> Mapping[str, tuple[str, Callable[[], PatchResult]]]:
    """Return kind -> what it is, and the call that patches or reads the finished run."""
    from toy import counting, digits, one_shape, patched

    def several(name: str, strategy: str, **options: object) -> PatchResult:
        return patched([digits(), counting()], f"card-{name}", strategy=strategy, alphas=ALPHAS, **options)

    attacked = one_shape("attacked", attack={"image_size": 64, "font_sizes": [40, 60]})
    lora = {"use_peft": True, "lora_r": 8, "lora_alpha": 16, "learning_rate": 3e-3}
    return {
        "single": ("one task", lambda: patched(digits(), "digits")),
        "joint": ("several tasks, fine-tuned together", lambda: several("joint", "joint")),
        "sequential": ("several tasks, one after the other", lambda: several("sequential", "sequential")),
        "parallel": (
            "several tasks, each fine-tuned alone",
            lambda: several("parallel", "parallel", search_budget=12),
        ),
        "merge": (
            "several tasks, each fine-tuned alone and merged by TSV-M",
            lambda: several("merge", "parallel", method="tsv"),
        ),
        "lora": ("a LoRA adapter", lambda: patched(digits(), "lora", **lora)),
        "delta": ("a patch: the difference alone", lambda: patched(digits(), "digits")),
        "typographic": ("an attack", lambda: patched(attacked, "typographic", keep=[one_shape("clean")])),
        "trained_head": ("a classification head, trained too", lambda: patched(digits(), "head", train_head=True)),
        "multi_label": (
            "several classes per image; no alpha was good enough, so nothing was patched",
            lambda: patched(scenes(), "scenes"),
        ),
    }


def card(folder: Path) -> str:
    """Return the card of a kind, from the records in its folder."""
    source = CardSource.from_run(RunFolder(folder), base_model_id=BASE)
    delta = source.fingerprint(source.selected) if folder.name == "delta" else None
    return render_model_card(source, repo_id=f"me/clip-{folder.name}", delta=delta, report=REPORT)


def keep(run: Path, folder: Path) -> None:
    """Copy what a card is rendered from."""
    shutil.rmtree(folder, ignore_errors=True)
    (folder / "correct").mkdir(parents=True)
    for name in KEPT:
        if (run / name).exists():
            shutil.copyfile(run / name, folder / name)
    recipe = RunFolder(run).load_recipe() | {"model": BASE, "output_dir": f"runs/{folder.name}"}
    recipe |= {"thetas": {task: f"runs/{task}" for task in recipe["thetas"]}} if "thetas" in recipe else {}
    write_text(folder / "recipe.yaml", yaml.safe_dump(recipe, sort_keys=False))
    chosen = alpha_from_json((RunFolder(run).load_selection() or {})["alpha"])
    kept = []
    for result in AlphaCurve.from_run(run).results:
        if result.correct_file and result.alpha in (0.0, chosen):
            shutil.copyfile(run / result.correct_file, folder / result.correct_file)
        kept.append(result if result.alpha in (0.0, chosen) else replace(result, correct_file=None))
    write_text(folder / "results.jsonl", "".join(f"{result.to_json()}\n" for result in kept))


def main(*, render: bool) -> None:
    """Make the runs unless only the cards are wanted, and render the cards, their index and the report."""
    kinds = runs()
    if not render:
        found = {name: call().run_folder for name, (_, call) in kinds.items()}
        for name, folder in found.items():
            keep(folder, HERE / name)
        write_report(list(dict.fromkeys(found.values())), HERE / "report.html")
    for name in kinds:
        write_text(HERE / name / "README.md", card(HERE / name))
    rows = [
        ["card", "of"],
        *([f"[{name.replace('_', ' ')}]({name}/README.md)", what] for name, (what, _) in kinds.items()),
    ]
    write_text(HERE / "README.md", f"{INTRODUCTION}{markdown(rows, text_columns=2)}\n")


if __name__ == "__main__":
    main(render="--render" in sys.argv)
