"""Stratified draws against their formula, written out row by row."""

import numpy as np
import pytest

from hf_paint.data.draws import draw_stratified


def by_hand(classes, drawn, groups):
    """The formula of `draw_stratified`: one class after another, one group after another."""
    units = list(dict.fromkeys(groups))
    rows = {unit: [row for row, group in enumerate(groups) if group == unit] for unit in units}
    sides = {"train": [], **{name: [] for name in drawn}}
    for label in sorted(set(classes)):
        own = [unit for unit in units if classes[rows[unit][0]] == label]
        order = [own[index] for index in np.random.default_rng(0).permutation(len(own))]
        size = round(len(own) / 5 + 1e-9) if len(drawn) == 2 else int(len(own) / 4 + 0.5)
        for name in drawn:
            sides[name] += order[:size]
            order = order[size:]
        sides["train"] += order
    return {name: sorted(row for unit in own for row in rows[unit]) for name, own in sides.items()}


@pytest.mark.parametrize("drawn", [("test", "validation"), ("validation",), ("test",)])
@pytest.mark.parametrize("grouped", [False, True])
def test_a_draw_is_that_of_the_formula(drawn, grouped):
    generator = np.random.default_rng(3)
    classes = generator.choice(5, size=240, p=[0.5, 0.3, 0.15, 0.04, 0.01])
    groups = generator.integers(40, size=240).tolist() if grouped else range(240)
    found = draw_stratified(classes, drawn, groups if grouped else None)
    assert {name: rows.tolist() for name, rows in found.items()} == by_hand(classes.tolist(), drawn, groups)


def test_all_classes_have_the_same_shares_and_no_row_is_lost():
    classes = np.repeat(np.arange(4), 50)
    found = draw_stratified(classes, ["test", "validation"])
    counts = {name: np.bincount(classes[rows]).tolist() for name, rows in found.items()}
    assert counts == {"train": [30] * 4, "test": [10] * 4, "validation": [10] * 4}
    assert sorted(np.concatenate([*found.values()]).tolist()) == list(range(200))


def test_a_class_is_drawn_without_regard_to_the_others():
    """Whatever other classes there are, and wherever their rows are."""
    alone = draw_stratified(np.zeros(30, dtype=np.int64), ["test", "validation"])
    classes = np.random.default_rng(0).permutation(np.repeat([7, 2], [30, 100]))
    own = np.flatnonzero(classes == 7)
    among = draw_stratified(classes, ["test", "validation"])
    for name, rows in alone.items():
        assert own[rows].tolist() == [row for row in among[name].tolist() if classes[row] == 7]


@pytest.mark.parametrize(
    ("count", "sides"), [(1, (1, 0, 0)), (2, (2, 0, 0)), (3, (1, 1, 1)), (4, (2, 1, 1)), (8, (4, 2, 2))]
)
def test_few_images_of_a_class(count, sides):
    found = draw_stratified(np.zeros(count, dtype=np.int64), ["test", "validation"])
    assert tuple(len(found[name]) for name in ("train", "validation", "test")) == sides


@pytest.mark.parametrize(("count", "sides"), [(1, (1, 0)), (2, (1, 1)), (3, (2, 1)), (5, (4, 1)), (6, (4, 2))])
def test_few_images_of_a_class_in_a_train_split(count, sides):
    found = draw_stratified(np.zeros(count, dtype=np.int64), ["validation"])
    assert (len(found["train"]), len(found["validation"])) == sides


def test_no_group_is_divided():
    classes, groups = np.arange(90) // 30, (np.arange(90) // 3).tolist()
    found = draw_stratified(classes, ["test", "validation"], groups)
    members = [{groups[row] for row in rows} for rows in found.values()]
    assert sum(map(len, members)) == len(set.union(*members)) == 30
