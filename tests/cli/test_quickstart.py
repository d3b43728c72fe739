"""The quickstart works as promised: a toy that cannot read handwriting learns to, and forgets nothing."""

import contextlib
import io
import json
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from transformers import CLIPModel

import hf_paint
from blank_plots import draw_plots
from browser import check_page
from hf_paint import AlphaCurve, PushOptions, interpolate, push_variants
from hf_paint.cli import run_quickstart
from hf_paint.cli.main import main
from hf_paint.tasks.rendering import rendered_task
from report_checks import checked_report


TOY = Path(hf_paint.__file__).parent / "toy_clip"


def test_toy_is_small_and_holds_no_path():
    assert sum(path.stat().st_size for path in TOY.iterdir()) <= 4 * 2**20
    for path in TOY.glob("*.json"):
        text = path.read_text(encoding="utf-8")
        assert "/home/" not in text
        assert "_name_or_path" not in text
    assert sum(p.numel() for p in CLIPModel.from_pretrained(TOY).parameters()) < 1_000_000


def fewer_if_unseen(name, num_images, seed):
    return rendered_task(name, 120 if name.startswith("unseen") else num_images, seed)


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A user's run, but with fewer images of the transfer tasks, which change neither the models nor the choice."""
    folder = tmp_path_factory.mktemp("quickstart") / "run"
    with pytest.MonkeyPatch.context() as patch, contextlib.redirect_stdout(io.StringIO()) as printed:
        draw_plots(patch)
        patch.setattr(run_quickstart, "rendered_task", fewer_if_unseen)
        assert main(["quickstart", "--output_dir", str(folder)]) == 0
    return folder, printed.getvalue()


@pytest.mark.slow
def test_digits_are_gained_and_little_is_lost(run):
    curve = AlphaCurve.from_run(run[0])
    alpha = curve.select("supported_within", tolerance=0.01)

    def points(role, alpha):
        return 100 * float(curve.mean_accuracy(alpha, role, "test"))

    assert points("patching", 0.0) < 50
    assert points("patching", alpha) - points("patching", 0.0) >= 25
    assert points("supported", 0.0) - points("supported", alpha) <= 1.0


@pytest.mark.slow
@pytest.mark.parametrize(("task", "num_classes"), [("unseen_shapes", 9), ("unseen_words", 20)])
def test_the_toy_is_open_vocabulary(run, task, num_classes):
    """Unseen prompts work, and still work after patching."""
    curve = AlphaCurve.from_run(run[0])
    for alpha in (0.0, curve.select("supported_within", tolerance=0.01)):
        assert curve.get(alpha, "transfer", task, "test").accuracy > 5 / num_classes


@pytest.mark.slow
def test_it_ends_with_the_table_the_plot_and_a_pipeline_call(run):
    folder, output = run
    assert "| 0 (zero-shot) |" in output
    assert "pipeline('zero-shot-image-classification'" in output
    assert "toy" in output
    assert (folder / "curve.png").stat().st_size > 10_000
    assert (folder / "patched" / "README.md").exists()


@pytest.mark.slow
def test_its_report_shows_the_records(run):
    check_page(run[0], checked_report(run[0])["runs"][0])


@pytest.mark.slow
def test_eleven_variants_are_pulled_where_hf_paint_cannot_be_imported(run, hub, tmp_path):
    """The patched model is `interpolate` of the toy and its fine-tuned weights, bit for bit; a pipeline runs it."""
    folder = run[0]
    alphas = [round(0.1 * step, 1) for step in range(11)]
    push_variants(folder, "tester/toy", alphas=alphas, options=PushOptions(base_model_id="hf-paint/toy-clip"))
    program = """
        import sys
        sys.modules["hf_paint"] = None
        from PIL import Image
        from safetensors.torch import save_file
        from transformers import CLIPModel, pipeline
        for revision in sys.argv[2:]:
            model = CLIPModel.from_pretrained("tester/toy", revision=revision)
            save_file(model.state_dict(), f"{sys.argv[1]}/{revision}.safetensors")
        for revision in ("main", sys.argv[-1]):
            classify = pipeline("zero-shot-image-classification", model="tester/toy", revision=revision)
            assert len(classify(Image.new("RGB", (32, 32)), candidate_labels=["3", "5"])) == 2
    """
    revisions = ["main", *(f"alpha-{alpha:.2f}" for alpha in alphas)]
    command = [sys.executable, "-c", textwrap.dedent(program), str(tmp_path), *revisions]
    subprocess.run(command, env={"PATH": "/usr/bin:/bin", **hub.environment()}, check=True, timeout=300)
    theta_0, theta_1 = (CLIPModel.from_pretrained(path).state_dict() for path in (TOY, folder / "theta_1"))
    chosen = json.loads((folder / "selection.json").read_text())["alpha"]
    for revision, alpha in zip(revisions, [chosen, *alphas], strict=True):
        pulled, expected = load_file(tmp_path / f"{revision}.safetensors"), interpolate(theta_0, theta_1, alpha)
        assert pulled.keys() == expected.keys()
        assert all(torch.equal(pulled[name], expected[name]) for name in expected)
