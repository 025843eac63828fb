"""Indicators layer by layer, against the attention and the hidden states that stock transformers return."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.answering.calibration import measure_indicators
from senna_autoprune.evaluation.answering.depth import DepthProbe, by_layer
from senna_autoprune.evaluation.answering.questions import load_questions
from tests import twins
from tests.evaluation.conftest import Place
from tests.evaluation.sweeps import sweep_config, talking
from tests.models import six_blocks, tiny_llama


def test_every_layer_equals_stock_attention_and_hidden_states() -> None:
    model = tiny_llama(attention="eager")
    embeds, mask = six_blocks()
    visual = mask[0].nonzero().flatten()
    text, asking = (~mask[0]).nonzero().flatten(), torch.arange(int(visual[-1]) + 1, embeds.shape[1])
    probe = DepthProbe()
    with torch.no_grad():
        with probe(model, visual_mask=mask):
            model(inputs_embeds=embeds)
        stock = model(inputs_embeds=embeds, output_attentions=True, output_hidden_states=True)
    (found,) = probe.found
    assert {len(row) for row in found.values()} == {len(stock.attentions)}
    for layer, attention in enumerate(stock.attentions):
        rows = attention[0][:, asking][:, :, visual]  # (H, T, V)
        states = stock.hidden_states[layer][0]
        assert found["mutual_information"][layer] == pytest.approx(twins.mutual_information(rows), abs=1e-5)
        assert found["attention"][layer] == pytest.approx(float(rows.mean()) * len(visual), abs=1e-5)
        assert found["cosine"][layer] == pytest.approx(
            float(torch.cosine_similarity(states[visual].mean(0), states[text].mean(0), 0)), abs=1e-5
        )


def test_the_layer_that_ranks_as_the_construction_does_is_found(place: Place) -> None:
    questions, root = load_questions(sweep_config(place))
    model = talking().senna
    at_first = measure_indicators(model, questions, root)["mutual_information"]
    stated = [dataclasses.replace(q, attributes={"complexity": str(-value)}) for q, value in zip(questions, at_first, strict=True)]
    found = by_layer(model, [*stated, questions[0]], root)
    assert found["questions"] == len(questions) and found["layers"] == 3
    row = found["types"]["all"]["mutual_information"]
    assert row["read"]["layer"] == 0 and row["read"]["value"] == pytest.approx(-1)  # the sign is told, and -1 is as strong as 1
    assert row["strongest"]["layer"] == 0 and row["by_layer"][0] == row["strongest"]["value"]
    assert next(iter(found["types"])) == "all" and set(found["types"]) == {"all", *(q.type for q in questions)}
    with pytest.raises(SennaPruneError, match="by layer needs three"):
        by_layer(model, questions, root)
