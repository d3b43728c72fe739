"""The plots of a run: what they show and where, that texts do not overlap, and their words. Not their pixels."""

import ast
from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
from matplotlib.collections import FillBetweenPolyCollection, LineCollection, PolyCollection
from matplotlib.colors import to_hex
from scipy.stats import binomtest

import hf_paint
from hf_paint import AlphaCurve
from hf_paint.errors import InputError
from hf_paint.results.alphas import Coefficients
from hf_paint.results.class_changes import ClassChange
from hf_paint.results.plots.accuracy import draw_accuracy
from hf_paint.results.plots.comparison import draw_methods
from hf_paint.results.plots.labels import Box, Label, add_labels, place
from hf_paint.results.plots.margins import spread
from hf_paint.results.plots.per_class import draw_changes, most_changed
from hf_paint.results.plots.scatter import draw_scatter
from hf_paint.results.plots.shown import Shown
from hf_paint.results.plots.style import BLUE, COLOURS, Plot, styled
from hf_paint.results.plots.texts import Face
from hf_paint.results.plots.trade_off import draw_curve
from hf_paint.results.proportions import accuracy_interval
from hf_paint.results.records import Result
from hf_paint.results.robustness_table import robustness_table
from plotted import GRID, made_curve, overlapping, text_boxes


TWO = {"patching": ["mnist"], "supported": ["cifar10"]}
SEARCH = [Coefficients({"mnist": a / 5, "gtsrb": b / 4}) for a, b in product(range(6), range(5))]
STEPS = [0.0, Coefficients({"mnist": 0.4}), Coefficients({"mnist": 0.4, "gtsrb": 0.6})]
PAIRED = {"patching": ["mnist", "gtsrb"], "supported": ["cifar10"]}
FIFTY = {"patching": ["mnist"], "supported": [f"task-{number}" for number in range(49)]}
ODD = {"patching": ["<b>a_b$c$"], "supported": ["x" * 90, "größe"]}


def shown(alphas=GRID, tasks=None, *, selected=0.4, **keys):
    curve = made_curve(alphas, TWO if tasks is None else tasks, **keys)
    return Shown(curve=curve, split=keys.get("split", "test"), selected=selected)


CASES = {
    "plain": shown(),
    "several": shown(tasks={"patching": list("abcdefghi"), "supported": list("klmno")}, selected=0.5),
    "101 alphas": shown([step / 100 for step in range(101)], selected=0.37),
    "extrapolated": shown([step / 10 - 0.3 for step in range(18)], selected=1.2),
    "nothing supported": shown(tasks={"patching": ["mnist"]}),
    "one alpha": shown([0.0], selected=0.0),
    "search": shown([0.0, *SEARCH[1:]], PAIRED, split="validation", selected=SEARCH[7]),
    "steps": shown(STEPS, PAIRED, selected=STEPS[-1]),
    "50 tasks": shown(tasks=FIFTY),
    "odd names": shown(tasks=ODD, per_image=False),
    "adaptive": shown(tasks=TWO | {"transfer": ["sun"], "shift": ["noise"]}, exact=False),
    "several classes": shown(tasks=TWO, mean_average_precision=0.5, drawn_from=9000),
    "nothing patched": shown(selected=0.0),
    "nothing chosen": shown(selected=None),
    "ensemble": replace(shown(), ensemble=made_curve(GRID, TWO, seed=3)),
}


@pytest.fixture(scope="module", params=CASES)
def drawn(request):
    """A case, its curve plot and its accuracy plot."""
    case = CASES[request.param]
    return case, draw_curve(case), draw_accuracy(case)


def changed_classes(number, length=12):
    generator = np.random.default_rng(number)
    return [
        ClassChange(
            task="cifar10",
            role="supported",
            name=f"{'class ' * length}{index}",
            before=int(before),
            after=int(after),
            total=100,
        )
        for index, (before, after) in enumerate(generator.integers(0, 101, size=(number, 2)))
    ]


def test_no_text_overlaps_another_or_leaves_the_plot(drawn):
    for plot in drawn[1:]:
        assert overlapping(plot) == []


@pytest.mark.parametrize("number", [1, 30])
def test_no_text_of_the_other_plots_overlaps(number):
    changes = most_changed(changed_classes(number))
    assert len(changes) <= 16
    assert overlapping(draw_changes(CASES["plain"], changes, num_classes=number)) == []
    models = [model(f"{'m' * number} {index}", index, number) for index in range(number)]
    columns = {"mean patching": ["a"], "mean supported": ["b"]}
    assert overlapping(draw_methods(models, columns, "test")) == []
    shifts = [f"shift-{index}" for index in range(number)]
    curve = made_curve(GRID, {"patching": ["imagenet"], "shift": shifts}, per_image=False)
    case = Shown(curve=curve, split="test", selected=0.5)
    for baseline in (None, [(0.2, 0.1), (0.9, 0.7)]):
        assert overlapping(draw_scatter(case, robustness_table(curve, baseline=baseline))) == []


def model(name, correct, total):
    from hf_paint.results.compared_models import ComparedModel

    results = {task: result(task, correct, total) for task in ("a", "b")}
    return ComparedModel(base="base", name=name, results=results)


def result(task, correct, total):
    keys = {"alpha": 1.0, "role": "patching", "split": "test", "correct_file": "x.npy"}
    return Result(task=task, correct=correct, total=total, **keys)


def dashed(axes):
    return [line for line in axes.lines if line.get_linestyle() == "--"]


def test_the_dashed_lines_show_a_model_without_trade_off():
    case = CASES["several"]
    [axes] = draw_curve(case).axes
    across, upright = dashed(axes)
    means = {
        role: [
            np.mean([case.curve.get(alpha, role, task, "test").accuracy for task in case.curve.tasks[role]])
            for alpha in GRID
        ]
        for role in ("patching", "supported")
    }
    assert across.get_ydata() == pytest.approx(2 * [100 * max(means["patching"])])
    assert upright.get_xdata() == pytest.approx(2 * [100 * means["supported"][0]])
    assert across.get_xdata() == pytest.approx(axes.get_xlim())
    assert upright.get_ydata() == pytest.approx(axes.get_ylim())
    assert dashed(draw_curve(CASES["nothing supported"]).axes[0]) == []


def test_points_and_band_of_the_curve():
    """Each point is the mean of its tasks; the band's corners are the ends of Wilson's intervals, by scipy."""
    case = CASES["plain"]
    [axes] = draw_curve(case).axes
    [line] = [line for line in axes.lines if line.get_color() == BLUE]
    [band] = [item for item in axes.collections if isinstance(item, PolyCollection)]
    corners = np.concatenate([path.vertices for path in band.get_paths()])
    for alpha, x, y in zip(GRID, *line.get_data(), strict=True):
        supported, patching = (case.curve.get(alpha, role, TWO[role][0], "test") for role in ("supported", "patching"))
        assert (x, y) == pytest.approx((100 * supported.correct / 1000, 100 * patching.correct / 1000))
        ends = [binomtest(r.correct, r.total).proportion_ci(method="wilson") for r in (supported, patching)]
        across, along = ((100 * interval.low, 100 * interval.high) for interval in ends)
        for corner in (*((end, y) for end in across), *((x, end) for end in along)):
            assert np.abs(corners - corner).sum(axis=1).min() < 1e-6
    assert draw_curve(CASES["odd names"]).axes[0].collections[0].get_paths() == []


def test_the_band_of_a_mean_is_that_of_independent_tasks():
    """The combination of intervals (MOVER) against samples of the tasks' means."""
    results = [result(task, correct, total) for task, correct, total in (("a", 300, 1000), ("b", 600, 800))]
    low, high = accuracy_interval(results)
    generator = np.random.default_rng(0)
    means = np.mean([generator.binomial(r.total, r.accuracy, 200_000) / r.total for r in results], axis=0)
    assert (low, high) == pytest.approx(tuple(np.quantile(means, [0.025, 0.975])), abs=0.001)
    assert accuracy_interval([results[0]]) == pytest.approx(binomtest(300, 1000).proportion_ci(method="wilson"))
    assert accuracy_interval([results[0], replace(results[1], correct_file=None)]) is None


def test_bands_of_the_accuracies():
    case = CASES["plain"]
    [axes] = draw_accuracy(case).axes
    bands = [item for item in axes.collections if isinstance(item, FillBetweenPolyCollection)]
    for band, (role, [task]) in zip(bands, TWO.items(), strict=True):
        ys = band.get_paths()[0].vertices[:, 1]
        for alpha in GRID:
            record = case.curve.get(alpha, role, task, "test")
            for bound in binomtest(record.correct, record.total).proportion_ci(method="wilson"):
                assert np.abs(ys - 100 * bound).min() < 1e-6
    [zero_shot] = dashed(axes)
    before = case.curve.get(0.0, "supported", "cifar10", "test")
    assert zero_shot.get_ydata()[0] == pytest.approx(100 * before.correct / before.total)


def test_points_of_a_search_are_not_joined():
    case = CASES["search"]
    curve, accuracy = draw_curve(case).axes[0], draw_accuracy(case).axes[0]
    assert [line for line in curve.lines if len(line.get_xdata()) > 2] == []
    assert [line for line in accuracy.lines if len(line.get_xdata()) > 2] == []
    assert any(isinstance(item, LineCollection) for item in accuracy.collections)  # bars instead of bands
    assert len([line for line in draw_curve(CASES["steps"]).axes[0].lines if len(line.get_xdata()) > 2]) == 1


def test_titles_say_what_was_found(drawn):
    case, *plots = drawn
    for plot in plots:
        title = " ".join(text.get_text() for text in plot.texts if text.get_weight() == "bold")
        assert title.replace(" ", "")[:40] == case.finding.replace(" ", "")[:40]
    if case is CASES["plain"]:
        counts = [case.curve.get(a, r, t[0], "test").correct for r, t in TWO.items() for a in (0.0, 0.4)]
        gains = [f"{(after - before) / 10:+.1f}" for before, after in zip(counts[::2], counts[1::2], strict=True)]
        assert case.finding == f"mnist {gains[0]}, cifar10 {gains[1]} on test images, at alpha 0.40"
    if case is CASES["several classes"]:
        assert "samples of the test images" in case.finding
        assert "mean average precision" in case.finding


def test_everything_that_is_named_has_its_name():
    texts = [text for text, _ in text_boxes(draw_accuracy(CASES["50 tasks"]))]
    assert sum(text.endswith("(supported)") for text in texts) == 11
    assert "mnist (patching)" in texts
    assert any("Grey: 38 tasks" in text for text in texts)
    texts = [text for text, _ in text_boxes(draw_curve(CASES["plain"]))]
    assert {"zero-shot", "fine-tuned (alpha 1.00)", "chosen: alpha 0.40", "best patching accuracy"} <= set(texts)
    assert "supported accuracy, % (cifar10; test)" in texts
    texts = [text for text, _ in text_boxes(draw_accuracy(CASES["odd names"]))]
    assert "<b>a_b$c$ (patching)" in texts
    assert "output-space ensemble" in [text for text, _ in text_boxes(draw_curve(CASES["ensemble"]))]


def test_classes_that_changed_most():
    changes = changed_classes(40)
    listed = most_changed(changes)
    assert [change.gain for change in listed] == sorted(change.gain for change in listed)
    [axes] = draw_changes(CASES["plain"], listed, num_classes=40).axes
    by_gain = sorted(changes, key=lambda change: change.after - change.before)
    ends = [line.get_xdata().tolist() for line in axes.lines]
    assert ends == [[change.before, change.after] for change in by_gain[:8] + by_gain[-8:]]
    assert most_changed([replace(change, after=change.before) for change in changes]) == []


def test_the_logit_scale():
    curve = made_curve([0.0, 0.5, 1.0], {"patching": ["imagenet"], "shift": ["v2"]}, per_image=False)
    case = Shown(curve=curve, split="test", selected=0.5)
    [axes] = draw_scatter(case, robustness_table(curve, baseline=[(0.2, 0.1), (0.9, 0.7)])).axes
    [line] = [line for line in axes.lines if line.get_color() == BLUE]
    for alpha, x, y in zip(curve.alphas, *line.get_data(), strict=True):
        for place_, role, task in ((x, "patching", "imagenet"), (y, "shift", "v2")):
            share = curve.get(alpha, role, task, "test").accuracy
            assert place_ == pytest.approx(np.log(share / (1 - share)))
    for place_, label in zip(axes.get_xticks(), axes.get_xticklabels(), strict=True):
        assert 100 / (1 + np.exp(-place_)) == pytest.approx(float(label.get_text()))
    [baseline] = dashed(axes)
    slope = (np.log(7 / 3) - np.log(1 / 9)) / (np.log(9) - np.log(1 / 4))
    assert np.diff(baseline.get_ydata()) / np.diff(baseline.get_xdata()) == pytest.approx(slope)


def test_colours_are_those_of_okabe_and_ito():
    palette = {"#000000", "#e69f00", "#56b4e9", "#009e73", "#f0e442", "#0072b2", "#d55e00", "#cc79a7"}
    assert {to_hex(colour) for colour in COLOURS} <= palette
    assert len(set(COLOURS)) == len(COLOURS)
    assert draw_curve(CASES["plain"]).get_facecolor() == (1, 1, 1, 1)  # on a dark page too


def test_labels_keep_away_from_each_other():
    """Many labels for few places: those that find none are returned, and the others do not overlap."""
    with styled([]):
        plot = Plot(2.0)
        axes = plot.add_axes((0.1, 0.1, 0.8, 0.8))
        axes.set(xlim=(0, 1), ylim=(0, 1))
        labels = [Label(x=x, y=y, text=f"label {x:.2f} {y:.2f}") for x, y in np.random.default_rng(0).random((80, 2))]
        left_out = add_labels(plot, axes, labels, lines=[([0, 1], [0, 1])])
    assert 0 < len(left_out) < 70
    assert len(axes.texts) == 80 - len(left_out)
    assert [pair for pair in overlapping(plot) if "label" in pair[0]] == []


def test_a_label_covers_no_line_if_it_can_avoid_it():
    line = np.column_stack([np.linspace(0, 100, 200), np.full(200, 55.0)])
    box = place((40, 10), (50, 50), Box(0, 0, 200, 100), [], line, [4, 10, 18])
    assert not box.count(line)
    assert place((400, 10), (50, 50), Box(0, 0, 200, 100), [], line, [4]) is None


@pytest.mark.parametrize("seed", range(6))
def test_places_are_spread_as_little_as_possible(seed):
    """The solution of a quadratic programme, found by scipy."""
    from scipy.optimize import minimize

    generator = np.random.default_rng(seed)
    places = np.sort(generator.uniform(0, 10, size=5))
    moved = np.array(spread(places.tolist(), 1.0, 0.5, 9.5))
    steps = [{"type": "ineq", "fun": lambda y, i=i: y[i + 1] - y[i] - 1.0} for i in range(4)]
    start, bounds = np.linspace(1, 9, 5), [(0.5, 9.5)] * 5
    best = minimize(lambda y: ((y - places) ** 2).sum(), start, bounds=bounds, constraints=steps)
    assert moved == pytest.approx(best.x, abs=1e-3)


def test_texts_fit_their_lines():
    with styled([]):
        plot = Plot(1.0)
        face = Face(plot)
        for text in ("a few words of text " * 9, "x" * 300, "one", "wide " + "W" * 100):
            lines = face.wrapped(text, 2.0)
            assert 1 <= len(lines) <= 3
            assert max(map(face.width, lines)) <= 2.0
        assert face.shortened("a" * 90 + "END", 1.0).endswith("END")


def test_a_users_own_style_changes_nothing():
    import matplotlib

    plain = draw_curve(CASES["plain"]).encoded("svg")
    own = {"figure.facecolor": "black", "font.size": 30, "text.usetex": True, "figure.constrained_layout.use": True}
    with matplotlib.rc_context(own):
        assert draw_curve(CASES["plain"]).encoded("svg") == plain


def test_plots_of_a_curve():
    curve = AlphaCurve.from_accuracies([0, 0.5, 1], patching={"a": [0.5, 0.8, 0.9]}, supported={"b": [0.9, 0.8, 0.5]})
    for kind in ("curve", "accuracy"):
        plot = curve.plot(kind)
        assert isinstance(plot, Plot)
        assert "intervals" not in "".join(text for text, _ in text_boxes(plot))  # published numbers have none
    png, size = curve.plot()._repr_png_()
    assert png.startswith(b"\x89PNG")
    assert size["width"] == 700
    with pytest.raises(InputError, match="Unknown kind of plot 'accuracies'. Did you mean"):
        curve.plot("accuracies")
    with pytest.raises(InputError, match="No alpha has test records"):
        curve.plot(split="test")
    with pytest.raises(InputError, match="were not counted by class"):
        curve.plot("per_class")
    with pytest.raises(InputError, match="shift_tasks"):
        curve.plot("scatter")


def test_matplotlib_is_imported_only_by_what_draws():
    """It takes a second to import, and most commands draw nothing."""
    source = Path(hf_paint.__file__).parent
    drawing = source / "results" / "plots"
    for path in source.rglob("*.py"):
        text = path.read_text(encoding="utf-8")
        if drawing in path.parents or not ("matplotlib" in text or "plots" in text):
            continue
        tree = ast.parse(text)
        names = [alias.name for node in tree.body if isinstance(node, ast.Import) for alias in node.names]
        names += [node.module or "" for node in tree.body if isinstance(node, ast.ImportFrom)]
        assert [name for name in names if name.startswith("matplotlib")] == [], path
        others = [name for name in names if name.startswith("hf_paint.results.plots.")]
        assert {name.rpartition(".")[2] for name in others} <= {"shown"}, path
