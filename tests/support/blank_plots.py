"""Blank plots in the place of the plots of runs, whose drawing would take a third of the suite."""

from PIL import Image

from hf_paint.results.plots import files, kinds


BLANK = Image.new("RGB", (8, 8))
DRAWN = {
    (kinds, name): getattr(kinds, name) for name in ("draw_curve", "draw_accuracy", "draw_changes", "draw_scatter")
}
DRAWN |= {(files, "save_plot"): files.save_plot}


def blank_plots(patch):
    """Let runs leave blank plots until this `pytest.MonkeyPatch` is undone."""

    def save_blank(plot, path):
        BLANK.save(path.with_suffix(".png"))
        path.with_suffix(".svg").write_bytes(b"blank")

    patch.setattr("hf_paint.patching.examples.plot_examples", lambda examples, path, **texts: BLANK.save(path))
    for module, name in DRAWN:
        patch.setattr(module, name, lambda *_, **__: object())
    patch.setattr(files, "save_plot", save_blank)


def draw_plots(patch):
    """Let runs draw their plots again."""
    for (module, name), function in DRAWN.items():
        patch.setattr(module, name, function)
