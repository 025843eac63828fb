"""Our Muon against PyTorch's, which rounds to bfloat16 on the way."""

import torch
from torch import nn

from demo_model.muon import Muon, orthogonalised


def test_singular_values_come_near_one():
    torch.manual_seed(0)
    for shape in ((3, 8, 8), (2, 8, 20), (2, 20, 8)):
        matrices = torch.randn(shape)
        values = torch.linalg.svdvals(orthogonalised(matrices))
        assert orthogonalised(matrices).shape == shape and values.min() > 0.3 and values.max() < 1.3


def test_same_updates_as_torch():
    torch.manual_seed(0)
    shapes = ((12, 12), (12, 12), (12, 30), (30, 12))
    first = [torch.randn(shape) for shape in shapes]
    ours, theirs = ([nn.Parameter(m.clone()) for m in first] for _ in range(2))
    mine = Muon(ours, lr=0.02, weight_decay=0.01, momentum=0.95)
    stock = torch.optim.Muon(theirs, lr=0.02, weight_decay=0.01, momentum=0.95, adjust_lr_fn="match_rms_adamw")
    for _ in range(3):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn_like(a)
            b.grad = a.grad.clone()
        mine.step()
        stock.step()
    for a, b, start in zip(ours, theirs, first, strict=True):
        moved = (b - start).norm()
        assert (a - b).norm() < 0.05 * moved and moved > 0.02
