import json
import random

import pytest
import sentencepiece

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.senna.tokenization import SennaTokenizer, decode_bytes, load_sentencepiece, pieces_to_text
from tests.fixtures import shared

SPECIAL = ("</s>", "<s>", "<unk>")


@pytest.fixture(scope="module")
def model_path():
    return shared("fixtures", "senna-tiny-a", "checkpoint", "tokenizer.model")


@pytest.fixture(scope="module")
def tokenizer(model_path):
    return load_sentencepiece(model_path)


@pytest.fixture(scope="module")
def cases():
    return json.loads(shared("fixtures", "senna-tiny-a", "tokenizer_cases_tf4.31.0.json").read_text())


def test_golden_ids(tokenizer, senna, cases):
    """Every recorded case of transformers 4.31.0 without special-token strings; there ours differs on purpose (below)."""
    checked = 0
    for case in cases["encode"]:
        if not any(token in case["text"] for token in SPECIAL):
            assert tokenizer(case["text"]).input_ids == case["ids"], case["text"]
            assert senna.processor.encode_prompt(case["text"]) == case["image_ids"], case["text"]
            checked += 1
    assert checked > 25


def test_special_strings_in_user_text_stay_text(tokenizer, senna, cases):
    """The recordings hold ids 2, 1 and 0 here; a question must not be able to inject them."""
    checked = 0
    for case in cases["encode"]:
        if any(token in case["text"] for token in SPECIAL):
            assert any(index in case["ids"][1:] for index in (0, 1, 2))
            assert not {0, 1, 2} & set(senna.processor.encode_prompt(case["text"])[1:])
            assert tokenizer.decode(tokenizer.encode(case["text"]), skip_special_tokens=True) == case["text"].replace("\u2581", " ")
            checked += 1
    assert checked >= 6


def test_recorded_decoding(tokenizer, cases):
    for case in cases["decode"]:
        assert tokenizer.decode(case["ids"], skip_special_tokens=True) == case["text"]
        assert tokenizer.decode(case["ids"]) == case["text_keep_special"]


def test_equals_sentencepiece_on_random_text(tokenizer, model_path):
    twin = sentencepiece.SentencePieceProcessor(model_file=str(model_path))
    generator = random.Random(0)
    words = [
        " ",
        "  ",
        "\n",
        "\t",
        "\u2581",
        "KEEP",
        "LEFT_CHANGE",
        "FRONT VIEW",
        "speed",
        "6",
        "42",
        "\u00e9",
        "\u4f60",
        "\U0001f697",
        "x",
        "'",
        ".",
    ]
    for _ in range(300):
        text = "".join(generator.choices(words, k=generator.randint(0, 12)))
        assert tokenizer(text, add_special_tokens=False).input_ids == twin.encode(text), repr(text)
    for _ in range(300):
        ids = [generator.randint(3, len(twin) - 1) for _ in range(generator.randint(0, 12))]
        assert tokenizer.decode(ids, skip_special_tokens=True) == twin.decode(ids), ids


def test_bytes_of_broken_characters():
    assert decode_bytes("\u4f60\U0001f697".encode()) == "\u4f60\U0001f697"
    assert decode_bytes(b"\xe4\xbd") == "\ufffd\ufffd"  # a cut character: one replacement a byte
    assert decode_bytes(b"\xed\xa0\x80") == "\ufffd" * 3  # a surrogate is no character
    assert pieces_to_text(["\u2581a", "<0x0A>", "\u2581b"]) == "a\n b"


def test_ids_beyond_the_vocabulary_have_no_text(tokenizer):
    """A model's embedding table is often padded beyond its tokenizer."""
    ids = tokenizer("KEEP, STRAIGHT", add_special_tokens=False).input_ids
    size = len(tokenizer)
    assert tokenizer.decode([size, *ids[:2], size + 100, *ids[2:], 10**6]) == tokenizer.decode(ids) == "KEEP, STRAIGHT"


def test_round_trip(tokenizer, tmp_path, cases):
    tokenizer.save_pretrained(tmp_path)
    again = SennaTokenizer.from_pretrained(tmp_path)
    for case in cases["encode"]:
        assert again(case["text"]).input_ids == tokenizer(case["text"]).input_ids
    assert (again.bos_token_id, again.eos_token_id, again.pad_token_id, again.padding_side) == (1, 2, 0, "left")


def _train(tmp_path, **options):
    corpus = tmp_path / "corpus.txt"
    corpus.write_text("keep straight and keep left\nthe car keeps its lane\n" * 20)
    options = {"model_type": "bpe", "byte_fallback": True, "remove_extra_whitespaces": False, **options}
    sentencepiece.SentencePieceTrainer.train(
        input=str(corpus), model_prefix=str(tmp_path / "tokenizer"), vocab_size=300, minloglevel=2, **options
    )
    return tmp_path / "tokenizer.model"


def test_a_freshly_trained_model_is_exact(tmp_path):
    path = _train(tmp_path, normalization_rule_name="identity")
    twin, ours = sentencepiece.SentencePieceProcessor(model_file=str(path)), load_sentencepiece(path)
    for text in ("keep left", " the  car keeps\nits lane", "\u00e9keep", ""):
        assert ours(text, add_special_tokens=False).input_ids == twin.encode(text)


def test_normalising_model_is_refused(tmp_path):
    with pytest.raises(SennaPruneError, match="normalisation"):
        load_sentencepiece(_train(tmp_path, normalization_rule_name="nmt_nfkc"))


def test_broken_and_missing_models_name_the_file(tmp_path):
    with pytest.raises(SennaPruneError, match=r"tokenizer\.model"):
        load_sentencepiece(tmp_path / "tokenizer.model")
    (tmp_path / "tokenizer.model").write_bytes(b"not a model")
    with pytest.raises(SennaPruneError, match=r"tokenizer\.model"):
        load_sentencepiece(tmp_path / "tokenizer.model")
