"""The toy method that the page shows is run as it stands there, and measured by its path as the page says."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest
import torch

from senna_autoprune import build_policy
from tests.docs.pages import DOCS, blocks, text_of
from tests.models import six_blocks, tiny_llama

PAGE = DOCS / "add_a_method.md"


def toy_method() -> str:
    return next(block for block in blocks(PAGE, "python") if "class Toy" in block)


def test_the_toy_method_prunes() -> None:
    snippet, names = toy_method(), {"__name__": "page"}
    exec(compile(snippet, PAGE.name, "exec", dont_inherit=True), names)
    sample = names["trace"][0]
    assert sample.tokens_per_layer == [12, 12, 12, 12]
    assert f"`{sample.tokens_per_layer}`" in text_of(PAGE)
    assert sample.kept[0].tolist() == sorted(set(sample.kept[0].tolist()))
    assert len([line for line in snippet.splitlines() if line.strip()]) <= 20


def test_it_keeps_what_it_promises() -> None:
    names = {"__name__": "page"}
    exec(compile(toy_method(), PAGE.name, "exec", dont_inherit=True), names)
    embeds = torch.randn(1, 58, 32)
    lengths = torch.arange(48.0).flip(0) + 1
    embeds[0, 4:52] = torch.nn.functional.normalize(embeds[0, 4:52], dim=-1) * lengths[:, None]
    with names["ToyMethod"](retention=0.25)(names["model"], visual_mask=names["mask"]) as trace, torch.no_grad():
        names["model"](inputs_embeds=embeds)
    assert trace[0].kept[-1].tolist() == list(range(12))


def test_it_is_found_by_its_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "mymethods.py").write_text(toy_method().split("\n\n\nmodel = ")[0])
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.delitem(sys.modules, "mymethods", raising=False)
    model = tiny_llama()
    embeds, mask = six_blocks()
    with build_policy("mymethods:ToyMethod", retention=0.25)(model, visual_mask=mask) as trace, torch.no_grad():
        model(inputs_embeds=embeds)
    assert trace[0].retention_tokens == pytest.approx(0.25, abs=0.01)
