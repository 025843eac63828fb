"""``senna-prune doctor``: exit 0 where pruned numbers can be trusted, 1 where not, 2 with a reason where it cannot prune."""

from __future__ import annotations

import json
from importlib.metadata import version

import pytest
from click.testing import CliRunner

from senna_autoprune import SennaPruneError
from senna_autoprune.cli.doctor import command
from senna_autoprune.pruning.decoder.ranked import Ranked
from tests.adapters.tiny import save
from tests.fixtures import shared


def doctor(*arguments):
    return CliRunner().invoke(command, [str(one) for one in arguments])


@pytest.fixture(scope="module")
def llava(tmp_path_factory):
    return save("llava", tmp_path_factory.mktemp("models") / "llava")


def test_embedded():
    result = doctor("--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 0 and found["check"]["passed"] and found["check"]["difference"] < 1e-5
    assert found["family"] == "senna" and found["check"]["visual_tokens"] == 768
    assert set(found["methods"].values()) == {None}


def test_original_layout():
    assert doctor("--model", shared("fixtures", "senna-tiny-a", "checkpoint"), "--method", "fastv").exit_code == 0


@pytest.mark.parametrize("family", ["llava_next", "qwen2_5_vl", "qwen3_vl", "internvl", "llava_onevision"])
def test_stock_models(family, tmp_path):
    result = doctor("--model", save(family, tmp_path / family), "--json")
    found = json.loads(result.stdout)
    assert result.exit_code == 0 and found["check"]["difference"] < 1e-5 and found["family"] == family
    assert found["methods"]["autoprune"] is None
    assert (found["methods"]["fastervlm"] is None) == (family == "llava_next")


def test_what_it_says(llava):
    said = doctor("--model", llava, "--method", "random", "--attention", "eager").stdout
    for words in (
        f"transformers {version('transformers')}",
        "cpu, float32, attention kernel eager",
        "family           llava, decoder llama: proven",
        "in 6 pictures, by input_ids that are",
        "check            RandomPruning, 4 tokens",
        "passed: pruned runs of this model equal the full-length twin",
    ):
        assert words in said


def test_options_in_a_methods_name_count():
    for given in (["--set", "mode=relase"], ["--method", "autoprune:mode=relase"]):
        result = doctor("--model", "/nowhere", *given)
        assert isinstance(result.exception, SennaPruneError) and "nowhere" not in str(result.exception)


FOLLOW = Ranked.follow
BROKEN = {  # both ways to cut; tokens that are left lose their places
    "autoprune": ("ranked.Ranked.follow", lambda self, source, table: tuple(rows.roll(1, 1) for rows in FOLLOW(self, source, table))),
    "random": ("prefill._take", lambda rows, index: rows[..., : index.shape[1], :]),
}


@pytest.mark.parametrize("method", BROKEN)
def test_broken_on_purpose(llava, monkeypatch, method):
    where, instead = BROKEN[method]
    monkeypatch.setattr(f"senna_autoprune.pruning.decoder.{where}", instead)
    result = doctor("--model", llava, "--method", method)
    assert result.exit_code == 1 and "FAILED: the pruned run differs from its full-length twin" in result.stdout


def test_a_method_that_cannot_act_is_an_error(tmp_path):
    result = doctor("--model", save("qwen3_vl", tmp_path / "model"), "--method", "fastervlm")
    assert isinstance(result.exception, SennaPruneError) and "Qwen3-VL's vision tower has no [CLS] token" in str(result.exception)
