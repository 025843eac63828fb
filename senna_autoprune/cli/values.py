"""Option values that several commands share: parsing them, and filling in the embedded model and questions."""

from __future__ import annotations

from typing import Any

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.files.yaml_files import parse_range, read_value


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


def parse_option(text: str) -> tuple[str, Any]:
    """``gamma=0.1`` of a ``--set`` -> ("gamma", 0.1); values are YAML.

    Raises:
        SennaPruneError: if the text has no name, no "=", or a value that is no YAML.
    """
    name, sign, value = text.partition("=")
    if not sign or not name.strip():
        raise SennaPruneError(f"--set {text}: write it as NAME=VALUE, like --set gamma=0.1")
    try:
        return name.strip(), read_value(value)
    except ValueError as error:
        raise SennaPruneError(f"--set {text}: the value cannot be read") from error


def parse_method_option(text: str) -> tuple[str, str, Any]:
    """``autoprune.gamma=0.1`` of a sweep's ``--set`` -> ("autoprune", "gamma", 0.1).

    Raises:
        SennaPruneError: if it does not name a method and one of its options, or the value is no YAML.
    """
    method, _, option = text.partition("=")[0].partition(".")
    if not (method.strip() and option.strip() and "=" in text):
        raise SennaPruneError(f"--set {text}: write it as METHOD.NAME=VALUE, like --set autoprune.gamma=0.1")
    return method.strip(), option.strip(), parse_option(text)[1]


def fill_in_embedded(config: Any, console: Any) -> None:
    """Take the embedded model and questions where neither is given, and say so.

    Args:
        config: with ``model`` and ``questions``.
    Raises:
        SennaPruneError: one is given without the other, or this copy of the package has none embedded.
    """
    from senna_autoprune import demo

    missing = [name for name in ("model", "questions") if getattr(config, name) is None]
    if not missing:
        return
    if len(missing) == 1:
        raise SennaPruneError(f"--{missing[0]} is missing: give both --model DIR and --questions FILE, or neither for the embedded ones")
    found = demo.embedded()
    if found is None:
        raise SennaPruneError("--model and --questions are missing, and this copy has no embedded ones: give --model DIR --questions FILE")
    config.model, config.questions = str(found.model_dir), str(found.questions_file)
    console.print(f"using the embedded model and questions (none given): {demo.LABEL}")
