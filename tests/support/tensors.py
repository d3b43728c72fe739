"""Random weights, and comparisons of tensors."""

import torch


SPECIALS = torch.tensor([-0.0, 0.0, 1e-40, 0.1])


def bits(tensor):
    return tensor.reshape(-1).view(torch.uint8)


def distance(weights, expected):
    assert weights.keys() == expected.keys()
    return max((weights[name].double() - expected[name].double()).abs().max().item() for name in expected)


def models(k=3, dtype=torch.float32):
    generator = torch.Generator().manual_seed(0)
    frozen = {"specials": SPECIALS.to(dtype), "ids": torch.arange(3)}
    sizes = {"w": (64, 33), "b": (64,)}

    def moved():
        return {name: torch.randn(size, generator=generator).to(dtype) for name, size in sizes.items()}

    return moved() | frozen, {name: moved() | frozen for name in "abcde"[:k]}


def taus(theta_0, thetas, name="w"):
    return [theta[name].double() - theta_0[name].double() for theta in thetas.values()]
