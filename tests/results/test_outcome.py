"""The outcome of a run in words: every claim of every sentence is checked against hand-made records."""

import random
import re
from fractions import Fraction

import numpy as np
import pytest

from hf_paint.results.alphas import Coefficients, format_alpha
from hf_paint.results.curve import AlphaCurve
from hf_paint.results.outcome import Outcome
from hf_paint.results.outcome_text import outcome_rows, summarise
from hf_paint.results.records import Result


GRID = [0.0, 0.25, 0.5, 1.0]


def curve_of(tasks, *, alphas=GRID, folder=None, inexact=(), **extra):
    """tasks: (name, role, split, total) -> correct images at each alpha; with a folder, also which ones they are."""
    results = []
    for (name, role, split, total), counts in tasks.items():
        for alpha, correct in zip(alphas, counts, strict=True):
            file = None
            if folder is not None:
                file = f"{name}-{split}-{format_alpha(alpha)}.npy"
                np.save(folder / file, np.arange(total) < correct)
            exact = alpha not in inexact
            keys = {"alpha": alpha, "task": name, "role": role, "split": split, "exact": exact, "correct_file": file}
            results.append(Result(correct=correct, total=total, **keys, **extra.get(name, {}).get(alpha, {})))
    return AlphaCurve(results, folder=folder)


def outcome_of(curve, alpha, rule="supported_within", tolerance=0.01, recipe=None, **keys):
    plain = dict(alpha) if isinstance(alpha, Coefficients) else alpha
    selection = {"alpha": plain, "rule": rule, "tolerance": tolerance, **keys}
    recipe = {"selection": rule, "tolerance": tolerance} | (recipe or {})
    return Outcome.of(curve, None if alpha is None else selection, recipe)


def both(name, role, validation, test=None):
    """A task of 200 validation and 400 test images; the same accuracies on both unless `test` is given."""
    test = [2 * count for count in validation] if test is None else test
    return {(name, role, "validation", 200): validation, (name, role, "test", 400): test}


TEXTURES = both("textures", "patching", [80, 100, 120, 130], [172, 200, 258, 270])
CIFAR = both("cifar10", "supported", [180, 179, 165, 120], [360, 358, 327, 240])


def test_the_sentence_of_a_mean(tmp_path):
    text = summarise(outcome_of(curve_of(TEXTURES | CIFAR, folder=tmp_path), 0.5, "mean"), run="runs/x")
    assert re.fullmatch(
        r"textures \+21\.5 \(\+\d+\.\d to \+\d+\.\d\), cifar10 -8\.2 \(-\d+\.\d to -\d+\.\d\) on test images at alpha "
        r"0\.50: the rule `mean` weighs both sides the same; `hf-paint select runs/x --selection supported_within` "
        r"keeps more: alpha 0\.25, with textures \+10\.0 and cifar10 -0\.5 on validation images\.",
        text,
    )


def test_the_sentence_of_a_limit():
    text = summarise(outcome_of(curve_of(TEXTURES | CIFAR), 0.25), run="runs/x")
    assert text.endswith("at alpha 0.25: cifar10 stays within 1 point of zero-shot on validation images.")


def test_the_limit_that_holds_on_validation_images_only():
    tasks = TEXTURES | both("cifar10", "supported", [180, 179, 165, 120], [360, 340, 320, 240])
    text = summarise(outcome_of(curve_of(tasks), 0.25))
    assert "stays within 1 point of zero-shot on validation images, but not on test images." in text
    assert "cifar10 -5.0" in text


def test_one_supported_task_alone_may_lose_more_than_their_mean():
    tasks = TEXTURES | both("cifar10", "supported", [180, 170, 0, 0]) | both("stl10", "supported", [180, 189, 0, 0])
    text = summarise(outcome_of(curve_of(tasks), 0.25))
    assert "the mean of cifar10 and stl10 stays within 1 point" in text
    assert "although cifar10 alone loses 5.00 points" in text


NOTHING = {
    "it would cost too much": (
        both("textures", "patching", [80, 100, 120, 130]) | both("cifar10", "supported", [180, 175, 165, 120]),
        ("supported_within", 0.01),
        "Nothing was patched: no alpha above 0 improves textures on validation images without losing more than 1 "
        "point on cifar10; `hf-paint select 'my runs/x' --tolerance 0.025` would choose: alpha 0.25, with textures "
        "+10.0 and cifar10 -2.5 on validation images.",
    ),
    "nothing may be lost": (
        both("textures", "patching", [80, 100, 120, 130]) | both("cifar10", "supported", [180, 175, 165, 120]),
        ("supported_within", 0),
        "without losing anything on cifar10;",
    ),
    "it never improves": (
        both("textures", "patching", [80, 80, 70, 60]) | CIFAR,
        ("supported_within", 0.01),
        "Nothing was patched: no alpha above 0 improves textures on validation images.",
    ),
    "the mean falls": (
        both("textures", "patching", [80, 82, 84, 86]) | both("cifar10", "supported", [180, 178, 165, 120]),
        ("mean", 0.01),
        "Nothing was patched: no alpha above 0 raises the mean of patching and supported accuracy on validation "
        "images; `hf-paint select 'my runs/x' --selection supported_within` would choose: alpha 0.25",
    ),
    "by hand": (TEXTURES | CIFAR, ("by hand", 0.01), "Nothing was patched: alpha 0 was chosen by hand"),
}


@pytest.mark.parametrize(("tasks", "rule", "expected"), NOTHING.values(), ids=NOTHING)
def test_alpha_0_is_said_to_have_patched_nothing(tasks, rule, expected):
    curve = curve_of(tasks)
    if rule[0] != "by hand":
        assert curve.select(rule[0], tolerance=rule[1]) == 0
    assert expected in summarise(outcome_of(curve, 0.0, *rule), run="my runs/x")


def test_only_alpha_0_was_evaluated():
    tasks = {key: counts[:1] for key, counts in (TEXTURES | CIFAR).items()}
    assert "no alpha other than 0 was evaluated" in summarise(outcome_of(curve_of(tasks, alphas=[0.0]), 0.0))


def test_negative_alphas_are_other_alphas():
    tasks = both("textures", "patching", [80, 80, 70]) | both("cifar10", "supported", [180, 180, 180])
    text = summarise(outcome_of(curve_of(tasks, alphas=[0.0, -0.5, 1.0]), 0.0))
    assert "no other alpha improves textures" in text


def test_gains_that_may_be_nothing_are_not_certain(tmp_path):
    """One image of 400 changed sides in each direction, or none did."""
    curve = curve_of(
        both("textures", "patching", [80, 81], [160, 161]) | both("cifar10", "supported", [180, 180]),
        alphas=[0.0, 1.0],
        folder=tmp_path,
    )
    text = summarise(outcome_of(curve, 1.0))
    assert re.search(r"textures \+0\.2 \(\+0\.0 to \+\d\.\d, not certain\), cifar10 unchanged on test images", text)


def test_no_alpha():
    text = summarise(outcome_of(curve_of(TEXTURES | CIFAR), None, recipe={"selection": "none"}), run="runs/x")
    assert text.startswith("No alpha was chosen (`selection: none`), so no patched model was saved; `hf-paint select")


def test_no_rule_but_a_method():
    text = summarise(outcome_of(curve_of(TEXTURES), 1.0, "none", recipe={"method": {"model_stock": {}}}))
    assert text.endswith("at alpha 1.00: no rule chose it, the method `model_stock` decides how far to go.")


def test_by_hand_names_what_the_recipe_would_choose():
    recipe = {"selection": "supported_within", "tolerance": 0.1}
    text = summarise(outcome_of(curve_of(TEXTURES | CIFAR), 0.25, "by hand", recipe=recipe), run="r")
    assert (
        "this alpha was chosen by hand; `hf-paint select r --selection supported_within` would choose: alpha 0.50"
        in text
    )


def test_tasks_on_other_splits_say_so():
    """A task without test images is not passed over, and is not mistaken for one."""
    cifar = {("cifar10", "supported", "validation", 200): [180, 179, 165, 120]}
    outcome = outcome_of(curve_of(TEXTURES | cifar), 0.25)
    assert "cifar10 -0.5 (validation images) on test images" in summarise(outcome)
    rows = outcome_rows(outcome)
    assert [row[2] for row in rows] == ["images", "400 test", "200 validation"]


def test_many_tasks_are_a_mean_and_the_worst():
    supported = {}
    for number in range(8):
        supported |= both(f"task{number}", "supported", [180, 180 - number, 0, 0])
    text = summarise(outcome_of(curve_of(TEXTURES | supported), 0.25, tolerance=0.05))
    mean = 100 * sum(number / 200 for number in range(8)) / 8
    assert f"the 8 supported tasks -{mean:.1f} on average (worst: task7 -3.5)" in text
    assert "the mean of the 8 supported tasks stays within 5 points" in text


def test_combinations_of_coefficients():
    alphas = [0.0, Coefficients({"a": 0.5, "b": 0.25}), Coefficients({"a": 1.0, "b": 1.0})]
    tasks = both("a", "patching", [80, 100, 120]) | both("b", "patching", [80, 90, 120])
    tasks |= both("cifar10", "supported", [180, 180, 150])
    text = summarise(outcome_of(curve_of(tasks, alphas=alphas), alphas[1], recipe={"strategy": "parallel"}))
    assert "a +10.0, b +5.0, cifar10 +0.0 on test images at the coefficients a 0.50, b 0.25:" in text
    zero = Coefficients({"a": 0.0, "b": 0.0})
    tasks = {key: [counts[0], *counts] for key, counts in tasks.items()}
    curve = curve_of(tasks, alphas=[*alphas[:1], zero, *alphas[1:]])
    outcome = outcome_of(curve, zero, "by hand", recipe={"strategy": "parallel"})
    assert summarise(outcome, run="r").startswith(
        "Nothing was patched: alpha 0 was chosen by hand; `hf-paint select r"
    )


def test_steps_are_one_after_another():
    steps = [0.0, Coefficients({"a": 0.5}), Coefficients({"a": 0.5, "b": 0.5})]
    tasks = both("a", "patching", [80, 100, 90]) | both("b", "patching", [80, 80, 120])
    tasks |= both("cifar10", "supported", [180, 180, 160])
    recipe = {"strategy": "sequential"}
    within = summarise(outcome_of(curve_of(tasks, alphas=steps), steps[2], recipe=recipe), run="r")
    assert within.endswith(
        "cifar10 falls 10.00 points below zero-shot on validation images, more than the 1 point that the rule allows."
    )
    outcome = outcome_of(curve_of(tasks, alphas=steps), steps[2], "mean", recipe=recipe)
    assert "in each step, the rule `mean`" in summarise(outcome)


def test_inferred_numbers_are_about_right():
    outcome = outcome_of(curve_of(TEXTURES | CIFAR, inexact=[0.25]), 0.25)
    assert "textures about +7.0, cifar10 about -0.5 on test images" in summarise(outcome)
    assert outcome_rows(outcome)[1][3:] == ["43.0", "~50.0", "~+7.0"]


def test_other_metrics_and_other_roles():
    attacked = {0.0: {"attack_success": 300}, 0.25: {"attack_success": 40}}
    counted = {0.0: {"mean_absolute_error": 1.25}, 0.25: {"mean_absolute_error": 0.5}}
    tasks = {
        ("attacked", "patching", "test", 400): [100, 200],
        ("counts", "transfer", "test", 400): [100, 110],
        ("shifted", "shift", "test", 400): [100, 110],
    }
    outcome = outcome_of(curve_of(tasks, alphas=[0.0, 0.25], attacked=attacked, counts=counted), 0.25, "none")
    assert (
        "attacked +25.0 (attack success 75.0 % to 10.0 %), counts (transfer) +2.5 (mean absolute error 1.25 to 0.50), "
        "shifted (shift) +2.5 on test images"
    ) in summarise(outcome)
    assert ["attack success", "", "", "75.0 %", "10.0 %", ""] in outcome_rows(outcome)


def choose(sides, rule, tolerance):
    """The rules, written out again: sides is alpha -> (patching, supported), as fractions."""
    if rule == "mean":
        return min(sides, key=lambda a: (-sum(sides[a]), abs(a)))
    kept = {a: s for a, s in sides.items() if s[1] >= sides[0.0][1] - Fraction(str(tolerance))}
    return min(kept, key=lambda a: (-kept[a][0], abs(a)))


def random_tasks(draw):
    tasks = {}
    for role, most in (("patching", 2), ("supported", 3)):
        for number in range(draw.randint(1, most)):
            start = draw.randint(60, 140)
            step = draw.choice([1, 4, 20]) * (1 if role == "patching" else -1)
            for split, total in (("validation", 200), ("test", 400)):
                counts = [start] + [min(max(start + draw.randint(-4, 4) + step * k, 0), 200) for k in (1, 2, 3)]
                tasks[f"{role[:4]}{number}", role, split, total] = [n * total // 200 for n in counts]
    return tasks


@pytest.mark.parametrize("seed", range(100))
def test_every_claim_is_true(seed):
    """Random records and rules: what the sentence says is computed again from the counts."""
    draw = random.Random(seed)
    tasks, rule, tolerance = (
        random_tasks(draw),
        draw.choice(["mean", "supported_within"]),
        draw.choice([0, 0.01, 0.025]),
    )
    if rule == "mean":
        tolerance = 0.01
    curve = curve_of(tasks)
    accuracy = {
        (name, split): [Fraction(c, total) for c in counts] for (name, _, split, total), counts in tasks.items()
    }
    names = {role: list(dict.fromkeys(n for n, r, *_ in tasks if r == role)) for role in ("patching", "supported")}

    def mean(role, at, split="validation"):
        return sum(accuracy[name, split][at] for name in names[role]) / len(names[role])

    sides = {alpha: (mean("patching", k), mean("supported", k)) for k, alpha in enumerate(GRID)}
    alpha = choose(sides, rule, tolerance)
    text, at = summarise(outcome_of(curve, alpha, rule, tolerance), run="r"), GRID.index(alpha)
    loss = sides[0.0][1] - sides[alpha][1]
    assert text.startswith("Nothing was patched") == (alpha == 0)
    if alpha != 0:
        assert f"on test images at alpha {alpha:.2f}: " in text
        for name in [*names["patching"], *names["supported"]]:
            gain = 100 * float(accuracy[name, "test"][at] - accuracy[name, "test"][0])
            [said] = re.findall(rf"{name} ([+-][\d.]+)", text.split(" on test images")[0])
            assert float(said) == pytest.approx(gain, abs=0.051)
    limit = re.search(r"stays within ([\d.]+) points? of zero-shot|loses nothing on validation", text)
    assert bool(limit) == (rule == "supported_within" and alpha != 0)
    if limit:
        assert loss <= Fraction(str(limit[1] or 0)) / 100
    alone = re.search(r"although (\w+) alone loses ([\d.]+) points", text)
    worst = max(
        names["supported"], key=lambda name: accuracy[name, "validation"][0] - accuracy[name, "validation"][at]
    )
    most = accuracy[worst, "validation"][0] - accuracy[worst, "validation"][at]
    assert bool(alone) == bool(limit and most > Fraction(str(tolerance)))
    if alone:
        assert float(alone[2]) == pytest.approx(100 * float(most), abs=0.0051)
    on_test = mean("supported", 0, "test") - mean("supported", at, "test")
    assert ("but not on test images" in text) == bool(limit and on_test > Fraction(str(tolerance)))
    improvable = any(side[0] > sides[0.0][0] for side in sides.values())
    assert ("without losing" in text) == (rule == "supported_within" and alpha == 0 and improvable)
    check_the_alternative(text, sides, alpha, rule)


def check_the_alternative(text, sides, alpha, rule):
    command = re.search(r"`hf-paint select r (.*?)` (keeps more|would choose|would patch nothing)", text)
    if command is None:
        others = [choose(sides, "supported_within", 0.01)] if rule == "mean" else []
        others += [a for a in sides if sides[a][0] > sides[0.0][0]] if rule != "mean" and alpha == 0 else []
        assert not set(others) - {alpha}
        return
    flags = command[1].split()
    other = choose(sides, "supported_within", float(flags[1]) if flags[0] == "--tolerance" else 0.01)
    assert other != alpha
    if other == 0:
        assert command[2] == "would patch nothing"
        return
    if flags[0] == "--tolerance":  # the least that helps
        assert choose(sides, "supported_within", round(float(flags[1]) - 0.001, 3)) == 0 or float(flags[1]) == 0
    assert (command[2] == "keeps more") == (alpha != 0 and sides[other][1] > sides[alpha][1])
    promise = re.search(r"alpha ([\d.]+), with .*? ([+-][\d.]+) and .*? ([+-][\d.]+) on validation images\.$", text)
    assert float(promise[1]) == other
    for said, side, side_0 in zip(promise.groups()[1:], sides[other], sides[0.0], strict=True):
        assert float(said) == pytest.approx(100 * float(side - side_0), abs=0.051)
