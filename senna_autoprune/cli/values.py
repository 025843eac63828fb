"""Option values that several commands share: parsing them, and filling in the embedded model and questions."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Any

from senna_autoprune.device import cores, has_gpu
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.files.yaml_files import parse_range, read_value, read_yaml

EMBEDDED_BATCH = 16  # its layers are so small that in fewer the start of operations is a good part of a question's time
MOST_PROCESSES = 4
# with one of these the user says who computes, or asks for too little to pay for the start of several models
ALONE = frozenset({"workers", "engine", "device", "limit", "limit_scenes"})


def parse_shares(text: str) -> list[float]:
    """``0.2,0.25`` or ``0.20:0.40:0.05`` (start:stop:step, the stop included) -> shares in (0, 1].

    Raises:
        SennaPruneError: if the text is neither.
    """
    try:
        shares = parse_range(text, shares=True)
    except ValueError:
        raise SennaPruneError(f"--retention {text!r}: write shares as 0.2,25% or as start:stop:step, e.g. 0.20:0.40:0.05") from None
    if not all(0 < share <= 1 for share in shares):
        raise SennaPruneError(f"--retention {text!r}: shares of visual tokens lie in (0, 1]")
    return shares


def parse_counts(option: str, text: str | None) -> list[int]:
    """``1,2,8`` -> [1, 2, 8], each once, ascending; None: none.

    Raises:
        SennaPruneError: if the text is no such list of whole numbers from 1 to 1024.
    """
    if text is None:
        return []
    counts = [int(part) if part.strip().isdecimal() and len(part.strip()) < 5 else 0 for part in text.split(",")]
    if not all(1 <= count <= 1024 for count in counts):
        raise SennaPruneError(f"{option} {text!r}: write whole numbers from 1 to 1024, e.g. {option} 1,2,4,8")
    return sorted(set(counts))


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


def parse_method_option(text: str) -> tuple[str | None, str, Any]:
    """``autoprune.gamma=0.1`` of a ``--set`` -> ("autoprune", "gamma", 0.1); ``gamma=0.1`` -> (None, "gamma", 0.1).

    Raises:
        SennaPruneError: if it has no name, no "=", or a value that is no YAML.
    """
    named, value = parse_option(text)
    method, dot, option = named.rpartition(".")
    if dot and not (method.strip() and option.strip()):
        raise SennaPruneError(f"--set {text}: write it as NAME=VALUE or METHOD.NAME=VALUE, like --set autoprune.gamma=0.1")
    return (method.strip() or None), option.strip(), value


def with_method_options(given: dict[str, Any], texts: Iterable[str]) -> dict[str, Any]:
    """The flags of a command that runs one method, with ``METHOD:NAME=VALUE`` of ``--method`` and all ``--set`` as its options.

    Raises:
        SennaPruneError: a ``--set`` of another method, or one that cannot be read; the same option set twice.
    """
    from senna_autoprune.pruning.methods.registry import split_variant

    name, parts = split_variant(str(given.get("method", "autoprune")))
    values = [parse_option(part) for part in parts]
    for text in texts:
        method, option, value = parse_method_option(text)
        if method not in (None, name):
            raise SennaPruneError(f"--set {text}: the method is {name}, not {method}; choose it with --method {method}")
        values.append((option, value))
    options: dict[str, Any] = {}
    for option, value in values:
        if option in options or (option in ("mode", "scope") and option in given):
            raise SennaPruneError(f"the option {option} is given twice: leave one of them out")
        options[option] = value
    flags: dict[str, Any] = {
        option: options.pop(option) for option in ("mode", "scope") if option in options
    }  # these have flags of their own
    return {**given, **({"method": name} if parts else {}), **flags, **({"options": options} if options else {})}


def one_method(method: str, texts: Iterable[str]) -> tuple[str, dict[str, Any]]:
    """The method of a command without flags for ``mode`` and ``scope``, and all of its options: ("autoprune", {"mode": "release"}).

    Raises:
        SennaPruneError: as ``with_method_options``.
    """
    asked = with_method_options({"method": method}, texts)
    flags = {option: asked[option] for option in ("mode", "scope") if option in asked}
    return str(asked["method"]), {**asked.get("options", {}), **flags}


def options_by_method(texts: Iterable[str], methods: str | None) -> dict[str, dict[str, Any]]:
    """All ``--set`` of a command that runs several methods: {"autoprune": {"gamma": 0.1}}.

    Args:
        methods: as the command line names them; where it is a single one, ``--set`` need not name it.
    Raises:
        SennaPruneError: one that names no method where there are several, or one that does not run, or that cannot be read.
    """
    from senna_autoprune.evaluation.runs.rows import PRUNING_CONTROLS
    from senna_autoprune.pruning.methods.registry import split_variant

    named = {split_variant(part.strip())[0] for part in (methods or "all").split(",")}
    only = next(iter(named)) if len(named) == 1 and named != {"all"} else None
    options: dict[str, dict[str, Any]] = {}
    for text in texts:
        method, option, value = parse_method_option(text)
        method = method or only
        if method is None:
            raise SennaPruneError(f"--set {text}: several methods run, so write it as METHOD.NAME=VALUE, like --set autoprune.gamma=0.1")
        if "all" not in named and method not in {*named, *PRUNING_CONTROLS}:
            raise SennaPruneError(f"--set {text}: {method} is not among --methods {methods}")
        options.setdefault(method, {})[option] = value
    return options


def said_keys(given: Collection[str], config_file: str | None) -> set[str]:
    """Configuration keys that the user gave, on the command line or in a file."""
    return {*given, *(read_yaml(config_file) if config_file is not None else ())}


def fill_in_embedded(config: Any, console: Any, said: Collection[str] | None = None) -> None:
    """Take the embedded model and questions where neither is given, and say so.

    Args:
        config: with ``model`` and ``questions``.
        said: of ``said_keys``: its questions go in batches, unless a size was said, and all of them to a process a core, unless
            one of ``ALONE`` was; None: they do not.
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
    if said is not None and "batch_size" not in said:
        config.batch_size = EMBEDDED_BATCH
    if said is not None and not ALONE & set(said) and cores() > 1 and not has_gpu():
        config.workers = min(cores(), MOST_PROCESSES)
    console.print(f"using the embedded model and questions (none given): {demo.LABEL}")
