"""Attribution equals automatic differentiation and finite differences, and padding claims nothing."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.replay.attribution import (
    adapter_attribution,
    gelu_slope,
    kept_attribution,
    normalised,
    projector_gain,
    survivors,
    token_attribution,
)
from senna_autoprune.senna.vision import TokenAdapter, build_projector
from tests.replay.twins import difference_attribution, jacobian_attribution

P, T, CV, D, K = 9, 4, 5, 6, 3


class Vision(nn.Module):
    """Projector and adapter as Senna has them, weights wide enough for the GELUs to bend."""

    def __init__(self, seed: int, dtype: torch.dtype = torch.float32) -> None:
        super().__init__()
        torch.manual_seed(seed)
        self.mm_projector = build_projector(CV, D)
        self.img_adapter = TokenAdapter(P, K, T)
        for value in self.parameters():
            nn.init.normal_(value, std=0.7)
        self.to(dtype)

    def path(self, patches: torch.Tensor) -> torch.Tensor:
        return self.img_adapter(self.mm_projector(patches)[None])[0]


def patches_of(seed: int, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.randn(P, CV, generator=torch.Generator().manual_seed(seed)).to(dtype)


@pytest.mark.parametrize("seed", range(5))
def test_equals_jacrev_through_projector_and_adapter(seed: int) -> None:
    vision, patches = Vision(seed), patches_of(seed)
    projected = vision.mm_projector(patches)
    found = adapter_attribution(vision.img_adapter.adapter, projected, projector_gain(vision.mm_projector, patches))
    torch.testing.assert_close(found, jacobian_attribution(vision.path, patches), rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_equals_jacrev_through_the_adapter_alone(seed: int) -> None:
    vision = Vision(seed)
    projected = vision.mm_projector(patches_of(seed)).detach()
    twin = jacobian_attribution(lambda z: vision.img_adapter(z[None])[0], projected)
    torch.testing.assert_close(adapter_attribution(vision.img_adapter.adapter, projected), twin, rtol=1e-4, atol=1e-6)


def test_equals_finite_differences() -> None:
    vision, patches = Vision(7, torch.float64), patches_of(7, torch.float64)
    with torch.no_grad():
        twin = difference_attribution(vision.path, patches).float()
        found = token_attribution(vision, vision.mm_projector(patches)[None], patches[None])[0]
    torch.testing.assert_close(found, twin, rtol=1e-4, atol=1e-6)


def test_depends_on_the_input() -> None:
    vision = Vision(1)
    first, second = (token_attribution(vision, vision.mm_projector(x)[None], x[None]) for x in (patches_of(1), patches_of(2)))
    assert not torch.allclose(first, second, rtol=0.05)


@pytest.mark.parametrize("chunk", [1, 40, 1 << 20])
def test_chunks_change_nothing(chunk: int) -> None:
    vision, patches = Vision(3), patches_of(3)
    projected = vision.mm_projector(patches).detach()
    gain = projector_gain(vision.mm_projector, patches, chunk)
    torch.testing.assert_close(gain, projector_gain(vision.mm_projector, patches))
    whole = adapter_attribution(vision.img_adapter.adapter, projected, gain)
    torch.testing.assert_close(adapter_attribution(vision.img_adapter.adapter, projected, gain, chunk), whole)


def test_padding_claims_nothing_and_views_sum_to_one() -> None:
    vision = Vision(4)
    features = torch.stack([patches_of(4), patches_of(5)])
    mask = torch.ones(2, P, dtype=torch.bool)
    mask[:, :3] = False
    found = token_attribution(vision, vision.mm_projector(features), features, mask)
    assert found.shape == (2, T, P) and (found[..., :3] == 0).all() and (found[..., 3:] > 0).all()
    kept = torch.tensor([[True, False, True, False], [False] * 4])
    heat = normalised(kept_attribution(found, kept))
    assert heat[0].sum() == pytest.approx(1.0) and (heat[1] == 0).all()
    torch.testing.assert_close(kept_attribution(found, kept)[0], found[0, 0] + found[0, 2])


def test_without_an_adapter_a_token_is_its_patch() -> None:
    found = token_attribution(nn.Module(), torch.randn(2, P, D), None)
    kept = survivors([torch.tensor([0, 4, P + 2])], (P, P))
    heat = kept_attribution(found, kept)[0]
    assert heat.nonzero().tolist() == [[0, 0], [0, 4], [1, 2]]


def test_survivors_of_layers() -> None:
    flags = survivors([torch.arange(6), torch.tensor([1, 5])], (3, 3))
    assert flags.shape == (2, 2, 3) and flags[0].all()
    assert flags[1].tolist() == [[False, True, False], [False, False, True]]
    with pytest.raises(SennaPruneError, match="views of one size"):
        survivors([torch.arange(3)], (1, 2))


def test_unknown_layers_are_refused() -> None:
    tanh = nn.Sequential(nn.Linear(P, K), nn.Tanh(), nn.Linear(K, K), nn.GELU(), nn.Linear(K, T))
    with pytest.raises(SennaPruneError, match="exact GELUs"):
        adapter_attribution(tanh, torch.randn(P, D))
    rough = nn.Sequential(nn.Linear(CV, D), nn.GELU(approximate="tanh"), nn.Linear(D, D))
    with pytest.raises(SennaPruneError, match="exact GELUs"):
        projector_gain(rough, torch.randn(P, CV))


def test_slope_of_the_gelu() -> None:
    x = torch.linspace(-6, 6, 101, dtype=torch.float64, requires_grad=True)
    (slope,) = torch.autograd.grad(nn.functional.gelu(x).sum(), x)
    np.testing.assert_allclose(gelu_slope(x).detach(), slope, atol=1e-12)
