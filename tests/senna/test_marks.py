"""Image marks are no words: processors that read the prompt, and streamers that print it, never see one."""

from __future__ import annotations

import pytest
import torch
from transformers import LogitsProcessor, LogitsProcessorList, TextIteratorStreamer

from senna_autoprune import build_policy
from tests.senna.tiny import question, tiny_model, tiny_processor, views

OPTIONS = [
    {"repetition_penalty": 1.5},
    {"no_repeat_ngram_size": 2},
    {"encoder_repetition_penalty": 1.3},
    {"encoder_no_repeat_ngram_size": 2},
]


@pytest.fixture(scope="module")
def scene():
    model, processor = tiny_model(), tiny_processor()
    return model, processor, processor(text=[question(2)], images=[views(2)], return_tensors="pt")


def adjusted(row, words, prompt, options):
    """The stock rules, by hand, over words without marks."""
    (name, value), row = next(iter(options.items())), row.clone()
    seen = sorted(set(prompt if name.startswith("encoder") else words))
    if name == "repetition_penalty":
        row[seen] = torch.where(row[seen] < 0, row[seen] * value, row[seen] / value)
    elif name == "encoder_repetition_penalty":
        row[seen] = torch.where(row[seen] < 0, row[seen] / value, row[seen] * value)
    else:
        said = prompt if name.startswith("encoder") else words
        pairs = zip(said[:-1], said[1:], strict=True)
        row[[after for before, after in pairs if before == words[-1]]] = float("-inf")
    return row


@pytest.mark.parametrize("pruned", [False, True])
@pytest.mark.parametrize("options", OPTIONS)
def test_processors_read_words_only(scene, options, pruned):
    model, _, inputs = scene
    plain = {"max_new_tokens": 5, "do_sample": False, "return_dict_in_generate": True, "output_logits": True}

    def generate():
        return model.generate(**inputs, **options, **plain)

    if pruned:
        with build_policy("random", retention=0.4)(model):
            output = generate()
    else:
        output = generate()
    prompt = [word if word >= 0 else 1 for word in inputs["input_ids"][0].tolist()]
    assert prompt[0] == 1 and -200 in inputs["input_ids"]
    words = list(prompt)
    for row, token in zip(output.logits, output.sequences[0, len(words) :].tolist(), strict=True):
        assert int(adjusted(row[0], words, prompt, options).argmax()) == token
        words.append(token)


def test_a_callers_processor_reads_words_only(scene):
    model, _, inputs = scene
    seen = []

    class Watching(LogitsProcessor):
        def __call__(self, input_ids, scores):
            seen.append(input_ids)
            return scores

    model.generate(**inputs, max_new_tokens=3, do_sample=False, logits_processor=LogitsProcessorList([Watching()]))
    assert len(seen) == 3 and all((ids >= 0).all() for ids in seen)
    assert seen[2].shape[1] == inputs["input_ids"].shape[1] + 2


def test_a_streamer_prints_the_prompt_without_marks(scene):
    model, processor, inputs = scene
    expected = model.generate(**inputs, max_new_tokens=4, do_sample=False)[0]
    streamer = TextIteratorStreamer(processor.tokenizer, timeout=60)
    model.generate(**inputs, max_new_tokens=4, do_sample=False, streamer=streamer)
    assert "".join(streamer) == processor.tokenizer.decode(expected[expected >= 0])


def test_labels_of_a_pruned_question_are_spread_over_its_positions(scene):
    """Labels may count marks or positions; the loss is that of the last words' logits, none of which is ever dropped."""
    model, _, inputs = scene
    ids = inputs["input_ids"]
    labels = torch.full_like(ids, -100)
    labels[:, -3:] = ids[:, -3:]
    with build_policy("autoprune", retention=0.4)(model) as trace, torch.no_grad():
        output = model(**inputs, labels=labels)
        rows = model(**inputs, logits_to_keep=4).logits[0]
    assert trace[0].average_tokens < 0.5 * trace[0].visual_tokens
    expected = torch.nn.functional.cross_entropy(rows[:-1], ids[0, -3:])
    torch.testing.assert_close(output.loss, expected)
    assert output.logits.shape[1] == trace[0].visual_tokens + trace[0].text_tokens
