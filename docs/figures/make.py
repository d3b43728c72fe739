"""Make the picture in the README from a run: MNIST patched into a small CLIP, with CIFAR-10 supported.

    python docs/figures/make.py

Run from the root of the checkout, beside the reference data. It takes ten minutes on one core; a finished run is
reused. Alpha is chosen by the default rule.
"""

from pathlib import Path

from hf_paint import PaintTrainingArguments, PatchResult, patch_single


MODEL = "../shared/models/tiny-clip"
TASKS = Path("tests/acceptance/tasks")
PICTURE = Path(__file__).with_name("mnist.png")


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


if __name__ == "__main__":
    PICTURE.write_bytes((run().run_folder / "accuracy.png").read_bytes())
