"""Make the pictures in the README from a run: MNIST patched into a small CLIP, with CIFAR-10 supported.

    python docs/figures/make.py              # the plot of the accuracies
    python docs/figures/make.py RUN_FOLDER   # the top of the report of a finished run, drawn again

Run from the root of the checkout, beside the reference data. It takes ten minutes on one core; a finished run is
reused. Alpha is chosen by the default rule. The report is photographed by Chromium, which Playwright starts; CHROMIUM
names its program if Playwright has not installed one.
"""

import os
import sys
from pathlib import Path

from hf_paint import PaintTrainingArguments, PatchResult, patch_single, write_report


MODEL = "../shared/models/tiny-clip"
TASKS = Path("tests/acceptance/tasks")
PICTURE = Path(__file__).with_name("mnist.png")
REPORT = Path(__file__).with_name("report.png")
WINDOW = {"width": 800, "height": 1000}


def run() -> PatchResult:
    """Patch the model, or read the finished run."""
    args = PaintTrainingArguments(
        output_dir="runs/figures/mnist",
        learning_rate=3e-4,
        max_steps=400,
        warmup_steps=0.1,
        per_device_train_batch_size=64,
        augmentation="none",
        use_cpu=True,
    )
    return patch_single(MODEL, TASKS / "mnist.yaml", [TASKS / "cifar10_train.yaml"], args)


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


if __name__ == "__main__" and len(sys.argv) > 1:
    photograph(write_report(sys.argv[1]), REPORT)
elif __name__ == "__main__":
    PICTURE.write_bytes((run().run_folder / "accuracy.png").read_bytes())
