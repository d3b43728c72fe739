import pytest
import torch

from hf_paint import InputError, iso_c, iso_cts
from task_matrices import (
    MATRICES,
    assert_as_the_oracle,
    assert_merged,
    changes,
    iso_c_written_out,
    iso_cts_written_out,
    matrix_models,
)
from tensors import distance


@pytest.mark.parametrize("num_tasks", [2, 3, 8])
def test_equals_the_paper_written_out(num_tasks):
    models = matrix_models(num_tasks)
    assert_merged(iso_c(*models), *models, iso_c_written_out)
    assert_merged(iso_cts(*models), *models, iso_cts_written_out(0.8))
    for common_fraction in (0.3, 0.5, 1.0):
        result = iso_cts(*models, common_fraction=common_fraction)
        assert_merged(result, *models, iso_cts_written_out(common_fraction))


@pytest.mark.parametrize(
    ("key", "merge"),
    [
        ("iso_c", iso_c),
        ("iso_cts_0.8", iso_cts),
        ("iso_cts_0.5", lambda *models: iso_cts(*models, common_fraction=0.5)),
    ],
)
def test_the_same_as_reference_code(key, merge, shared):
    assert_as_the_oracle(shared, key, merge)


def test_every_singular_value_is_the_mean():
    theta_0, thetas = matrix_models(3)
    for merge in (iso_c, iso_cts):
        result = merge(theta_0, thetas)
        for name in MATRICES:
            values = torch.linalg.svdvals(result[name] - theta_0[name])
            torch.testing.assert_close(values, values.mean().expand_as(values))


def test_all_directions_common_is_iso_c():
    models = matrix_models(3)
    matrices = (
        {name: models[0][name] for name in MATRICES},
        {m: {n: t[n] for n in MATRICES} for m, t in models[1].items()},
    )
    assert distance(iso_cts(*matrices, common_fraction=1.0), iso_c(*matrices)) < 1e-12


def test_one_task_beside_an_unchanged_model_keeps_its_directions():
    """Iso-C of one task vector is its polar factor; directions of a single task are all its own, so Iso-CTS agrees."""
    theta_0, thetas = matrix_models(1)
    pair = {"a": thetas["a"], "b": theta_0}
    result = iso_c(theta_0, pair)
    for name in MATRICES:
        tau = torch.from_numpy(iso_c_written_out(changes(theta_0, thetas, name)))
        torch.testing.assert_close(result[name], theta_0[name] + tau, rtol=0, atol=1e-12)


@pytest.mark.parametrize("common_fraction", [0.5, 0.8])
def test_directions_that_no_task_has_stay_unchanged(common_fraction):
    """Changes of rank 2 in the same rows: the sum has rank 4, and rounding errors outside of it are no directions."""
    generator = torch.Generator().manual_seed(0)
    theta_0 = {"w": torch.zeros(20, 30, dtype=torch.float64)}
    factors = [[torch.randn(n, 2, generator=generator, dtype=torch.float64) for n in (20, 30)] for _ in "ab"]
    thetas = {task: {"w": left @ right.T} for task, (left, right) in zip("ab", factors, strict=True)}
    for merged in (iso_c(theta_0, thetas), iso_cts(theta_0, thetas, common_fraction=common_fraction)):
        values = torch.linalg.svdvals(merged["w"])
        expected = torch.linalg.svdvals(thetas["a"]["w"] + thetas["b"]["w"])[:4].mean()
        torch.testing.assert_close(values[:4], expected.expand(4))
        assert values[4] < 1e-12


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_changes_that_cancel_each_other_out_add_up_to_nothing(dtype):
    tau = torch.arange(12.0).view(3, 4).to(dtype)
    theta_0, thetas = {"w": torch.zeros(3, 4, dtype=dtype)}, {"a": {"w": tau}, "b": {"w": -tau}}
    for merged in (iso_c(theta_0, thetas), iso_cts(theta_0, thetas, common_fraction=1.0)):
        assert torch.equal(merged["w"], theta_0["w"])


@pytest.mark.parametrize("common_fraction", [0, -0.1, 1.1, float("nan")])
def test_a_wrong_fraction(common_fraction):
    with pytest.raises(InputError, match="common_fraction must be above 0 and at most 1, got"):
        iso_cts(*matrix_models(2), common_fraction=common_fraction)
