"""A report with numbers written by hand, in every shape that a page has to show."""

import base64
import io

import numpy as np
from PIL import Image as PILImage


EVIL = "<script>alert(1)</script>"
HTML_TASK = "<b>counts</b> & more"
HTML_LABEL = '<img src=x onerror="alert(2)">'
ALPHAS = [0.0, 0.25, 0.5, 0.75, 1.0]


def picture_uri(shade):
    """Return a picture of one colour as a data URI."""
    buffer = io.BytesIO()
    PILImage.new("RGB", (24, 16), (shade, 90, 200 - shade)).save(buffer, "PNG")
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"


def interval(value, width=0.02):
    return {"value": value, "low": value - width, "high": value + width}


def gains(accuracies, width):
    """Return the change from the first accuracy, with an interval of this half width."""
    return [None if value is None else interval(value - accuracies[0], width) for value in accuracies]


def task(name, role, accuracies, *, width=0.0125, **others):
    return {
        "name": name,
        "role": role,
        "split": "test",
        "num_images": 800,
        "metric": "top-1 accuracy",
        "accuracy": [None if value is None else interval(value) for value in accuracies],
        "gain": gains(accuracies, width),
        "exact": [True] * len(accuracies),
        "metrics": {"ece": [0.1 - 0.01 * i for i in range(len(accuracies))], "loss": [1.5] * len(accuracies)},
        "per_class": None,
        "calibration": None,
        "pictures": [],
        "pictures_note": "",
    } | others


def digits_task():
    """Return a task with everything: classes, mistakes, bins of confidence and pictures."""
    classes = ["zero", EVIL, "two"]
    pictures = [
        {
            "src": picture_uri(40 * index),
            "index": 100 + index,
            "labels": [HTML_LABEL if index == 0 else "two"],
            "written": None,
            "question": None,
            "answers": [[["zero", 0.6], ["two", 0.4]], *([[["two", 0.5 + 0.1 * i], ["zero", 0.1]] for i in range(4)])],
            "correct": [index == 2, index < 2, index < 2, index < 2, index < 2],
        }
        for index in range(3)
    ]
    return task(
        "digits",
        "patching",
        [0.40125, 0.62375, 0.80, 0.88, 0.93],
        per_class={
            "classes": classes,
            "total": [300, 200, 300],
            "correct": [[200, 10, 111], [220, 100, 179], [230, 150, 260], [240, 170, 294], [250, 190, 298]],
            "confusion": [[[0, 1, 40], [1, 0, [180, 90, 40, 20][i]], [1, 2, 5], [2, 1, 1]] for i in range(4)] + [None],
        },
        calibration=[[[0, 0.0, 0.0], [400, 0.35, 0.30 + 0.05 * i], [400, 0.8, 0.5 + 0.1 * i]] for i in range(5)],
        pictures=pictures,
        pictures_note="A sample of the 200 test images that are recorded.",
    )


def mean(*columns):
    return [sum(values) / len(values) for values in zip(*columns, strict=True)]


def run(**others):
    """Return a run on a line with two patching tasks, three supported ones and every section."""
    tasks = [
        digits_task(),
        task(HTML_TASK, "patching", [0.30, 0.45, 0.55, 0.58, 0.60]),
        task("photos", "supported", [0.70, 0.699, 0.69, 0.64, 0.55]),
        task("sketches", "supported", [0.50, 0.503, 0.50, 0.49, 0.46]),
        task("rendered words", "transfer", [0.61, 0.61, 0.60, None, 0.58]),
    ]
    accuracies = {item["name"]: [value and value["value"] for value in item["accuracy"]] for item in tasks}
    patching = mean(accuracies["digits"], accuracies[HTML_TASK])
    supported = mean(accuracies["photos"], accuracies["sketches"])
    return {
        "title": "digits",
        "claim": "At alpha 0.50, patching gains 32.3 points and the supported tasks lose 0.5.",
        "model": "openai/clip-vit-base-patch32",
        "strategy": "joint",
        "method": "paint",
        "split": "test",
        "points": [
            {"label": f"{alpha:.2f}", "alpha": alpha, "coefficients": None, "revision": f"alpha-{alpha:.2f}"}
            for alpha in ALPHAS
        ],
        "connected": True,
        "zero_shot": 0,
        "fine_tuned": 4,
        "fine_tuned_label": "fine-tuned",
        "chosen": 2,
        "tasks": tasks,
        "means": {"patching": patching, "supported": supported, "mean": mean(patching, supported)},
        "choice": ["The rule `mean` chose alpha 0.50 on the validation images.", "`supported_within` chooses 0.25."],
        "snippets": [
            {
                "title": "From the Hub",
                "language": "python",
                "code": 'CLIPModel.from_pretrained("me/digits", revision="{revision}")  # {alpha}',
                "points": [0, 1, 2, 4],
            }
        ],
        "layers": [
            {"model": "digits", "name": name, "norm": 0.4 + n, "relative": 0.01 * n, "cosine": 1 - n / 1000}
            for n, name in enumerate(["all", "embeddings", *(f"encoder layer {n}" for n in range(1, 5)), "projection"])
        ],
        "scatter": {
            "reference": "digits",
            "shift": "sketches",
            "x": accuracies["digits"],
            "y": accuracies["sketches"],
            "baseline": [-0.5, 0.6],
            "effective": [0.0, 0.01, 0.02, 0.015, 0.01],
            "ensemble": None,
        },
        "ensemble": [[value + 0.004, other - 0.01] for value, other in zip(supported, patching, strict=True)],
        "tables": [
            {
                "title": "Other methods",
                "columns": ["method", "accuracy", "scale"],
                "percent": ["accuracy"],
                "rows": [["task arithmetic", 0.655, 0.3], [EVIL, None, 1]],
            }
        ],
        "notes": ["Accuracies marked with `~` were inferred in part."],
        "recipe": "model: openai/clip-vit-base-patch32\npatching_tasks: [digits]\n# </pre></script>\n",
        "facts": [["trained for", "200 steps"], ["seed", "0"]],
    } | others


def combinations():
    """Return a run over coefficients, whose points are on no line, with nothing that may be absent."""
    tasks = [task("digits", "patching", [0.40, 0.90, 0.88]), task("photos", "supported", [0.70, 0.66, 0.69])]
    points = [
        {"label": f"digits {a}, signs {b}", "alpha": None, "coefficients": {"digits": a, "signs": b}, "revision": "x"}
        for a, b in ((0.0, 0.0), (0.8, 0.2), (0.4, 0.4))
    ]
    empty = {"ensemble": None, "scatter": None, "layers": [], "tables": [], "choice": [], "snippets": []}
    patching, supported = [0.40, 0.90, 0.88], [0.70, 0.66, 0.69]
    means = {"patching": patching, "supported": supported, "mean": mean(patching, supported)}
    here = {"title": "digits and signs", "points": points, "connected": False, "fine_tuned": None, "tasks": tasks}
    return run(**here, **empty, means=means, strategy="parallel")


def report(*runs):
    return {
        "title": "Patching digits",
        "made_by": "Made by hf_paint 0.1.0.",
        "runs": list(runs) or [run()],
        "tables": [],
    }


def large(num_tasks=14, num_points=101, num_classes=1000, num_pictures=60):
    """Return a report as large as they come: counts drift from point to point, and pictures are noise."""
    draw = np.random.default_rng(0)
    alphas = np.linspace(0, 1, num_points)
    names = [f"class number {c}" for c in range(num_classes)]
    tasks = [_large_task(draw, f"task {t}", names, alphas, num_pictures // num_tasks + 1) for t in range(num_tasks)]
    for item in tasks[num_tasks // 2 :]:
        item["role"] = "supported"
    halves = [
        mean(*([value["value"] for value in item["accuracy"]] for item in half))
        for half in (tasks[: num_tasks // 2], tasks[num_tasks // 2 :])
    ]
    means = {"patching": halves[0], "supported": halves[1], "mean": mean(*halves)}
    points = [
        {"label": f"{alpha:.2f}", "alpha": alpha, "coefficients": None, "revision": f"alpha-{alpha:.2f}"}
        for alpha in alphas.tolist()
    ]
    here = {"tasks": tasks, "means": means, "points": points, "chosen": 40, "fine_tuned": 100}
    return report(run(**here, scatter=None, ensemble=None))


def _large_task(draw, name, names, alphas, num_pictures):
    num_points, num_classes = len(alphas), len(names)
    steps = draw.choice([-1, 0, 1], p=[0.05, 0.85, 0.1], size=(num_points, num_classes))
    steps[0] = draw.integers(10, 40, num_classes)
    correct = np.clip(steps.cumsum(axis=0), 0, 50)
    accuracies = (correct.sum(axis=1) / (50 * num_classes)).tolist()
    mistakes = [[[int(c), int(p), int(n)] for c, p, n in draw.integers(1, 12, (30, 3))] for _ in alphas]
    bins = [[[50, (b + draw.random()) / 15, (b + draw.random()) / 15] for b in range(15)] for _ in alphas]
    pictures = [
        {
            "src": noise_uri(draw),
            "index": index,
            "labels": [names[index]],
            "written": None,
            "question": None,
            "answers": [[[names[c], float(draw.random())] for c in draw.integers(0, 20, 3)] for _ in alphas],
            "correct": [bool(alpha > 0.2) == (index % 2 == 0) for alpha in alphas],
        }
        for index in range(num_pictures)
    ]
    per_class = {"classes": names, "total": [50] * num_classes, "correct": correct.tolist(), "confusion": mistakes}
    return task(name, "patching", accuracies, per_class=per_class, calibration=bins, pictures=pictures)


def noise_uri(draw):
    """Return a picture that hardly compresses, of the size of those in a run folder."""
    buffer = io.BytesIO()
    PILImage.fromarray(draw.integers(0, 256, (112, 112, 3), dtype=np.uint8)).save(buffer, "JPEG", quality=80)
    return f"data:image/jpeg;base64,{base64.b64encode(buffer.getvalue()).decode()}"
