"""Make the picture in the README from a run: MNIST patched into a small CLIP, with CIFAR-10 supported.

    python docs/figures/make.py

Run from the root of the checkout, beside the reference data. It takes ten minutes on one core; a finished run is
reused. Alpha is chosen by the default rule.
"""

from pathlib import Path

from hf_paint import PaintTrainingArguments, PatchResult, patch_single
from hf_paint.results.alphas import format_alpha, total
from hf_paint.results.plots import new_figure


MODEL = "../shared/models/tiny-clip"
TASKS = Path("tests/acceptance/tasks")
STEPS = 400
PICTURE = Path(__file__).with_name("mnist.png")


def run() -> PatchResult:
    """Patch the model, or read the finished run."""
    args = PaintTrainingArguments(
        output_dir="runs/figures/mnist",
        learning_rate=3e-4,
        max_steps=STEPS,
        warmup_steps=0.1,
        per_device_train_batch_size=64,
        augmentation="none",
        use_cpu=True,
    )
    return patch_single(MODEL, TASKS / "mnist.yaml", [TASKS / "cifar10_train.yaml"], args)


def draw(result: PatchResult, path: Path) -> None:
    """Draw the test accuracy on both tasks against alpha, with the chosen alpha."""
    curve, chosen = result.curve, total(result.alpha)
    figure, axes = new_figure((7, 3.6))
    for role, colour in (("patching", "tab:blue"), ("supported", "tab:orange")):
        [task] = curve.tasks[role]
        accuracies = [100 * float(curve.mean_accuracy(alpha, role, "test")) for alpha in curve.alphas]
        kind = "the task to learn" if role == "patching" else "a task to keep"
        axes.plot([total(a) for a in curve.alphas], accuracies, color=colour, marker=".", label=f"{task}: {kind}")
    axes.axvline(chosen, color="black", linestyle="--", linewidth=1, label=f"chosen: alpha {format_alpha(chosen)}")
    axes.set_xlabel("alpha: 0 is the original model, 1 the fine-tuned one")
    axes.set_ylabel("test accuracy, %")
    axes.set_title(f"A CLIP of 3.2 million parameters, fine-tuned on MNIST for {STEPS} steps", fontsize=10)
    axes.legend(frameon=False)
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    draw(run(), PICTURE)
