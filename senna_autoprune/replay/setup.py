"""From the command line's options to a replay: which model, which frames, which setting, which files."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from senna_autoprune.adapters.open import adapter_for
from senna_autoprune.adapters.reading import Reading
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.answering.engine import ModelPlace
from senna_autoprune.evaluation.answering.named import require_named, require_under
from senna_autoprune.evaluation.answering.pictures import compare
from senna_autoprune.evaluation.answering.settings import BUDGET_WORDS, Setting, budget_words
from senna_autoprune.evaluation.config import EvalConfig
from senna_autoprune.evaluation.evaluate import settings_of
from senna_autoprune.evaluation.runs.rows import UNPRUNED
from senna_autoprune.evaluation.runs.store import RunStore
from senna_autoprune.files.regular import require_no_link
from senna_autoprune.files.yaml_files import build
from senna_autoprune.replay.attribution import Through
from senna_autoprune.replay.frames import OnFrame, Replay, make_replay
from senna_autoprune.replay.sources import Source, open_tables, run_source, scene_source, with_wanted
from senna_autoprune.replay.write import check_out

ASKED_THE_SAME = ("dtype", "device", "seed", "prompt_template", "max_new_tokens")  # of a run's configuration


@dataclass
class Job:
    """A replay that is ready to be made. said: what was chosen in the user's place."""

    config: EvalConfig
    source: Source
    setting: Setting
    out: Path
    through: Through
    said: list[str] = field(default_factory=list)

    @property
    def model(self) -> str:
        assert self.config.model is not None
        return self.config.model

    def make(self, on_frame: OnFrame | None = None) -> Replay:
        """Load the model and ask every frame. SennaPruneError: see ``open_model`` and ``make_replay``."""
        from senna_autoprune.evaluation.answering.models import driving_model
        from senna_autoprune.pruning.decoder.check import proof_of

        config = self.config
        model = ModelPlace.of(config).load()
        proof = proof_of(driving_model(model).model)
        replay = make_replay(
            model,
            self.source,
            self.setting,
            budget_words(self.setting),
            seed=config.seed,
            prompt_template=config.prompt_template,
            max_new_tokens=config.max_new_tokens,
            through=self.through,
            on_frame=on_frame,
        )
        return replace(replay, notes=[*replay.notes, *proof.values()])


def prepare(
    scene: str | None = None,
    run: str | None = None,
    flips: str | None = None,
    dataroot: str | None = None,
    version: str | None = None,
    out: str | None = None,
    limit: int | None = None,
    navigation: Any = "fixed",
    views: Any = "fixed",
    attribution: Through = "projector",
    **asked: Any,
) -> Job:
    """Everything that can be checked before a model is loaded.

    Args:
        asked: keys of ``EvalConfig`` as far as the user gave them; those of a run come from its ``config.yaml``.
    Raises:
        SennaPruneError: options that do not go together, a bad budget or method, no such scene or run, an unusable out; a run points to
            what is not among ``asked`` (``require_named``).
    """
    for option, value in (("flips", flips), ("images", asked.get("images"))):
        if value is not None and run is None:
            raise SennaPruneError(f"--{option} belongs to a finished run: name it with --run DIR")
    if run is not None:
        return _of_run(run, scene, flips, dataroot, version, out, limit, attribution, asked)
    said: list[str] = []
    if "model" not in asked or dataroot is None:
        dataroot = _fill_in(asked, dataroot, said)
    config = build(EvalConfig, {**asked, "controls": False}, "the command line")
    setting = settings_of(config)[-1]
    place = check_out(out) if out else None
    nusc = open_tables(dataroot, version)
    source = scene_source(nusc, scene, navigation, views, limit)
    source = with_wanted(source, adapter_for(config.model, config.adapter), nusc)
    source = _labelled(source, config.model, dataroot)
    if scene is None:
        said.append(f"scene {source.title} (--scene names another)")
    return Job(config, source, setting, place or _default_out(source.title, setting), attribution, said)


def _of_run(
    run: str,
    scene: str | None,
    flips: str | None,
    dataroot: str | None,
    version: str | None,
    out: str | None,
    limit: int | None,
    through: Through,
    asked: dict[str, Any],
) -> Job:
    fixed = sorted(set(asked) - {"model", "vision_tower", "adapter", "images", "device", "method"})
    if fixed:
        names = ", ".join("--set" if name == "options" else f"--{name.replace('_', '-')}" for name in fixed)
        raise SennaPruneError(f"{names}: a run is replayed with its own settings; leave it out, or leave out --run")
    place = check_out(out) if out else None
    if place is not None:
        require_no_link(place, Path(run))
    with RunStore.read(run) as store:
        stored = store.config
        try:
            places, settings = stored["places"], stored["settings"]
            values = {key: stored["config"].get(key) for key in ASKED_THE_SAME}
            model = {key: places.get(key) for key in ("model", "vision_tower", "adapter")}
            setting = _stored_setting(run, settings, asked.get("method") or stored["config"].get("method"))
            # a method's name in the run's tables is not its program's
            named = set(asked) if str(asked.get("method")).startswith(str(setting.method)) else set(asked) - {"method"}
            require_named(run, stored, setting.method, named)
            root = Path(asked.get("images") or places["images_root"])
        except (KeyError, TypeError, AttributeError) as error:
            raise SennaPruneError(f"{run}/config.yaml lacks {error}: not written by this senna-prune eval") from error
        chosen = {key: value for key, value in asked.items() if key not in ("images", "method")}
        given = {key: value for key, value in {**values, **model, **chosen}.items() if value is not None}
        config = build(EvalConfig, given, f"{run}/config.yaml")
        if config.model is None:
            raise SennaPruneError(f"{run}/config.yaml names no model: give --model DIR")
        nusc = open_tables(dataroot, version) if dataroot is not None else _tables_of(root)
        flips = "worst" if flips is None and scene is None else flips
        reading = Reading.of(stored.get("adapter"), f"{run}/config.yaml")
        source = _labelled(run_source(store, setting.name, root, scene, flips, limit, nusc, reading), config.model, root)
        asked_of = (shot.question for shot in source.shots)
        shown = {Path(image) for question in asked_of for image in (*question.images, *question.earlier.values())}
        noted = [one for one in store.seen() if root / one.image in shown]
        require_under(shown, root, noted, run)
        compare(noted, root, run, "put it back to replay the run")
    name = f"{Path(run).resolve().name}-{flips or scene}"
    return Job(config, source, setting, place or _default_out(name, setting), through)


def _tables_of(root: Path) -> Any:
    """The tables beside a run's images, if the folder is a data root with one version; else None."""
    return open_tables(root, None) if len(list(root.glob("*/scene.json"))) == 1 else None


def _stored_setting(run: str, settings: dict[str, Any], wanted: Any) -> Setting:
    pruned = {name: entry for name, entry in settings.items() if name != UNPRUNED and entry.get("method")}
    if wanted not in pruned:
        raise SennaPruneError(f"the run {run} has no pruning setting {wanted!r}: --method can be {', '.join(pruned)}")
    entry = pruned[wanted]
    return Setting(wanted, entry["method"], dict(entry.get("options") or {}))


def _fill_in(asked: dict[str, Any], dataroot: str | None, said: list[str]) -> str:
    """What was not given, from the embedded data. Returns the data root."""
    from senna_autoprune.demo import LABEL, embedded

    missing = [name for name, there in (("model", asked.get("model")), ("dataroot", dataroot)) if not there]
    found = embedded()
    if found is None:
        flags = " and ".join(f"--{name}" for name in missing)
        raise SennaPruneError(f"{flags} missing, and no embedded data to stand in: give --model DIR --dataroot DIR")
    asked.setdefault("model", str(found.model_dir))
    said.append(f"using the embedded {' and '.join(missing)} (none given): {LABEL}")
    return dataroot or str(found.dataroot)


def _labelled(source: Source, model: str | None, data: str | Path) -> Source:
    """``source``, which says so if the embedded model or scenes are in it."""
    label = embedded_parts(model, data)
    return replace(source, description=" · ".join(filter(None, (source.description, label))))


def embedded_parts(model: str | None, data: str | Path) -> str | None:
    """The part of ``demo.LABEL`` that is true of a model and a folder of images: both, one of them, or None."""
    from senna_autoprune.demo import LABEL, embedded

    found = embedded()
    if found is None:
        return None
    pairs = zip(LABEL.split(", "), (model, data), (found.model_dir, found.dataroot), strict=True)
    parts = [part for part, given, ours in pairs if given is not None and Path(given).resolve() == ours.resolve()]
    return ", ".join(parts) or None


def _default_out(name: str, setting: Setting) -> Path:
    budget = next((f"{value:g}" for key, value in setting.options.items() if key in BUDGET_WORDS), "own")
    return Path("replays") / re.sub(r"[^A-Za-z0-9._-]+", "-", f"{name}-{setting.name}-{budget}")
