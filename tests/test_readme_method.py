"""The toy method that the README shows is run as it stands there."""

from __future__ import annotations

import re
from pathlib import Path

import torch

README = Path(__file__).resolve().parents[1] / "README.md"


def toy_method() -> str:
    blocks = re.findall(r"^```python\n(.*?)^```$", README.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    return next(block for block in blocks if "class Toy" in block)


def test_the_toy_method_of_the_readme_prunes():
    snippet, names = toy_method(), {"__name__": "readme"}
    exec(compile(snippet, "README.md", "exec", dont_inherit=True), names)
    sample = names["trace"][0]
    assert sample.tokens_per_layer == [12, 12, 12, 12]
    assert f"`{sample.tokens_per_layer}`" in README.read_text(encoding="utf-8")
    assert sample.kept[0].tolist() == sorted(set(sample.kept[0].tolist()))
    assert len(snippet.strip().splitlines()) <= 20


def test_it_keeps_what_it_promises():
    names = {"__name__": "readme"}
    exec(compile(toy_method(), "README.md", "exec", dont_inherit=True), names)
    embeds = torch.randn(1, 58, 32)
    lengths = torch.arange(48.0).flip(0) + 1
    embeds[0, 4:52] = torch.nn.functional.normalize(embeds[0, 4:52], dim=-1) * lengths[:, None]
    with names["ToyMethod"](retention=0.25)(names["model"], visual_mask=names["mask"]) as trace, torch.no_grad():
        names["model"](inputs_embeds=embeds)
    assert trace[0].kept[-1].tolist() == list(range(12))
