"""A LoRA patch, scaled by alpha.

With `use_peft`, a run trains a LoRA adapter of the image tower, a small file that alpha scales. The picture compares
it with training all weights for as many steps.
"""

from matplotlib import pyplot
from toy import digits, label, patched, save


runs = {
    "all weights": (patched(digits(), "digits"), "theta_1/model.safetensors"),
    "LoRA": (
        patched(digits(), "lora", use_peft=True, lora_r=8, lora_alpha=16, learning_rate=3e-3),
        "adapter/adapter_model.safetensors",
    ),
}
figure, axes = pyplot.subplots()
for number, (name, (result, file)) in enumerate(runs.items()):
    size = (result.run_folder / file).stat().st_size / 1e6
    for role, tasks, style in (("patching", "digits", "-"), ("supported", "shapes and words", "--")):
        accuracies = [100 * float(result.curve.mean_accuracy(alpha, role, "test")) for alpha in result.curve.alphas]
        text = f"{name} ({size:.1f} MB): {tasks}"
        axes.plot(result.curve.alphas, accuracies, style, color=f"C{number}", marker="o", label=text)
axes.legend()
label(axes, x="alpha", y="accuracy, % (test)", title="An adapter, scaled, beside all weights, interpolated")
save(__file__)
