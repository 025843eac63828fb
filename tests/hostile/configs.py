"""Configuration files and flags: tags, aliases, unknown keys, wrong types, numbers beyond all use."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from itertools import pairwise
from pathlib import Path

from tests.hostile.case import Corpus, Place
from tests.hostile.world import QUICK

CASES = Corpus("configuration")


def _yaml(name: str, content: str | bytes | Callable[[Place], str], line: str, command: str = "eval") -> None:
    """A configuration file with this content."""

    def make(place: Place) -> list[str]:
        text = content(place) if callable(content) else content
        path = place.input / "config.yaml"
        path.write_bytes(text if isinstance(text, bytes) else text.encode())
        return [command, "--config", str(path), "--model", str(place.world.checkpoint), "--questions", str(place.world.questions)]

    CASES.add(name if command == "eval" else f"{name} ({command})", make, line)


# --- what YAML can do -------------------------------------------------------------------------------------------------

TAG = r"config\.yaml:?\d*:? not a valid configuration"
for tag, value in {
    "python/object/apply:os.system": "['touch {pwned}']",
    "python/object/new:os.system": "['touch {pwned}']",
    "python/object:subprocess.Popen": "{{args: ['touch', '{pwned}']}}",
    "python/name:os.system": "''",
    "python/module:os": "''",
    "python/tuple": "[1, 2]",
    "python/bytes": "'x'",
    "ruby/object:Gem::Installer": "{{}}",
    "int": "'abc'",
    "float": "'abc'",
    "bool": "'perhaps'",
    "timestamp": "'never'",
    "binary": "'no base 64 \u00e9'",
    "set": "[1]",
    "omap": "[1]",
    "pairs": "[1]",
    "null": "'something'",
}.items():
    shown = f"!<tag:yaml.org,2002:{tag}> {value}"
    _yaml(
        f"tag !!{tag}",
        lambda place, text=shown: "method: " + text.format(pwned=place.pwned),
        rf"{TAG}|method: Input should be a valid string",
    )
_yaml("tag as a key", "!!python/name:os.system '': 1", TAG)
_yaml("tag of the document", "!!python/object/apply:os.getcwd []", TAG)
_yaml("local tag", "method: !evil autoprune", TAG)
_yaml(
    "anchors bomb",
    "a: &a [x,x]\n" + "".join(f"{b}: &{b} [*{a},*{a},*{a},*{a}]\n" for a, b in pairwise("abcdefghi")),
    r"aliases are not allowed",
)
_yaml("anchor that holds itself", "a: &a [*a]", r"aliases are not allowed")
_yaml("merge of an alias", "a: &a {method: random}\n<<: *a", r"aliases are not allowed")
_yaml("merge of a number", "<<: 7", TAG)
_yaml("key twice", "seed: 1\nseed: 2", r"the key 'seed' is given twice")
_yaml("two documents", "seed: 1\n---\nseed: 2", TAG)
_yaml("nested beyond all depth", "[" * 5000, TAG)
_yaml("nested mappings", "{a: " * 600 + "1" + "}" * 600, TAG + r"|unknown key")
_yaml("larger than a configuration", "# " + "x" * 2_000_000, r"is larger than \d+ bytes")
_yaml("as large as a configuration may be", "x: [" + "1, " * 16_000 + "]", r"unknown key 'x'")
_yaml("binary", bytes(range(256)), TAG)
_yaml("zeros", bytes(100), TAG)
_yaml("Latin-1", "method: caf\u00e9".encode("latin-1"), TAG)
_yaml("UTF-16 without its end", "method: random".encode("utf-16")[:-1], TAG)
_yaml("control codes", "method: \x1b[2J", TAG)
_yaml("tab as indentation", "options:\n\tgamma: 1", TAG)
_yaml("unclosed quote", 'method: "autoprune', TAG)
_yaml("list", "- method: random", r"a configuration is a mapping")
_yaml("text", "autoprune", r"a configuration is a mapping")
_yaml("keys are numbers", "1: 2", r"a configuration is a mapping")
_yaml("key is a list", "? [a, b]\n: 1", TAG)
_yaml("integer of 10,000 digits", "seed: " + "9" * 10_000, TAG)
_yaml("date that is none", "method: 2001-99-99", TAG)
_yaml("lone surrogate", 'method: "\\ud800"', r"config\.yaml.*(not text|not a valid configuration)")
_yaml("lone surrogate in a path", 'out: "\\ud800"', r"config\.yaml.*(not text|not a valid configuration)")
_yaml("zero byte in a path", 'out: "a\\0b"', r"config\.yaml.*(not text|not a valid configuration)")
_yaml("terminal codes in a path", 'out: "\\e[2J"', r"config\.yaml.*(not text|not a valid configuration)")

# --- unknown keys, wrong types ----------------------------------------------------------------------------------------

for key, value, line in (
    ("retnetion", 0.5, r"unknown key 'retnetion' \(did you mean 'retention'\?\)"),
    ("__class__", "os", r"unknown key '__class__'"),
    ("", 1, r"unknown key ''"),
    ("retention", "much", r"retention: Input should be a valid number"),
    ("retention", 0, r"retention: Input should be greater than 0"),
    ("retention", 1.5, r"retention: Input should be less than or equal to 1"),
    ("retention", -1, r"retention: Input should be greater than 0"),
    ("retention", [0.5], r"retention: Input should be a valid number"),
    ("retention", {"a": 1}, r"retention: Input should be a valid number"),
    ("tokens", -5, r"tokens: Input should be greater than 0"),
    ("tokens", 10**400, r"tokens"),
    ("method", 5, r"method: Input should be a valid string"),
    ("method", "os.system", r"method 'os.system' is unknown"),
    ("method", "", r"method '' is unknown"),
    ("method", "../../evil", r"method '\.\./\.\./evil' is unknown"),
    ("mode", "fast", r"mode: Input should be 'paper' or 'release'"),
    ("types", [], r"types: give question types"),
    ("types", [["plan"]], r"types: unknown question type"),
    ("types", [{"a": 1}], r"types: unknown question type"),
    ("types", 5, r"types: give question types"),
    ("limit", 0, r"limit: Input should be greater than or equal to 1"),
    ("limit", "x", r"limit: Input should be a valid integer"),
    ("max_new_tokens", 10**9, r"max_new_tokens: Input should be less than or equal to 4096"),
    ("batch_size", -1, r"batch_size: Input should be greater than or equal to 1"),
    ("seed", 2**40, r"seed: Input should be less than"),
    ("seed", 10**400, r"seed"),
    ("resamples", 10**12, r"resamples: Input should be less than or equal to 100000"),
    ("dtype", "int8", r"dtype: Input should be .*'float32'"),
    ("device", "meta", r"device meta cannot be used"),
    ("device", "", r"device .*cannot be used"),
    ("device", "cuda:999", r"device cuda:-?\d+ cannot be used"),
    ("device", "mps", r"device mps cannot be used"),
    ("device", "__import__('os')", r"device .* cannot be used"),
    ("options", [1], r"options: Input should be a valid dictionary"),
    ("options", {"gamma": [1]}, r"options"),
    ("options", {"gamma": {"a": 1}}, r"options"),
    ("options", {"no_such": 1}, r"no_such"),
    ("options", {"gamma": "much"}, r"gamma"),
    ("options", {"layer_list": 3}, r"has no option 'layer_list'"),
    ("options", {"__init__": 1}, r"__init__"),
    ("options", {"self": 1}, r"self"),
    ("options", {"curve": "exec"}, r"curve"),
    ("options", {"seed": 1}, r"seed has a place of its own"),
    ("controls", "perhaps", r"controls: Input should be a valid boolean"),
    ("model", ["a"], r"model: Input should be a valid string"),
    ("out", 7, r"out: Input should be a valid string"),
):
    shown = json.dumps({key: value})
    _yaml(f"{key} is {str(value)[:30]!r}", shown, line)
for name in ("retention", "tokens", "tokens_per_view"):
    for number in (".nan", ".inf", "-.inf"):
        _yaml(f"{name} is {number}", f"{name}: {number}", rf"{name}: Input should be")
_yaml("two budgets", "retention: 0.5\ntokens: 3", r"both state a budget")
_yaml("option is NaN", "options: {gamma: .nan}", r"options|gamma")

# --- the same for a sweep ---------------------------------------------------------------------------------------------

for key, value, line in (
    ("methods", 7, r"methods: Input should be"),
    ("methods", ["os.system"], r"unknown method 'os.system'"),
    ("methods", ["autoprune:gamma"], r"write a method's options as NAME=VALUE"),
    ("methods", ["autoprune:gamma=!!python/name:os.system ''"], r"write a method's options as NAME=VALUE"),
    ("methods", ["autoprune:gamma=2001-99-99"], r"write a method's options as NAME=VALUE"),
    ("methods", ["autoprune:gamma=" + "[" * 5000], r"write a method's options as NAME=VALUE"),
    ("methods", ["autoprune:gamma=" + "9" * 5000], r"write a method's options as NAME=VALUE"),
    ("methods", ["autoprune"] * 100_000, r"is larger than|methods"),
    ("retention", "0.2:0.4:1e-300", r"retention: write 0\.2,(0\.25|25%) or start:stop:step"),
    ("retention", "0.2:0.4:1e-9", r"retention: write 0\.2,(0\.25|25%) or start:stop:step"),
    ("retention", "0.2:inf:0.1", r"retention: write 0\.2,(0\.25|25%) or start:stop:step"),
    ("retention", "nan", r"retention"),
    ("retention", "0.4:0.2:0.1", r"retention: write 0\.2,(0\.25|25%) or start:stop:step"),
    ("retention", [], r"shares lie in"),
    ("retention", [2], r"shares lie in"),
    ("tokens_per_view", [-3], r"give numbers > 0"),
    ("calibration", -1, r"calibration: Input should be greater"),
    ("calibration", 10**400, r"calibration"),
    ("ablation", ["everything"], r"ablation"),
    ("options", {"os": {"system": 1}}, r"unknown method 'os'"),
    ("options", {"autoprune": [1]}, r"options"),
    ("types", ["vru"], r"the types must hold plan"),
    ("figures", "many", r"figures: Input should be a valid boolean"),
):
    _yaml(f"{key} is {str(value)[:40]!r}", json.dumps({key: value}), line, "sweep")

# --- the file itself --------------------------------------------------------------------------------------------------


def _place(name: str, put: Callable[[Path, Place], object], line: str) -> None:
    def make(place: Place) -> list[str]:
        path = place.input / "config.yaml"
        put(path, place)
        return ["eval", "--config", str(path)]

    CASES.add(name, make, line)


_place("missing file", lambda path, _: None, r"cannot read the configuration .*No such file")
_place("folder", lambda path, _: path.mkdir(), r"is no regular file")
_place("link to itself", lambda path, _: path.symlink_to(path.name), r"cannot read the configuration .*Too many levels")
_place("endless device", lambda path, _: path.symlink_to("/dev/zero"), r"is no regular file")
_place("sparse file of 100 GB", lambda path, _: (path.touch(), os.truncate(path, 100 << 30)), r"is larger than \d+ bytes")

# --- flags ------------------------------------------------------------------------------------------------------------


def _flags(name: str, flags: list[str], line: str, command: str = "eval") -> None:
    def make(place: Place) -> list[str]:
        given = ["--model", str(place.world.checkpoint), "--questions", str(place.world.questions)]
        out = ["--out", "run"] if command != "calibrate" else []
        return [command, *given, *out, *(QUICK[2:] if command == "eval" else ()), *flags]

    CASES.add(f"{name} ({command} flags)", make, line)


_flags("retention is NaN", ["--retention", "nan"], r"retention: nan: a share")
_flags("retention is a word", ["--retention", "all"], r"is no share")
_flags("tokens are infinite", ["--tokens", "inf"], r"tokens: Input should be")
_flags("more tokens than there are", ["--tokens", "1e300"], r"the nearest possible is")
_flags("fewer tokens than possible", ["--tokens", "1e-300"], r"the nearest possible")
_flags("option without a value", ["--set", "gamma"], r"write it as NAME=VALUE")
_flags("option with a tag", ["--set", "gamma=!!python/object/apply:os.system ['true']"], r"the value cannot be read")
_flags("option that is no date", ["--set", "gamma=2001-99-99"], r"the value cannot be read")
_flags("option nested beyond all depth", ["--set", "gamma=" + "[" * 5000], r"the value cannot be read")
_flags("option of 5,000 digits", ["--set", "gamma=" + "9" * 5000], r"the value cannot be read")
_flags("option that is no truth", ["--set", "gamma=!!bool x"], r"the value cannot be read")
_flags("option twice its own name", ["--set", "retention=0.5", "--retention", "0.5"], r"retention has a place of its own")
_flags("limit of 30 digits", ["--limit", "9" * 30, "--types", "motion"], r"has no question of type motion")
_flags("images is a file", ["--retention", "0.6", "--images", "/dev/null"], r"not one of 2 samples has all its images")
_flags("a surrogate from the shell", ["--retention", "0.6", "--out", "run\udcff"], r"not text")
_flags("shares beyond counting", ["--methods", "random", "--retention", "0.1:1:1e-12"], r"start:stop:step", "sweep")
_flags("option that is no date", ["--methods", "random", "--set", "random.a=2001-99-99"], r"the value cannot be read", "sweep")
_flags("option nested beyond all depth", ["--methods", "random", "--set", "random.a=" + "[" * 5000], r"the value cannot be read", "sweep")
_flags("count of one", ["--count", "1"], r"not in the range", "calibrate")
_flags("device of nothing", ["--device", "abacus"], r"device abacus cannot be used", "calibrate")
