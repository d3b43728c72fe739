"""Make the pictures, the notebook and the measured numbers of the documentation again.

    python docs/figures/make.py                 # all of them: `make docs-figures`
    python docs/figures/make.py mnist rules     # some of them

Run from the root of the checkout. Pictures of real images need the reference data beside it (or HF_PAINT_SHARED); the
others need nothing. The first time takes half an hour on one core; finished runs in runs/ are reused. The report is
photographed by Chromium, which Playwright starts; CHROMIUM names its program if Playwright has not installed one.
"""

import os
import runpy
import shutil
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path

from matplotlib import pyplot

from hf_paint import PaintTrainingArguments, PatchOptions, PatchResult, patch_single


sys.path.insert(0, str(Path(__file__).parents[1]))
sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))
sys.path.insert(0, str(Path(__file__).parents[2] / "tests/acceptance"))
import build_gallery
import keeping
import measured


HERE = Path(__file__).parent
RUNS = Path("runs/figures")
WINDOW = {"width": 800, "height": 1000}
TRAINING = {"learning_rate": 3e-4, "warmup_steps": 0.1, "augmentation": "none", "use_cpu": True, "disable_tqdm": True}


def run(task: str, *, max_steps: int, batch_size: int, num_images: int | None = None) -> PatchResult:
    """Patch the small CLIP on a task of the reference data and keep CIFAR-10, or read the finished run."""
    steps = {"max_steps": max_steps, "per_device_train_batch_size": batch_size}
    kept, model = keeping.task("cifar10_train"), keeping.SHARED / "models/tiny-clip"
    args = PaintTrainingArguments(output_dir=str(RUNS / f"{task}-{max_steps}x{batch_size}"), **steps, **TRAINING)
    options = PatchOptions(max_eval_images=num_images, num_examples=0)
    return patch_single(model, keeping.task(task), [kept], args, options=options)


def mnist() -> None:
    """Keep the curves of a long run on MNIST."""
    result = run("mnist", max_steps=400, batch_size=64)
    shutil.copyfile(result.run_folder / "accuracy.png", HERE / "mnist.png")


def gtsrb() -> None:
    """Keep what happened to the classes of GTSRB in a short run."""
    result = run("gtsrb", max_steps=300, batch_size=32, num_images=1000)
    shutil.copyfile(result.run_folder / "per_class.png", HERE / "gtsrb.png")


def rules() -> None:
    """Draw what each rule sees on the curve of a short run on MNIST, and what it chooses."""
    curve = run("mnist", max_steps=120, batch_size=32, num_images=500).curve
    sides = {alpha: [100 * float(side) for side in curve.sides(alpha)] for alpha in curve.alphas}
    learned, kept = zip(*sides.values(), strict=True)
    both = [sum(side) / 2 for side in sides.values()]
    rows = [r for r in curve.results if r.split == "validation"]
    entropy = [[r.relative_entropy for r in rows if r.alpha == alpha] for alpha in curve.alphas]
    figure, (axes, below) = pyplot.subplots(2, figsize=(8, 5), height_ratios=[5, 2], sharex=True, layout="constrained")
    axes.plot(curve.alphas, learned, marker="o", color="C0", label="MNIST")
    axes.plot(curve.alphas, kept, marker="s", color="C1", label="CIFAR-10")
    axes.plot(curve.alphas, both, marker=".", color="grey", label="mean of both")
    axes.axhline(kept[0] - 1, color="C1", linestyle=":", label="CIFAR-10 before, less 1 point")
    below.plot(curve.alphas, [100 * sum(of_both) / len(of_both) for of_both in entropy], marker="o", color="C2")
    chosen = {"supported_within": ("C1", curve.select("supported_within")), "mean": ("grey", curve.select("mean"))}
    for rule, (colour, alpha) in (chosen | {"entropy": ("C2", curve.select("entropy"))}).items():
        for place in (axes, below):
            place.axvline(alpha, color=colour, linestyle="--", label=f"{rule}: alpha {alpha:g}")
    axes.set(ylabel="accuracy, % (validation)")
    below.set(ylabel="entropy, %", xlabel="alpha")
    axes.legend(bbox_to_anchor=(1, 1), loc="upper left", frameon=False)
    figure.savefig(HERE / "rules.png", dpi=110)


def report() -> None:
    """Photograph the top of the report of the quickstart."""
    folder = RUNS / "quickstart"
    subprocess.run([sys.executable, "-m", "hf_paint", "quickstart", "--output_dir", str(folder)], check=True)
    photograph(folder / "report.html", HERE / "report.png")


def photograph(page: Path, picture: Path) -> None:
    """Write what a browser shows at the top of a page."""
    from playwright.sync_api import sync_playwright

    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=os.environ.get("CHROMIUM"), args=["--no-sandbox"])
        window = browser.new_page(viewport=WINDOW, color_scheme="light")
        window.goto(page.resolve().as_uri())
        window.locator("output b").first.wait_for()
        window.screenshot(path=picture)
        browser.close()


def examples() -> None:
    """Run the examples and keep their pictures."""
    pyplot.switch_backend("agg")
    for name in build_gallery.ORDER:
        runpy.run_path(str(build_gallery.EXAMPLES / f"{name}.py"), run_name="__main__")
        pyplot.close("all")
        shutil.copyfile(Path("runs/examples", f"{name}.png"), build_gallery.EXAMPLES / f"{name}.png")


def notebook() -> None:
    """Run the notebook in an empty folder and keep its outputs, without the progress bars."""
    import nbformat
    from nbclient import NotebookClient

    path, folder = HERE.parent / "notebooks/quickstart.ipynb", RUNS / "notebook"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    book = nbformat.read(path, 4)
    NotebookClient(book, timeout=600, resources={"metadata": {"path": str(folder)}}).execute()
    for cell in book.cells:
        cell.metadata.pop("execution", None)
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    nbformat.write(book, path)


def cards() -> None:
    """Make the example model cards."""
    runpy.run_path("model_cards/make.py", run_name="__main__")


def numbers() -> None:
    """Write the page of measured numbers."""
    measured.PAGE.write_text(measured.page(), encoding="utf-8")


FIGURES: Mapping[str, Callable[[], None]] = {
    "numbers": numbers,
    "examples": examples,
    "notebook": notebook,
    "report": report,
    "rules": rules,
    "gtsrb": gtsrb,
    "mnist": mnist,
    "keeping": keeping.main,
    "cards": cards,
}
"""What can be made, from the quickest on."""


if __name__ == "__main__":
    for wanted in sys.argv[1:] or FIGURES:
        sys.stderr.write(f"{wanted}\n")
        FIGURES[wanted]()
