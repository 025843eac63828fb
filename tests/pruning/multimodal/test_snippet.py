"""The ten lines that the package shows for a stock model are run as they stand there, on a tiny checkpoint."""

from __future__ import annotations

import re
import textwrap
from pathlib import Path

from senna_autoprune.pruning import multimodal
from tests.lmms.tiny import save_tiny_llava
from tests.pruning.multimodal.tiny import picture

PAGE = Path(__file__).resolve().parents[3] / "docs" / "your_model.md"


def shown() -> str:
    return textwrap.dedent(re.search(r"\n\n(    from.*?)\n\n\S", multimodal.__doc__, re.DOTALL)[1]).strip()


def test_the_snippet_prunes_a_stock_model(tmp_path, monkeypatch, capsys):
    snippet = shown()
    assert len([line for line in snippet.splitlines() if line]) <= 11
    save_tiny_llava(tmp_path / "llava")
    picture(80, 60).save(tmp_path / "road.jpg")
    monkeypatch.chdir(tmp_path)
    tiny = snippet.replace("llava-hf/llava-1.5-7b-hf", "llava").replace("tokens=64", "tokens=6")
    names = {"__name__": "snippet"}
    exec(compile(tiny, "snippet", "exec", dont_inherit=True), names)
    (sample,) = names["trace"]
    assert sample.visual_tokens == 16 and abs(sample.average_tokens - 6) <= 0.5
    text, counts = capsys.readouterr().out.strip().split("\n", 1)
    assert "ASSISTANT" in text and counts.startswith(str(sample.tokens_per_layer))


def test_the_page_shows_this_snippet():
    blocks = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(encoding="utf-8"), flags=re.DOTALL | re.MULTILINE)
    assert [block.strip() for block in blocks if "AutoModelForImageTextToText" in block] == [shown()]
