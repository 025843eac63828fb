"""Parsing of option values that several commands share."""

from __future__ import annotations

from senna_autoprune.config import parse_range
from senna_autoprune.errors import SennaPruneError


def parse_shares(text: str) -> list[float]:
    """``0.2,0.25`` or ``0.20:0.40:0.05`` (start:stop:step, the stop included) -> shares in (0, 1].

    Raises:
        SennaPruneError: if the text is neither.
    """
    try:
        shares = parse_range(text)
    except ValueError:
        raise SennaPruneError(f"--retention {text!r}: write shares as 0.2,0.25 or as start:stop:step, e.g. 0.20:0.40:0.05") from None
    if not all(0 < share <= 1 for share in shares):
        raise SennaPruneError(f"--retention {text!r}: shares of visual tokens lie in (0, 1]")
    return shares
