"""Random models of matrices and other tensors, and what reference code makes of them."""

import numpy as np
import torch
from safetensors.torch import load_file
from scipy.linalg import polar

from hf_paint.merging.interpolation import add
from tensors import SPECIALS


MATRICES = {"wide.weight": (24, 40), "tall.weight": (33, 20), "position_embedding.weight": (17, 24)}
OTHERS = {"bias": (24,), "patch.weight": (8, 3, 4, 4), "text_projection.weight": (6, 6)}
FROZEN = {"frozen.weight": SPECIALS[:, None], "position_ids": torch.arange(3)[None]}


def matrix_models(num_tasks=3, dtype=torch.float64):
    """Weights before and after fine-tuning on tasks whose changes have something in common."""
    generator = torch.Generator().manual_seed(num_tasks)

    def draw(scale):
        return {n: scale * torch.randn(size, generator=generator) for n, size in (MATRICES | OTHERS).items()}

    frozen = {name: x.to(dtype) if x.is_floating_point() else x for name, x in FROZEN.items()}
    theta_0, common = draw(1.0), draw(0.05)
    thetas = {}
    for task in "abcdefgh"[:num_tasks]:
        own = draw(0.1)
        thetas[task] = {n: (x + common[n] + own[n]).to(dtype) for n, x in theta_0.items()} | frozen
    return {n: x.to(dtype) for n, x in theta_0.items()} | frozen, thetas


def only_matrices(theta_0, thetas):
    """The matrices of all models, in float64."""
    return [
        {name: theta_0[name].double() for name in MATRICES},
        {task: {name: theta[name].double() for name in MATRICES} for task, theta in thetas.items()},
    ]


def changes(theta_0, thetas, name):
    """The task vectors of a tensor, in float64, as arrays."""
    return [(theta[name].double() - theta_0[name].double()).numpy() for theta in thetas.values()]


def assert_merged(result, theta_0, thetas, formula, atol=1e-12):
    """Matrices are merged by the formula, and other tensors averaged."""
    for name in (*MATRICES, *OTHERS):
        taus = changes(theta_0, thetas, name)
        tau = torch.from_numpy(formula(taus) if name in MATRICES else sum(taus) / len(taus))
        torch.testing.assert_close(result[name].double(), theta_0[name].double() + tau, rtol=0, atol=atol)


def assert_as_the_oracle(shared, key, merge):
    """For 2, 3 and 8 tasks."""
    stored = load_file(shared / "oracles/merging/merges.safetensors")
    for num_tasks in (2, 3, 8):
        theta_0, expected = part(stored, f"{num_tasks}/theta_0/"), part(stored, f"{num_tasks}/{key}/")
        thetas = {f"task {i}": part(stored, f"{num_tasks}/theta_{i}/") for i in range(1, num_tasks + 1)}
        result = merge(theta_0, thetas)
        assert result.keys() == expected.keys()
        assert len(expected) == 7
        for name, tau in expected.items():
            torch.testing.assert_close(result[name], add(theta_0[name], tau), rtol=0, atol=1e-9)


def part(stored, prefix):
    return {name.removeprefix(prefix): x for name, x in stored.items() if name.startswith(prefix)}


def turned(theta_0, thetas):
    """The same models with rows and columns of the matrices turned, and a function that does the same to weights."""
    generator = torch.Generator().manual_seed(9)
    turns = {
        name: [torch.linalg.qr(torch.randn(n, n, generator=generator, dtype=torch.float64))[0] for n in size]
        for name, size in MATRICES.items()
    }

    def turn(theta):
        return theta | {name: left @ theta[name] @ right for name, (left, right) in turns.items()}

    return turn(theta_0), {task: turn(theta) for task, theta in thetas.items()}, turn


def tsv_written_out(taus):
    """Algorithm 1 with the polar decomposition of scipy."""
    number = min(taus[0].shape) // len(taus)
    parts = [np.linalg.svd(tau) for tau in taus]
    left = np.hstack([u[:, :number] for u, _, _ in parts])
    right = np.vstack([v[:number] for _, _, v in parts])
    values = np.concatenate([s[:number] for _, s, _ in parts])
    return polar(left)[0] @ np.diag(values) @ polar(right)[0]


def iso_c_written_out(taus):
    """The mean singular value times the polar factor of the sum, by another algorithm than an SVD."""
    total = sum(taus)
    return np.linalg.norm(total, "nuc") / min(total.shape) * polar(total)[0]


def iso_cts_written_out(common_fraction):
    """Section 4, with a projector to the complement of the common space."""

    def merge(taus):
        size, num_tasks = min(taus[0].shape), len(taus)
        own = round((size - int(common_fraction * size)) / num_tasks)
        shared = size - own * num_tasks
        u, s, v = np.linalg.svd(sum(taus))
        lefts, values, rights = [u[:, :shared]], [s[:shared]], [v[:shared]]
        outside = u[:, shared:] @ u[:, shared:].T
        for tau in taus:
            a, b, c = np.linalg.svd(outside @ tau)
            lefts, values, rights = [*lefts, a[:, :own]], [*values, b[:own]], [*rights, c[:own]]
        return np.concatenate(values).mean() * polar(np.hstack(lefts))[0] @ polar(np.vstack(rights))[0]

    return merge
