"""The Llama sentencepiece tokenizer of the original checkpoint, as a tokenizer of transformers 5.

transformers 5 has no slow tokenizers, and its ``LlamaTokenizer`` differs from the original in two ways that golden ids
show: it adds no dummy prefix to a chunk that begins with a space, and it decodes broken byte runs otherwise. So the BPE
is built here (``tokenizers``) with sentencepiece's own prefix rule, and decoding follows sentencepiece.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import sentencepiece
from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, processors
from transformers import PreTrainedTokenizerFast
from transformers.convert_slow_tokenizer import generate_merges

from senna_autoprune.errors import SennaPruneError

SPACE = "\u2581"  # sentencepiece's mark for a space
_BYTE = re.compile(r"<0x([0-9A-F]{2})>")
# digits, spaces, bytes, and letters (full-width A, the fi ligature) that text normalisation would change
_PROBE = "A chat  between\ta human: <FRONT VIEW>:\n Caf\u00e9 \u4f60 \U0001f697 \uff21\ufb01 12345 m/s 'KEEP'.\n"


def decode_bytes(data: bytes) -> str:
    """UTF-8 as sentencepiece reads it: each byte that begins no valid character becomes one replacement character."""
    text, at = [], 0
    while at < len(data):
        first = data[at]
        width = 1 if first < 0x80 else 2 if first < 0xE0 else 3 if first < 0xF0 else 4
        try:
            text.append(data[at : at + width].decode("utf-8"))
            at += width
        except UnicodeDecodeError:
            text.append("\ufffd")
            at += 1
    return "".join(text)


def pieces_to_text(pieces: Sequence[str]) -> str:
    """Text of sentencepiece pieces: byte runs joined, one leading space mark (the dummy prefix) dropped."""
    text: list[str] = []
    run = bytearray()
    for index, piece in enumerate(pieces):
        byte = _BYTE.fullmatch(piece)
        if byte:
            run.append(int(byte.group(1), 16))
            continue
        if run:
            text.append(decode_bytes(bytes(run)))
            run.clear()
        text.append((piece.removeprefix(SPACE) if index == 0 else piece).replace(SPACE, " "))
    text.append(decode_bytes(bytes(run)))
    return "".join(text)


class SennaTokenizer(PreTrainedTokenizerFast):
    """Ids exactly as the original's slow tokenizer (legacy=False) gave them, except for one deliberate difference.

    Strings such as ``</s>``, ``<s>`` and ``<unk>`` inside a text are text: a question must not be able to end, or
    restart, its own prompt. The original turned them into ids 2, 1 and 0 (with spaces round them that changed from
    transformers 4.31.0 to 4.37.2), so its recorded sample ``s4``, which holds all three, differs from ours at these
    strings and nowhere else.
    """

    def convert_tokens_to_string(self, tokens: list[str]) -> str:
        """Text of tokens; special ones are kept as written, with the spaces transformers 4.31 put around them."""
        special = set(self.all_special_tokens)
        text: list[str] = []
        run: list[str] = []
        for index, token in enumerate(tokens):
            if token not in special:
                run.append(token)
                continue
            if index and run:
                text.append(" ")
            text.append(pieces_to_text(run) + token)
            run = []
        return "".join(text) + pieces_to_text(run)

    def _decode(self, token_ids: int | list[int], skip_special_tokens: bool = False, **kwargs: Any) -> str:  # type: ignore[override]
        ids = [token_ids] if isinstance(token_ids, int) else list(token_ids)
        tokens = cast(list[str | None], self.convert_ids_to_tokens(ids, skip_special_tokens=skip_special_tokens))
        return self.convert_tokens_to_string([token for token in tokens if token is not None])  # None: beyond the vocabulary


def load_sentencepiece(path: Path, model_max_length: int = 2048) -> SennaTokenizer:
    """A :class:`SennaTokenizer` from a sentencepiece BPE ``tokenizer.model``; ids unk 0, bos 1, eos 2, pad = unk, left
    padding.

    Raises:
        SennaPruneError: the file is missing or no sentencepiece model, or its text normalisation cannot be reproduced.
    """
    if not path.is_file():
        raise SennaPruneError(f"tokenizer not found: {path} is needed next to the weights")
    try:
        model = sentencepiece.SentencePieceProcessor(model_file=str(path))
    except (RuntimeError, OSError) as error:
        raise SennaPruneError(f"broken tokenizer: {path} is no sentencepiece model") from error
    pieces = [model.id_to_piece(index) for index in range(len(model))]
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    scores = {
        piece: model.get_score(index)
        for index, piece in enumerate(pieces)
        if not (model.is_control(index) or model.is_unknown(index) or model.is_byte(index))
    }
    merges = generate_merges(vocabulary, scores)
    unknown, begin, end = (pieces[index] for index in (model.unk_id(), model.bos_id(), model.eos_id()))
    bpe = models.BPE(vocab=vocabulary, merges=merges, unk_token=unknown, fuse_unk=True, byte_fallback=True)
    backend = Tokenizer(bpe)
    # sentencepiece puts its dummy prefix before any text that is not empty, also before a leading space
    backend.normalizer = normalizers.Sequence([normalizers.Prepend(SPACE), normalizers.Replace(" ", SPACE)])
    backend.decoder = decoders.Sequence([decoders.Replace(SPACE, " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)])
    backend.add_special_tokens([AddedToken(token, normalized=False, special=True) for token in (unknown, begin, end)])
    backend.post_processor = processors.TemplateProcessing(
        single=f"{begin} $A", pair=f"{begin} $A {begin} $B", special_tokens=[(begin, model.bos_id())]
    )
    tokenizer = SennaTokenizer(
        tokenizer_object=backend,
        unk_token=unknown,
        bos_token=begin,
        eos_token=end,
        pad_token=unknown,
        padding_side="left",
        model_max_length=model_max_length,
        clean_up_tokenization_spaces=False,
        split_special_tokens=True,
    )
    if tokenizer(_PROBE, add_special_tokens=False).input_ids != model.encode(_PROBE):
        raise SennaPruneError(f"unsupported tokenizer: {path} is not a Llama-style sentencepiece BPE without normalisation")
    return tokenizer
