import pytest
import torch
from transformers import AutoProcessor

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.senna import SennaProcessor
from tests.senna.conftest import recorded
from tests.senna.tiny import TOKENS, question, tiny_processor, views


@pytest.mark.parametrize("name", ["s0", "s1", "s2", "s3"])
def test_recorded_ids(senna, name):
    recording = recorded(name)
    batch = senna.processor(text=recording.question, images=recording.images)
    assert batch["input_ids"].tolist() == [recording.dump["input_ids"].tolist()]
    assert batch["attention_mask"].all()
    assert abs(batch["pixel_values"][0].numpy() - recording.pixels).max() <= 1e-5
    assert batch["patch_mask"].shape == (1, 6, 576)


def test_recorded_ids_of_s4_differ_only_at_special_strings(senna):
    """s4's question holds ``</s> <s> <unk>``: ids 2, 1, 0 in the recording, plain text here."""
    recording = recorded("s4")
    ours = senna.processor(text=recording.question, images=recording.images)["input_ids"][0].tolist()
    theirs = recording.dump["input_ids"].tolist()
    start = theirs.index(2)
    end = len(theirs) - theirs[::-1].index(0)  # after the last special id
    assert ours[: start - 1] == theirs[: start - 1]  # the id before is the space mark, which joins with "<" in our text
    assert ours[len(ours) - (len(theirs) - end) :] == theirs[end:]
    assert not {0, 1, 2} & set(ours[1:])
    # with the strings taken out, nothing differs
    plain = recording.question.replace("</s> <s> <unk> ", "")
    middle = [*theirs[: start - 1], *theirs[end:]]
    assert senna.processor(text=plain, images=recording.images)["input_ids"][0].tolist() == middle


def test_training_wording(senna, s0):
    eval_text, train_text = (
        senna.processor.decode(
            senna.processor(text=s0.question, images=s0.images, prompt_template=name)["input_ids"][0],
            skip_special_tokens=True,
        )
        for name in ("eval", "train")
    )
    assert eval_text.replace("human", "user") == train_text != eval_text


def test_decoding_drops_marks(senna, s0):
    batch = senna.processor(text=s0.question, images=s0.images)
    text = senna.processor.decode(batch["input_ids"][0], skip_special_tokens=True)
    assert text == s0.run["prompt"].replace("<image>", " ")  # each chunk's dummy prefix shows as a space
    assert senna.processor.batch_decode(batch["input_ids"], skip_special_tokens=True) == [text]
    assert senna.processor.decode(batch["input_ids"], skip_special_tokens=True) == [text]
    assert senna.processor.decode(386) == "KEEP"


def test_left_padding():
    processor = tiny_processor()
    batch = processor(text=[question(1), question(1, "longer?")], images=[views(1), views(1, 1)])
    short = processor(text=question(1), images=views(1))["input_ids"][0].tolist()
    gap = batch["input_ids"].shape[1] - len(short)
    assert gap > 0
    assert batch["input_ids"][0].tolist() == [0] * gap + short
    assert batch["attention_mask"].tolist() == [[0] * gap + [1] * len(short), [1] * (gap + len(short))]
    assert batch["pixel_values"].shape == (2, 1, 3, 32, 32)


def test_answers_become_labels():
    processor = tiny_processor()
    batch = processor(text=[question(1), question(1)], images=[views(1)] * 2, answers=["keep", "stop now"])
    said = [[*processor.encode_chunk(text), 2] for text in ("keep", "stop now")]
    for row, ids in enumerate(said):
        assert batch["input_ids"][row, -len(ids) :].tolist() == ids
        assert batch["labels"][row].tolist() == [-100] * (batch["labels"].shape[1] - len(ids)) + ids
    assert processor.decode_answers(batch["input_ids"], batch["input_ids"].shape[1] - len(said[1]))[1] == "stop now"


def test_questions_without_images_for_reused_features():
    processor = tiny_processor()
    with_images = processor(text=question(2), images=views(2))
    without = processor(text=question(2))
    assert set(without) == {"input_ids", "attention_mask"}
    assert torch.equal(without["input_ids"], with_images["input_ids"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"text": question(2), "images": []}, "zero views"),
        ({"text": "go?", "images": []}, "zero views"),
        ({"text": "go?"}, "zero views"),
        ({"text": "go?", "images": views(1)}, "0 <image> marks but 1 images"),
        ({"text": question(2), "images": views(3)}, "2 <image> marks but 3 images"),
        ({"text": [question(2)] * 2, "images": [views(2), views(3)]}, "same number of views"),
        ({"text": [question(2)] * 3, "images": [views(2), views(2)]}, "3 questions but 2 lists"),
        ({"text": question(2), "images": [views(1), views(1)[0]]}, "mixes"),
        ({"text": question(1), "images": ["/no/such.jpg"]}, r"/no/such\.jpg"),
        ({"text": question(1), "images": [7]}, "int"),
        ({"images": views(1)}, "text is missing"),
        ({"text": []}, "empty list"),
        ({"text": question(1), "images": views(1), "prompt_template": "chat"}, "chat"),
        ({"text": question(1), "images": views(1), "answers": ["a", "b"]}, "1 questions but 2 answers"),
        ({"text": question(1), "images": views(1), "return_tensors": "np"}, "return_tensors"),
        ({"text": question(1), "images": views(1), "colour": 1}, "colour"),
    ],
)
def test_user_errors(arguments, message):
    with pytest.raises(SennaPruneError, match=message):
        tiny_processor()(**arguments)


def test_position_limit():
    processor = tiny_processor()
    ids = processor(text=question(2), images=views(2))["input_ids"]
    length = ids.shape[1] + 2 * (TOKENS - 1)
    processor.prompt_max_length = length
    processor(text=question(2), images=views(2))
    processor.prompt_max_length = length - 1
    with pytest.raises(SennaPruneError, match=f"{length} positions .* limit is {length - 1}"):
        processor(text=question(2), images=views(2))


def test_small_tokenizer_round_trip(tmp_path):
    processor = tiny_processor()
    processor.save_pretrained(tmp_path)
    wanted = processor(text=question(2, "<s>go</s>?"), images=views(2))
    assert not {1, 2} & set(wanted["input_ids"][0, 1:].tolist())  # special strings are text for any tokenizer
    for again in (SennaProcessor.from_pretrained(tmp_path), AutoProcessor.from_pretrained(tmp_path)):
        assert isinstance(again, SennaProcessor)
        assert again.num_visual_tokens == TOKENS
        batch = again(text=question(2, "<s>go</s>?"), images=views(2))
        assert all(torch.equal(batch[name], wanted[name]) for name in wanted)
