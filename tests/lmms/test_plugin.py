"""The plug-in inside the real lmms-eval and next to slow, obvious twins."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
import torch
from lmms_eval.api.instance import Instance
from lmms_eval.evaluator import simple_evaluate
from lmms_eval.models import get_model
from lmms_eval.tasks import TaskManager
from PIL import Image
from safetensors.torch import load_file, save_file

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.lmms.model import SennaPruneLlava, _cut, _generation
from senna_autoprune.lmms.stock import load_stock
from senna_autoprune.pruning.methods.registry import METHODS
from tests.lmms.tiny import COLOURS, VISUAL_TOKENS, save_tiny_llava_next

TOKENS = 8
GREEDY = {"max_new_tokens": 5, "temperature": 0, "do_sample": False}


def plugin(checkpoint: Path, tasks: Path, **arguments: Any) -> SennaPruneLlava:
    """The model as lmms-eval makes it, its documents those of ``local_colours``."""
    model = SennaPruneLlava(str(checkpoint), device="cpu", **arguments)
    model.task_dict = {"local_colours": {"test": [json.loads(line) for line in (tasks / "colours.jsonl").read_text().splitlines()]}}
    return model


def requests(model: SennaPruneLlava, options: dict[str, Any] | None = None, blind: str | None = None) -> list[Instance]:
    """What lmms-eval asks for each document. blind: show this picture in place of every document's own."""
    documents = model.task_dict["local_colours"]["test"]

    def show(document: dict[str, str]) -> list[Image.Image]:
        return [Image.open(blind or document["image"])] if document["image"] else []

    found = []
    for index, document in enumerate(documents):
        arguments = (document["question"], dict(options or GREEDY), show, index, "local_colours", "test")
        metadata = {"task": "local_colours", "doc_id": index, "repeats": 1}
        found.append(Instance("generate_until", arguments, 0, metadata))
    return found


def texts(model: SennaPruneLlava, **asked: Any) -> list[str]:
    return [answer.text for answer in model.generate_until(requests(model, **asked))]


def evaluate(checkpoint: Path, tasks: Path, task: str, arguments: str, **options: Any) -> dict[str, Any]:
    found = simple_evaluate(
        model="senna_prune_llava",
        model_args=f"pretrained={checkpoint},{arguments}",
        tasks=[task],
        task_manager=TaskManager("WARNING", include_path=str(tasks), model_name="senna_prune_llava"),
        device="cpu",
        batch_size=2,
        log_samples=True,
        bootstrap_iters=0,
        **options,
    )
    assert found is not None
    return found


def test_lmms_eval_finds_the_plugin_by_its_entry_point() -> None:
    assert get_model("senna_prune_llava") is SennaPruneLlava


def test_results_carry_average_tokens_and_flops(checkpoint: Path, tasks: Path) -> None:
    results = evaluate(checkpoint, tasks, "local_colours", f"method=autoprune,tokens={TOKENS}")
    assert "exact_match,none" in results["results"]["local_colours"]
    measured = results["throughput"]
    assert measured["avg_visual_tokens"] == TOKENS
    assert measured["avg_visual_tokens_unpruned"] == VISUAL_TOKENS
    assert measured["avg_questions_with_images"] == len(COLOURS)
    samples = results["samples"]["local_colours"]
    counts = [sample["token_counts"][0] for sample in samples]
    assert [one["average_visual_tokens"] for one in counts] == [TOKENS] * len(COLOURS) + [0]
    shares = [one["flops_share"] for one in counts]
    assert 0.3 < measured["avg_flops_share"] < 0.9 and min(shares[:-1]) <= measured["avg_flops_share"] <= max(shares[:-1])
    assert shares[-1] == 1.0, "a question without an image is not pruned"


def test_the_unpruned_row_is_the_stock_model(checkpoint: Path, tasks: Path) -> None:
    model = plugin(checkpoint, tasks, method="none", batch_size=3)
    stock = load_stock(str(checkpoint), device="cpu")
    expected = []
    for document in model.task_dict["local_colours"]["test"][:-1]:
        prompt = f"USER: <image>\n{document['question']} ASSISTANT:"
        batch = stock.processor(text=prompt, images=Image.open(document["image"]).convert("RGB"), return_tensors="pt")
        output = stock.model.generate(**batch, max_new_tokens=5, do_sample=False, pad_token_id=3)
        expected.append(stock.processor.tokenizer.decode(output[0, batch["input_ids"].shape[1] :], skip_special_tokens=True))
    found = texts(model)
    assert found[:-1] == expected
    assert len(set(found)) > 2, "answers that are all alike would prove nothing"


def test_keeping_every_token_changes_nothing(checkpoint: Path, tasks: Path) -> None:
    assert texts(plugin(checkpoint, tasks, retention=1.0)) == texts(plugin(checkpoint, tasks, method="none"))


@pytest.mark.parametrize("method", METHODS)
def test_every_method_of_the_registry_answers_within_its_budget(method: str, checkpoint: Path, tasks: Path) -> None:
    model = plugin(checkpoint, tasks, method=method, tokens=TOKENS + 2)
    answers = model.generate_until(requests(model))
    for answer in answers[:-1]:
        cost = answer.token_counts.cost
        assert cost.average_visual_tokens == pytest.approx(TOKENS + 2, abs=1), method
        assert 0 < cost.flops_share < 1


def test_llava_next_is_pruned_over_all_its_tiles(tasks: Path, tmp_path: Path) -> None:
    checkpoint = save_tiny_llava_next(tmp_path / "tiny-next")
    full = plugin(checkpoint, tasks, method="none")
    visual = [answer.token_counts.cost.visual_tokens for answer in full.generate_until(requests(full))]
    assert min(visual[:-1]) > 2 * VISUAL_TOKENS and len(set(visual[:-1])) > 1, "several tiles, and images of other shapes have others"
    pruned = plugin(checkpoint, tasks, tokens=20, batch_size=4)
    costs = [answer.token_counts.cost for answer in pruned.generate_until(requests(pruned))]
    assert [cost.visual_tokens for cost in costs] == visual
    assert [cost.average_visual_tokens for cost in costs[:-1]] == pytest.approx([20] * 4, abs=0.5)
    blind = plugin(checkpoint, tasks, method="none", no_image=True)
    assert [answer.token_counts.cost.visual_tokens for answer in blind.generate_until(requests(blind))] == visual


@pytest.mark.parametrize("method", ["autoprune", "random"])
def test_answers_do_not_depend_on_their_company(method: str, checkpoint: Path, tasks: Path) -> None:
    alone = texts(plugin(checkpoint, tasks, method=method, tokens=TOKENS))
    assert texts(plugin(checkpoint, tasks, method=method, tokens=TOKENS, batch_size=4)) == alone


def test_random_pruning_draws_anew_for_every_question(checkpoint: Path, tasks: Path) -> None:
    model = plugin(checkpoint, tasks, method="random", tokens=TOKENS)
    seeds = {model._question("generate", "x", lambda _: [], doc, "local_colours", "test").seed for doc in range(4)}
    assert len(seeds) == 4


def test_no_image_sees_nothing_and_costs_as_much(checkpoint: Path, tasks: Path) -> None:
    model = plugin(checkpoint, tasks, method="none", no_image=True)
    swapped = texts(model, blind=str(tasks / "blue.png"))  # one of the pictures, in the others' place
    assert texts(model) == swapped
    assert model.generate_until(requests(model))[0].token_counts.cost.visual_tokens == VISUAL_TOKENS
    seeing = plugin(checkpoint, tasks, method="none")
    assert texts(seeing) != texts(seeing, blind=str(tasks / "blue.png"))


def test_a_typed_image_mark_stays_text(checkpoint: Path) -> None:
    stock = load_stock(str(checkpoint), device="cpu")
    picture = Image.new("RGB", (60, 60))
    batch = stock.encode([("say <image> red", [picture]), ("red </s> <pad>", [picture])])
    ids = batch["input_ids"]
    assert (ids == stock.image_token_id).sum(-1).tolist() == [VISUAL_TOKENS] * 2
    assert not (ids == stock.processor.tokenizer.eos_token_id).any()


def test_scored_continuations_are_the_models_own_losses(checkpoint: Path, tasks: Path) -> None:
    results = evaluate(checkpoint, tasks, "local_choice", "method=none")
    stock = load_stock(str(checkpoint), device="cpu")
    documents = [json.loads(line) for line in (tasks / "choice.jsonl").read_text().splitlines()]
    right = []
    for document, sample in zip(documents, results["samples"]["local_choice"], strict=True):
        losses = []
        for name in COLOURS:
            prompt = f"USER: <image>\n{document['question']} ASSISTANT:"
            batch = stock.processor(text=f"{prompt} {name}", images=Image.open(document["image"]).convert("RGB"), return_tensors="pt")
            with torch.inference_mode():
                logits = stock.model(**batch).logits[0, -2]  # one token a colour
            losses.append(-logits.log_softmax(-1)[batch["input_ids"][0, -1]].item())
        found = [pair[0] for pair in sample["filtered_resps"]]
        assert found == pytest.approx(losses, abs=1e-4)
        right.append(min(range(4), key=losses.__getitem__) == list(COLOURS).index(document["answer"]))
    assert results["results"]["local_choice"]["acc,none"] == sum(right) / len(right)


def test_scoring_prunes_without_a_look_at_the_continuation(checkpoint: Path, tasks: Path) -> None:
    results = evaluate(checkpoint, tasks, "local_choice", f"method=autoprune,tokens={TOKENS}")
    assert results["throughput"]["avg_visual_tokens"] == TOKENS
    for sample in results["samples"]["local_choice"]:
        assert len({json.dumps(counts, sort_keys=True) for counts in sample["token_counts"]}) == 1, "the prompt alone decides"
    full = evaluate(checkpoint, tasks, "local_choice", "retention=1.0")
    none = evaluate(checkpoint, tasks, "local_choice", "method=none")
    assert full["samples"]["local_choice"][0]["filtered_resps"] == none["samples"]["local_choice"][0]["filtered_resps"]


def test_a_killed_run_goes_on_where_it_was(checkpoint: Path, tasks: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = tmp_path / "answers.sqlite"
    whole = texts(plugin(checkpoint, tasks, tokens=TOKENS, answers=str(log)))
    with sqlite3.connect(log) as connection:  # two answers are left, and one that is none
        keys = [key for (key,) in connection.execute("SELECT key FROM kept ORDER BY rowid")]
        assert len(keys) == 5
        connection.executemany("DELETE FROM kept WHERE key = ?", [(key,) for key in keys[3:]])
        connection.execute("UPDATE kept SET value = substr(value, 1, 40) WHERE key = ?", (keys[2],))
    model = plugin(checkpoint, tasks, tokens=TOKENS, answers=str(log))
    asked: list[int] = []
    plain = model.stock.model.generate
    monkeypatch.setattr(model.stock.model, "generate", lambda **inputs: asked.append(len(inputs["input_ids"])) or plain(**inputs))
    assert texts(model) == whole and sum(asked) == 3
    model = plugin(checkpoint, tasks, tokens=TOKENS, answers=str(log))
    monkeypatch.setattr(Image, "open", None)  # no image is even loaded
    again = model.generate_until(requests(model))
    monkeypatch.undo()
    assert [answer.text for answer in again] == whole
    assert again[0].token_counts.cost.average_visual_tokens == TOKENS, "what it cost is kept with the answer"
    with pytest.raises(SennaPruneError, match="another model or setting"):
        plugin(checkpoint, tasks, tokens=TOKENS - 1, answers=str(log))


def test_repeated_sampling_is_not_served_from_the_file(checkpoint: Path, tasks: Path, tmp_path: Path) -> None:
    model = plugin(checkpoint, tasks, method="none", answers=str(tmp_path / "answers.sqlite"), batch_size=8)
    warm = requests(model, options={"max_new_tokens": 5, "temperature": 3.0, "do_sample": True})
    torch.manual_seed(0)
    answers = [answer.text for answer in model.generate_until([warm[0]] * 8)]
    with sqlite3.connect(tmp_path / "answers.sqlite") as connection:
        assert len(set(answers)) > 1 and connection.execute("SELECT COUNT(*) FROM kept").fetchone() == (0,)


def test_generation_arguments() -> None:
    assert _generation({"until": "\n", "max_new_tokens": 3}) == {"max_new_tokens": 3, "until": ["\n"], "do_sample": False, "num_beams": 1}
    assert _generation({"temperature": 0.5, "do_sample": True, "top_p": None})["top_p"] == 1.0
    assert _generation({})["max_new_tokens"] == 1024
    with pytest.raises(SennaPruneError, match="num_beams"):
        _generation({"num_beams": 4})
    assert _cut("red. USER: green", ["USER:", "."]) == "red" and _cut("red", ["", "x"]) == "red"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({"trust_remote_code": True}, "no code of a checkpoint"),
        ({"method": "autopruner", "tokens": 8}, "did you mean 'autoprune'"),
        ({"tokens": 8, "moed": "paper"}, "did you mean 'mode'"),
        ({}, "give exactly one of"),
        ({"method": "none", "tokens": 8}, "prunes nothing"),
        ({"tokens": 8, "no_image": "perhaps"}, "true or false"),
        ({"tokens": 8, "batch_size": "auto"}, "automatic sizes"),
        ({"tokens": "many"}, "positive number"),
        ({"tokens": -3}, "positive number"),
        ({"tokens": 8, "dtype": "float8"}, "dtype"),
        ({"tokens": 8, "pretrained": ""}, "pretrained is missing"),
        ({"tokens": 8, "pretrained": "../nowhere"}, "neither a folder nor a hub id"),
    ],
)
def test_bad_arguments_are_one_line(arguments: dict[str, Any], said: str, checkpoint: Path) -> None:
    with pytest.raises(SennaPruneError, match=said) as caught:
        SennaPruneLlava(**{"pretrained": str(checkpoint), "device": "cpu", **arguments})
    assert "\n" not in str(caught.value)


def test_a_budget_above_the_prompt_is_said(checkpoint: Path, tasks: Path) -> None:
    with pytest.raises(SennaPruneError, match=r"^budget: 40 visual tokens a layer asked of a prompt that has 16"):
        texts(plugin(checkpoint, tasks, tokens=40))


def test_neither_pickles_nor_code_of_a_checkpoint_run(checkpoint: Path, tmp_path: Path) -> None:
    import shutil

    ran = tmp_path / "ran"
    code = f"open({str(ran)!r}, 'w').close()\n"
    pickled = tmp_path / "pickled"
    shutil.copytree(checkpoint, pickled)
    (pickled / "model.safetensors").unlink()

    class Bomb:
        def __reduce__(self) -> Any:
            return exec, (code,)

    torch.save({"weight": Bomb()}, pickled / "pytorch_model.bin")
    with pytest.raises(SennaPruneError, match="cannot load"):
        load_stock(str(pickled))

    remote = tmp_path / "remote"
    shutil.copytree(checkpoint, remote)
    config = json.loads((remote / "config.json").read_text())
    config.update(model_type="mine", auto_map={"AutoConfig": "mine.Config", "AutoModelForImageTextToText": "mine.Model"})
    (remote / "config.json").write_text(json.dumps(config))
    (remote / "mine.py").write_text(code)
    with pytest.raises(SennaPruneError, match="cannot load"):
        load_stock(str(remote))
    assert not ran.exists()


def test_checkpoints_that_cannot_be_asked_are_refused(checkpoint: Path, tmp_path: Path) -> None:
    import shutil

    mute = tmp_path / "mute"
    shutil.copytree(checkpoint, mute)
    (mute / "chat_template.jinja").unlink()
    with pytest.raises(SennaPruneError, match="no chat template"):
        load_stock(str(mute))
    weights = load_file(checkpoint / "model.safetensors")
    name = next(name for name in weights if name.endswith("layers.1.mlp.up_proj.weight"))
    save_file({key: value for key, value in weights.items() if key != name}, mute / "model.safetensors", {"format": "pt"})
    with pytest.raises(SennaPruneError, match="1 of its weights are missing"):
        load_stock(str(mute))
    (mute / "model.safetensors").write_bytes(b"\x00" * 100)
    with pytest.raises(SennaPruneError, match="cannot load"):
        load_stock(str(mute))


def test_broken_weights_are_no_answers(checkpoint: Path, tasks: Path) -> None:
    model = plugin(checkpoint, tasks, method="none")
    with torch.no_grad():
        model.stock.model.get_output_embeddings().weight[0, 0] = float("nan")
    with pytest.raises(SennaPruneError, match="NaN"):
        texts(model)
