"""The charts of a report, as Vega-Lite specifications.

A specification names its data sets but does not hold them: the page adds rows of fractions, and texts for labels and
tooltips. Colours are variables of the style sheet, so that a chart follows the colour scheme without being redrawn.
The signal `current` is the position of the slider.
"""

from collections.abc import Mapping, Sequence

from hf_paint.report.contents import Run


Spec = Mapping[str, object]

INK, SOFT, FAINT, PAPER = "var(--ink)", "var(--soft)", "var(--rule)", "var(--paper)"
MAIN, BEFORE, CHOSEN = "var(--blue)", "var(--soft)", "var(--orange)"
ALPHA = "alpha"
PERCENT = "format(100 * datum.value, '~r')"
DASHES = [5, 4]
TEXT_SIZE = 12
ACCURACIES = (0.001, 0.005, 0.01, 0.02, 0.05, *(share / 100 for share in range(10, 91, 10)), 0.95, 0.98, 0.99, 0.999)
"""Ticks of a logit-scaled axis."""

STYLE: Spec = {
    "background": None,
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": SOFT,
        "titleColor": INK,
        "gridColor": FAINT,
        "domain": False,
        "ticks": False,
        "labelPadding": 6,
        "titlePadding": 8,
        "labelFontSize": TEXT_SIZE,
        "titleFontSize": TEXT_SIZE,
        "titleFontWeight": "normal",
    },
    "text": {"color": INK, "fontSize": TEXT_SIZE},
    "line": {"color": MAIN, "strokeWidth": 1.5},
    "point": {"color": MAIN, "filled": True, "size": 24, "opacity": 1},
    "area": {"color": MAIN, "opacity": 0.18},
    "rule": {"color": SOFT},
    "bar": {"color": MAIN},
}


def charts_of(run: Run) -> dict[str, Spec]:
    """Return the charts of a run by name; the page leaves out those for which the run has no data."""
    connected, across = run["connected"], noun_of(run)
    return {
        "trade_off": trade_off(connected=connected),
        "accuracy": accuracy(across, connected=connected),
        "confusion": confusion(),
        "calibration": calibration(),
        "relative": layers("relative", "relative change, %", in_percent=True),
        "cosine": layers("cosine", "cosine similarity"),
        "scatter": scatter(connected=connected),
    }


def noun_of(run: Run) -> str:
    """Return what a point of a run is called."""
    if all(point["alpha"] is not None for point in run["points"]):
        return ALPHA
    return "step" if run["strategy"] == "sequential" else "combination"


def trade_off(*, connected: bool) -> Spec:
    """Return patching accuracy against supported accuracy (PAINT, Figure 1), with dashed lines of no trade-off."""
    x, y = _share("x", "supported accuracy, %"), _share("y", "patching accuracy, %")
    return _chart(
        _layer("none_supported", "rule", {"x": x}, strokeDash=DASHES),
        _layer("none_patching", "rule", {"y": y}, strokeDash=DASHES),
        _layer("ensemble", "line", {"x": x, "y": y, "order": _field("i")}, color=BEFORE, strokeDash=[2, 2]),
        *_path(x, y, connected=connected),
        *_text("corner", {"x": x, "y": y, "text": {"field": "text"}, "color": {"value": SOFT}}),
        *_labelled(x, y),
        height=340,
    )


def comparison() -> Spec:
    """Return the trade-off curves of several runs in one chart; rows bring their run's colour."""
    x, y = _share("x", "supported accuracy, %"), _share("y", "patching accuracy, %")
    at = {"x": x, "y": y, "color": {"field": "colour", "type": "nominal", "scale": None}}
    line = at | {"order": _field("i"), "detail": {"field": "run", "type": "nominal"}}
    return _chart(
        _layer("lines", "line", line),
        _layer("points", "point", at | _tooltip()),
        _layer("marks", "point", at, filled=False, size=150, strokeWidth=2),
        *_text("marks", at | {"text": {"field": "text"}}),
        height=380,
    )


def accuracy(across: str, *, connected: bool) -> Spec:
    """Return the accuracy on one task against alpha, or against the number of a point, with its interval as a band."""
    ticks = {"tickCount": 5} if across == ALPHA else {"tickMinStep": 1, "format": "d"}
    x = _field("x") | {"title": across, "axis": {"grid": False} | ticks}
    y = _share("y", None)
    band = {"x": x, "y": _share("low", None), "y2": {"field": "high"}}
    return _chart(
        _layer("marks", "rule", {"x": x, "color": {"field": "colour", "scale": None}}, strokeDash=DASHES),
        _layer("points", "area" if connected else "rule", band),
        *_path(x, y, connected=connected, size=12 if connected else 24),
        height=150,
    )


def calibration() -> Spec:
    """Return the reliability diagram: accuracy against confidence, before and now; areas stand for images."""
    x, y = (_share(axis, title, domain=[0, 1]) for axis, title in (("x", "confidence, %"), ("y", "accuracy, %")))
    scale = {"domain": [0, 1], "range": [15, 400]}
    size = {"field": "share", "type": "quantitative", "scale": scale, "legend": None}
    return _chart(
        _layer("diagonal", "line", {"x": x, "y": y}, color=SOFT, strokeDash=DASHES),
        _layer("before", "point", {"x": x, "y": y, "size": size} | _tooltip(), filled=False, color=BEFORE),
        _layer("now", "point", {"x": x, "y": y, "size": size} | _tooltip(), opacity=0.75),
        height=300,
    )


def confusion() -> Spec:
    """Return the confusion of a few classes; the shade is the share of the images of a class."""
    names = {"type": "nominal", "sort": None, "scale": {"paddingInner": 0.04}}
    top = {"orient": "top", "labelAngle": 0, "grid": False}
    left = {"labelExpr": "split(datum.label, '\\n')", "labelLimit": 155, "grid": False}
    x = {"field": "predicted", "title": "predicted", "axis": top} | names
    y = {"field": "label", "title": None, "axis": left} | names
    shade = {"field": "share", "type": "quantitative", "legend": None}
    opacity = shade | {"scale": {"domain": [0, 1], "range": [0.04, 1]}}
    dark = {"condition": {"test": "datum.share > 0.45", "value": PAPER}, "value": INK}
    return _chart(
        _layer("cells", "rect", {"x": x, "y": y, "opacity": opacity} | _tooltip(), color=MAIN),
        _layer("cells", "text", {"x": x, "y": y, "text": {"field": "images"}, "color": dark}),
        height={"step": 32},
    )


def layers(field: str, title: str, *, in_percent: bool = False) -> Spec:
    """Return how far each layer of the image tower moved."""
    y = {"field": "name", "type": "nominal", "sort": None, "title": None, "axis": {"labelLimit": 150, "grid": False}}
    axis = {"labelExpr": PERCENT, "tickCount": 6} if in_percent else {"tickCount": 4}
    scale = {"zero": True} if in_percent else {"zero": False, "padding": 6}
    x = _field(field) | {"title": title, "axis": axis, "scale": scale}
    mark = "bar" if in_percent else "point"  # a bar needs zero, from which cosines are far
    return _chart(_layer("layers", mark, {"x": x, "y": y} | _tooltip()), height={"step": 18})


def scatter(*, connected: bool) -> Spec:
    """Return accuracy under shift against reference accuracy, both logit-scaled (WiSE-FT, Figure 1)."""
    x, y = _logit("x", "reference accuracy, %"), _logit("y", "accuracy under shift, %")
    return _chart(
        _layer("baseline", "line", {"x": x, "y": y}, color=SOFT, strokeDash=DASHES, clip=True),
        _layer("ensemble", "line", {"x": x, "y": y, "order": _field("i")}, color=BEFORE, strokeDash=[2, 2]),
        *_path(x, y, connected=connected),
        *_labelled(x, y),
        height=340,
    )


def _chart(*layers: Spec, height: object) -> Spec:
    return {
        "width": "container",
        "height": height,
        "autosize": {"type": "fit-x", "contains": "padding"},
        "params": [{"name": "current", "value": -1}],
        "layer": list(layers),
        "config": STYLE,
    }


def _layer(data: str, mark: str, encoding: Spec, **options: object) -> Spec:
    return {"data": {"name": data}, "mark": {"type": mark} | options, "encoding": encoding}


def _path(x: Spec, y: Spec, *, connected: bool, size: int = 24) -> Sequence[Spec]:
    """Return the measured points, the line through them if they lie on one, and the point of the slider."""
    at = {"x": x, "y": y}
    line = _layer("points", "line", at | {"order": _field("i")})
    shown = {"opacity": {"condition": {"test": "datum.i === current", "value": 1}, "value": 0}}
    return [
        *([line] if connected else []),
        _layer("points", "point", at | _tooltip(), size=size),
        _layer("points", "point", at | _tooltip() | shown, size=130, color=CHOSEN, stroke=PAPER),
    ]


def _labelled(x: Spec, y: Spec) -> Sequence[Spec]:
    """Return circles around the marked points, with their names beside them."""
    at = {"x": x, "y": y}
    text = at | {"text": {"field": "text"}}
    return [
        _layer("marks", "point", at, filled=False, size=220, strokeWidth=1.5, color=INK),
        *_text("marks", text),
    ]


def _text(data: str, encoding: Spec) -> Sequence[Spec]:
    """Return labels right below their points, or left and above where their rows say so; a halo hides lines."""
    side = {
        "align": "datum.left ? 'right' : 'left'",
        "dx": "datum.left ? -8 : 8",
        "baseline": "datum.above ? 'bottom' : 'top'",
        "dy": "datum.above ? -8 : 8",
    }
    place = {name: {"expr": expression} for name, expression in side.items()} | {"limit": 150}
    halo = _layer(data, "text", {**encoding, "color": {"value": PAPER}}, **place, stroke=PAPER, strokeWidth=4)
    return [halo, _layer(data, "text", encoding, **place)]


def _field(name: str) -> dict[str, object]:
    return {"field": name, "type": "quantitative"}


def _tooltip() -> dict[str, object]:
    return {"tooltip": {"field": "tip", "type": "nominal"}}


def _share(field: str, title: str | None, *, domain: Sequence[float] | None = None) -> dict[str, object]:
    """Return an axis of fractions, labelled in percent."""
    axis = {"labelExpr": PERCENT, "tickCount": 6}
    scale = {"domain": domain} if domain else {"zero": False, "nice": False, "padding": 16}
    return _field(field) | {"title": title, "axis": axis, "scale": scale}


def _logit(field: str, title: str) -> dict[str, object]:
    """Return an axis of logits, labelled with accuracies in percent."""
    axis = {
        "values": {"expr": f"[{', '.join(f'log({share} / (1 - {share}))' for share in ACCURACIES)}]"},
        "labelExpr": "format(100 / (1 + exp(-datum.value)), '.3~r')",
        "labelOverlap": True,
    }
    return _field(field) | {"title": title, "axis": axis, "scale": {"zero": False, "nice": False, "padding": 16}}
