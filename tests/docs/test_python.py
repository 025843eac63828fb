"""Every block of Python on a page runs as it stands there: only names of checkpoints are put in place of the reader's."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import pytest
import torch

from senna_autoprune.adapters import load_adapter
from tests.adapters import tiny as stock
from tests.docs.pages import DOCS, PAGES, ROOT, blocks, name_of
from tests.models import six_blocks, tiny_llama
from tests.pruning.multimodal.tiny import picture
from tests.senna.tiny import question, tiny_model, tiny_processor, views

COVERED = {  # page -> blocks; the other two tests say what runs them
    "README.md": 1,
    "docs/your_model.md": 3,  # the third: tests/pruning/multimodal/test_snippet.py
    "docs/add_a_method.md": 1,  # test_add_a_method.py
    "docs/add_a_model.md": 1,
}


def run(page: Path, number: int, **names: Any) -> dict[str, Any]:
    exec(compile(blocks(page, "python")[number], f"{page.name}:{number}", "exec", dont_inherit=True), names)
    return names


@pytest.fixture(scope="module")
def senna(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("senna") / "path" / "or"
    tiny_model().save_pretrained(folder / "hub-id")
    tiny_processor().save_pretrained(folder / "hub-id")
    return folder.parents[1]


def test_no_block_is_left_out() -> None:
    assert {name_of(page): len(blocks(page, "python")) for page in PAGES if blocks(page, "python")} == COVERED


@pytest.mark.parametrize("page", [ROOT / "README.md", DOCS / "your_model.md"], ids=name_of)
def test_senna_is_loaded_pruned_and_asked(page: Path, senna: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(senna)  # where "path/or/hub-id" is
    asked, images = question(6), views(6)
    source = blocks(page, "python")[0].replace("retention=0.25", "retention=0.6")  # three layers, and the first runs on everything
    names: dict[str, Any] = {"question": asked, "images": images, "__name__": "page"}
    monkeypatch.setattr("builtins.print", lambda *words: None)
    shorter = source.replace("kept[5]", "kept[2]")
    exec(compile(shorter, page.name, "exec", dont_inherit=True), names)
    assert names["trace"][0].retention_tokens == pytest.approx(0.6, abs=0.02)
    assert names["ids"].shape[1] > names["batch"]["input_ids"].shape[1]


def test_any_decoder_is_pruned() -> None:
    llama = tiny_llama()
    embeds, mask = six_blocks()
    from senna_autoprune import AutoPrune

    scores = torch.rand(1, 96)
    trace = run(DOCS / "your_model.md", 1, AutoPrune=AutoPrune, llama=llama, mask=mask, scores=scores, embeds=embeds)["trace"]
    assert trace[0].tokens_per_layer[-1] < 96


def test_a_stock_family_is_opened_pruned_and_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    logging.getLogger("transformers").setLevel(logging.ERROR)
    stock.save("qwen2_5_vl", tmp_path / "my-qwen")
    picture(112, 56).save(tmp_path / "road.jpg")
    monkeypatch.chdir(tmp_path)
    page = DOCS / "add_a_model.md"
    source = blocks(page, "python")[0].replace("/models/my-qwen", "my-qwen").replace("retention=0.25", "retention=0.5")
    exec(compile(source, page.name, "exec", dont_inherit=True), {"__name__": "page"})
    assert "Is the road free?" in capsys.readouterr().out


def test_the_adapter_of_the_page_is_valid(tmp_path: Path) -> None:
    (source,) = blocks(DOCS / "add_a_model.md", "yaml")
    (tmp_path / "page.yaml").write_text(source)
    adapter = load_adapter(str(tmp_path / "page.yaml"))
    assert adapter.family == "qwen2_5_vl" and adapter.views.frames == (-0.5, 0.0) and adapter.parse.count == 6
