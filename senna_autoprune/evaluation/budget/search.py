"""The driver of ``senna-prune budget``: asks what the next decision needs, and no more; every answer is in the run's store.

First half: unpruned, no-image, unpruned again (noise floor), then the candidates from the largest budget down. Second half,
in blocks of scenes: unpruned and the chosen method, budget by budget, until one is not shown to be safe. Interrupted, the same
command asks only what is missing; looks are recomputed from the stored answers and come out the same.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from senna_autoprune.adapters.reading import Reading
from senna_autoprune.errors import SennaPruneError
from senna_autoprune.evaluation.answering.driver import OnRow, Prepared, answer_all, engine_of
from senna_autoprune.evaluation.answering.engine import Asking, Engine
from senna_autoprune.evaluation.answering.settings import Setting
from senna_autoprune.evaluation.budget import certificate
from senna_autoprune.evaluation.budget.ahead import AGAIN, Ahead, Job
from senna_autoprune.evaluation.budget.answers import Pairs, texts_of
from senna_autoprune.evaluation.budget.check import check, directory_of
from senna_autoprune.evaluation.budget.choose import Tried, best, candidate_grid, default_margin, explore
from senna_autoprune.evaluation.budget.config import LARGEST_MARGIN, LARGEST_MARGIN_M, SAFETY, BudgetConfig
from senna_autoprune.evaluation.budget.deployable import deployable
from senna_autoprune.evaluation.budget.design import Design
from senna_autoprune.evaluation.budget.each import certify_each
from senna_autoprune.evaluation.budget.outcome import L2, Outcome, Texts
from senna_autoprune.evaluation.budget.reach import refuse_margin, refuse_metres, safety_of
from senna_autoprune.evaluation.budget.sequence import Look, Rules, examine, in_sequence
from senna_autoprune.evaluation.budget.strata import strata
from senna_autoprune.evaluation.evaluate import describe
from senna_autoprune.evaluation.measures.clusters import clusters_of, scene_warning
from senna_autoprune.evaluation.measures.cost import cost_beside
from senna_autoprune.evaluation.measures.distances import Gains
from senna_autoprune.evaluation.measures.parsing import parse_road_users
from senna_autoprune.evaluation.measures.verdict import BLIND, METRES, SAFE, Evidence, passes, signed
from senna_autoprune.evaluation.runs.identity import CERTIFIED
from senna_autoprune.evaluation.runs.rows import NO_IMAGE, UNPRUNED, UNREACHABLE, AnswerRow, QuestionRow
from senna_autoprune.evaluation.runs.store import RunStore
from senna_autoprune.evaluation.sweep.cells import calibrated, needs_calibration
from senna_autoprune.evaluation.sweep.config import RowSpec
from senna_autoprune.files.atomic import write_atomically

if TYPE_CHECKING:
    from senna_autoprune.senna import Senna

SCHEMA = 1
RESULT = "budget.json"


@dataclass
class BudgetResult:
    """``certificate``: plain data, as in budget.json; ``failed``: answers that could not be had."""

    directory: Path
    certificate: dict[str, Any]
    rows: int
    failed: int


def search(
    config: BudgetConfig,
    engine: Engine | Senna,
    on_row: OnRow | None = None,
    say: Callable[[str], None] = lambda line: None,
    retry_failed: bool = False,
    force: bool = False,
) -> BudgetResult:
    """Find the smallest budget that is safe on these questions, and write ``budget.json`` into the run directory.

    Args:
        on_row: gets each row, how many answers there are, and how many there will be at most.
        say: gets a line about each step and each look. force: go on although the first ten unpruned plans cannot be read.
    Raises:
        SennaPruneError: bad questions or run directory, other margins than the run was begun with, a margin below the noise floor.
    """
    engine = engine_of(engine)
    facts = engine.facts()
    reading = Reading.of(facts.adapter)
    questions, root, plan, outcome = check(config, reading)
    directory, config = directory_of(config), replace(config, measure=outcome.measure)
    unpruned = Setting(UNPRUNED)
    asking = Asking.of(config, [unpruned, Setting(NO_IMAGE, blind=True)], root)
    description = describe(config, facts, Prepared(questions, asking), directory)
    with RunStore.start(directory, description, questions) as store:
        if retry_failed:
            store.forget_failed()
        work = Search(
            config, engine, store, questions, root, plan, outcome, on_row, say, force, calibration=store.config.get("calibration")
        )
        result = {"schema": SCHEMA, "run": description, **work.run()}
        kept = {"calibration": work.calibration} if work.calibration else {}
        store.describe({**description, **kept, CERTIFIED: {"margins": result["margins"]}})
        rows = store.measured()
        store.write_answers()
        write_atomically(store.directory / RESULT, json.dumps(result, indent=1, allow_nan=False) + "\n")
        return BudgetResult(store.directory, result, len(rows), sum(row.status == "failed" for row in rows))


@dataclass
class Search:
    """One run at work."""

    config: BudgetConfig
    engine: Engine
    store: RunStore
    questions: Sequence[QuestionRow]
    root: Path
    plan: Design
    outcome: Outcome
    on_row: OnRow | None
    say: Callable[[str], None]
    force: bool = False
    unreachable: dict[str, str] = field(default_factory=dict)
    calibration: dict[str, Any] | None = None
    _jobs: dict[str, Job] = field(default_factory=dict)

    def __post_init__(self) -> None:
        plan, size = self.plan, Counter(clusters_of(self.questions))
        self.first = plan.choose or (plan.certify if self.config.each else plan.certify[: plan.stops[0]])
        labels = [row.label for row in self.config.candidates]
        self.ahead = Ahead(self.first, plan.choose, plan.certify, size, labels, self.config.grid, self.config.each)

    # --- asking ---------------------------------------------------------------------------------------------------------------------------

    def ask(self, settings: Sequence[Setting], scenes: Iterable[str], batch_size: int | None = None) -> None:
        """Have these settings answer all questions of these scenes."""
        wanted = set(scenes)
        questions = [q for q in self.questions if q.scene in wanted]
        self.ahead.ask([self._jobs.get(one.name, (one.name, 1)) for one in settings], wanted)
        asking = Asking.of(self.config, settings, self.root)
        asking = asking if batch_size is None else replace(asking, batch_size=batch_size)
        prepared, reading = Prepared(questions, asking), self.outcome.reading
        answer_all(self.engine, prepared, self.store, self._on_row, self.unreachable, force=self.force, reading=reading)

    def _on_row(self, row: AnswerRow, done: int, total: int) -> None:
        """Of a step's answers to the whole search's."""
        if self.on_row is not None:
            self.on_row(row, self.ahead.asked - (total - done), self.ahead.most)

    def pairs(self, name: str, scenes: Iterable[str]) -> Pairs:
        """Unpruned against a setting on these scenes."""
        return self.outcome.pair(self._of(scenes), self._said(UNPRUNED), self._said(name))

    def _of(self, scenes: Iterable[str]) -> list[QuestionRow]:
        wanted = set(scenes)
        return [question for question in self.questions if question.scene in wanted]

    def _said(self, name: str) -> Texts:
        return texts_of(self.store.answers(name)).get(name, {})

    def setting(self, row: RowSpec, share: float) -> Setting:
        """The row's setting at a share of tokens; calibrates on the first half where the row asks for it."""
        if needs_calibration(row) and self.calibration is None:
            scenes = set(self.plan.choose or self.plan.certify)
            chosen = [q for q in self.questions if q.scene in scenes][: self.config.calibration]
            self.calibration = self.engine.calibrate(chosen, self.root.resolve(), self.config.prompt_template)
        setting = row.setting(("retention", share), calibrated(row, self.calibration))
        self._jobs[setting.name] = row.label, share
        return setting

    # --- deciding -------------------------------------------------------------------------------------------------------------------------

    def run(self) -> dict[str, Any]:
        """Everything but the run's own description."""
        first = self.first
        if self.outcome.unit != METRES:  # of metres it is known only what an answer may change by once a blind one has been asked
            self._reachable((LARGEST_MARGIN if self.config.margin is None else self.config.margin) / 100)
        unpruned, blind = Setting(UNPRUNED), Setting(NO_IMAGE, blind=True)
        self.say(f"unpruned and no-image on {len(first)} scenes")
        self.ask([unpruned, blind], first)
        controls = self._controls(first)
        self._learn_event(first)
        margin, source = self._margin(controls)
        safety, safety_source = self._safety()
        rules = Rules(margin, safety, self.plan.stops)
        result: dict[str, Any] = {
            "measure": self.outcome.measure,
            "over": self._over(),
            "alpha": rules.alpha,
            "margins": {"margin": margin, "safety": safety, "source": source, "safety_source": safety_source},
            "halves": {"choose": list(self.plan.choose), "certify": list(self.plan.certify), "stops": list(self.plan.stops)},
            "controls": [control.to_dict() for control in controls],
            "warning": scene_warning(len(self.plan.certify)),
        }
        sees_nothing = [control.setting for control in controls if margin <= 0 or passes(control, margin)]
        if (self.plan.choose or self.config.each) and sees_nothing:
            return {**result, **self._blind(sees_nothing[0], max(margin, 0.0))}
        self._reachable(margin)
        result["noise"] = self._noise(first, margin)
        if self.config.each:
            return {**result, **certify_each(self, rules)}
        row, grid, tried = self._choose(rules)
        self.ahead.chosen(row.label, grid)
        result["chosen"] = {"method": row.label, "grid": list(grid), "tried": [one.to_dict() for one in tried]}
        done = in_sequence(grid, lambda share: self._examine(rules, row, share))
        outcome, sentence = certificate.sentence_of(row.label, rules, done, self.outcome.unit)
        if outcome == SAFE:
            scenes = self.plan.certify[: max(looks[-1].scenes for _, looks in done)]
            self.ask([blind], scenes)
            controls = self._controls(scenes)
            result["controls"] = [control.to_dict() for control in controls]
            sees_nothing = [control.setting for control in controls if passes(control, margin)]
            if sees_nothing:
                return {**result, "sequence": self.sequence(row, rules, done), **self._blind(sees_nothing[0], margin)}
        result["sequence"] = self.sequence(row, rules, done)
        result.update(outcome=outcome, sentence=sentence, exit_code=certificate.EXIT[outcome])
        return {**result, **self.beside(row, rules, done)}

    def _controls(self, scenes: Sequence[str]) -> list[Evidence]:
        name, trivial = self.outcome.trivial(self._of(scenes), self._said(UNPRUNED))
        found = [self.pairs(NO_IMAGE, scenes).evidence(NO_IMAGE, None), trivial.evidence(name, None)]
        kept = [one for one in found if one is not None]
        if not kept:
            if self.outcome.measure == L2 and self._said(UNPRUNED):
                raise SennaPruneError("unpruned gave no path as far as the last horizon: see its answers, parse and score of the adapter")
            raise SennaPruneError("no question was answered by the unpruned model: see the failed rows of the run, or --retry-failed")
        return kept

    def _learn_event(self, scenes: Sequence[str]) -> None:
        """What a plan changes by that sees nothing at all (``distances``), on the first scenes; else what one path for all would."""
        if self.outcome.unit != METRES:
            return
        blind, (_, constant) = self.pairs(NO_IMAGE, scenes), self.outcome.trivial(self._of(scenes), self._said(UNPRUNED))
        known = [pairs.counted for pairs in (blind, constant) if pairs.counted.questions]
        self.outcome.event = next((one.typical for one in known if isinstance(one, Gains)), 0.0)

    def _over(self) -> dict[str, Any]:
        """What the certificate is over, for the reader of budget.json."""
        outcome = self.outcome
        found = {"figure": outcome.figure, "unit": outcome.unit, "dangerous": outcome.danger(self.questions)}
        return {**found, "event": outcome.event} if outcome.unit == METRES else found

    def _margin(self, controls: Sequence[Evidence]) -> tuple[float, str]:
        """(share, where it comes from). Of controls alone: no pruned answer has a say."""
        if self.config.margin is not None:
            return self.config.margin / (1 if self.outcome.unit == METRES else 100), "stated"
        margin = default_margin(0.0, {one.setting: one.difference for one in controls}, self.outcome.unit)
        most = f"{LARGEST_MARGIN_M:g} m" if self.outcome.unit == METRES else f"{LARGEST_MARGIN:g} points"
        return margin, f"half of unpruned minus the best trivial control, at most {most}"

    def _reachable(self, margin: float) -> None:
        """SennaPruneError: the scenes to certify on cannot show this margin, whatever is answered."""
        scenes = Counter(clusters_of(self.questions))
        count = np.array([float(scenes[scene]) for scene in self.plan.certify])
        if self.outcome.unit == METRES:
            refuse_metres(margin, count, self.plan.stops, self.outcome.event)
        else:
            refuse_margin(margin, count, self.plan.stops)

    def _safety(self) -> tuple[float, str]:
        """(share, where it comes from); without a say where nobody says which flips are dangerous."""
        if self.outcome.danger(self.questions) is None:
            return (
                SAFETY if self.config.safety is None else self.config.safety
            ) / 100, "of these answers nobody says which flips are dangerous"
        return safety_of(self.config.safety, self.plan.stops)

    def _blind(self, control: str, margin: float) -> dict[str, Any]:
        groups, unit = certificate.groups_of(self.questions, self.outcome.unit), self.outcome.unit
        sentence = certificate.blind_sentence(control, margin, Path(self.config.questions or ""), self.config.types, groups, unit)
        return {"outcome": BLIND, "sentence": sentence, "exit_code": certificate.EXIT[BLIND]}

    def _noise(self, scenes: Sequence[str], margin: float) -> dict[str, Any]:
        """How often the unpruned model disagrees with itself in other batches; a margin below that is refused."""
        other = 1 if self.config.batch_size > 1 else 2
        self.say(f"unpruned again in batches of {other}: the noise floor")
        self.ask([Setting(AGAIN)], scenes, other)
        counted = self.pairs(AGAIN, scenes).counted
        floor = counted.changed if counted.questions else 0.0
        if margin < floor:
            in_metres = self.outcome.unit == METRES
            stated, moved = (f"{margin:.3f} m", f"its paths by {floor:.3f} m") if in_metres else (
                f"{100 * margin:.2f} points", f"{100 * floor:.2f} % of its answers between right and wrong"
            )  # fmt: skip
            raise SennaPruneError(
                f"the margin of {stated} lies below the noise floor: asked again in batches of {other}, unpruned "
                f"changes {moved}; state a larger --margin (with another --out), or use --dtype float32"
            )
        return {"batch_size": other, "changed": floor, "questions": int(counted.questions)}

    def _choose(self, rules: Rules) -> tuple[RowSpec, tuple[float, ...], list[Tried]]:
        rows = {row.label: row for row in self.config.candidates}
        if not self.plan.choose:
            return next(iter(rows.values())), self.config.grid, []
        tried: dict[str, list[Tried]] = {}
        for label, row in rows.items():
            self.say(f"{label}: trying budgets on the first {len(self.plan.choose)} scenes")
            tried[label] = explore(label, self.config.grid, partial(self._first_half, row), rules.margin, rules.safety)
            self.ahead.stopped(label, 1)
        chosen = best(tried)
        return rows[chosen], candidate_grid(tried[chosen], self.config.grid), [one for found in tried.values() for one in found]

    def _first_half(self, row: RowSpec, share: float) -> Pairs | None:
        setting = self.setting(row, share)
        self.ask([setting], self.plan.choose)
        return None if self.impossible(setting) else self.pairs(setting.name, self.plan.choose)

    def impossible(self, setting: Setting) -> str | None:
        """Why the model can never do this, if so: found now or when the run was started."""
        return next((row.reason or "" for row in self.store.answers(setting.name) if row.status == UNREACHABLE), None)

    def _examine(self, rules: Rules, row: RowSpec, share: float) -> list[Look]:
        setting = self.setting(row, share)

        def answers(index: int) -> tuple[Any, int | None]:
            scenes = self.plan.upto(index)
            self.ask([Setting(UNPRUNED), setting], scenes)
            impossible = self.impossible(setting)
            if impossible is not None:
                raise SennaPruneError(f"{row.label} at {share:g}: {impossible}; leave that budget out of --grid (and give another --out)")
            pairs = self.pairs(setting.name, scenes)
            if not pairs.questions:
                raise SennaPruneError(f"{setting.name}: not one question of {len(scenes)} scenes was answered; see the run's failed rows")
            return pairs.counted, pairs.scenes_hit

        looks = examine(rules, answers)
        for seen in looks:
            dangerous = "" if seen.dangerous is None else f", {seen.dangerous} dangerous"
            self.say(
                f"{row.label} at {100 * share:.3g} %: {seen.scenes} scenes, {signed(seen.difference, self.outcome.unit)}, z {seen.z:.2f} "
                f"(bound {seen.bound:.2f}){dangerous}: {seen.reason or 'go on'}"
            )
        self.ahead.decided(row.label, share)
        return looks

    # --- what stands beside ---------------------------------------------------------------------------------------------------------------

    def sequence(self, row: RowSpec, rules: Rules, done: Sequence[tuple[float, list[Look]]]) -> list[dict[str, Any]]:
        found = []
        for share, looks in done:
            setting, last = self.setting(row, share), looks[-1]
            scenes = self.plan.certify[: self.plan.stops[len(looks) - 1]]
            found.append(
                {
                    "setting": setting.name,
                    "budget": share,
                    "outcome": last.outcome,
                    "reason": last.reason,
                    "looks": [seen.to_dict() for seen in looks],
                    "scenes_saved": len(self.plan.certify) - len(scenes),
                    "cost": self._cost(setting.name, scenes),
                    "deployable": deployable(row.method, share, row.options),
                }
            )
        return found

    def _cost(self, name: str, scenes: Iterable[str]) -> dict[str, Any]:
        wanted = set(scenes)
        asked = {q.question for q in self.questions if q.scene in wanted}
        mine, theirs = (
            [row for row in self.store.answers(setting) if row.question in asked and row.answer is not None] for setting in (name, UNPRUNED)
        )
        return cost_beside(mine, theirs)

    def beside(self, row: RowSpec, rules: Rules, done: Sequence[tuple[float, list[Look]]]) -> dict[str, Any]:
        """Strata of what was certified, and what the first failure would need."""
        found: dict[str, Any] = {"strata": [], "needed": None, "power": None}
        safe = [share for share, looks in done if looks[-1].outcome == SAFE]
        failed = [(share, looks) for share, looks in done if looks[-1].outcome != SAFE]
        share, looks = done[len(safe) - 1] if safe else done[0]
        name = self.setting(row, share).name
        pairs = self.pairs(name, self.plan.certify[: self.plan.stops[len(looks) - 1]])
        found["strata"] = strata(pairs, self._information(self.store.answers(name)), self._with_users())
        if failed:
            share, looks = failed[0]
            pairs = self.pairs(self.setting(row, share).name, self.plan.certify[: self.plan.stops[len(looks) - 1]])
            found["needed"] = {"budget": share, **certificate.needed(rules, pairs)}
            found["power"] = certificate.power_sentence(share, found["needed"])
        return found

    def _information(self, rows: Sequence[AnswerRow]) -> dict[int, float]:
        """question -> mutual information, where the method measures it."""
        found = {row.question: (row.trace or {}).get("mutual_information") for row in rows}
        return {question: value for question, value in found.items() if value is not None}

    def _with_users(self) -> set[str]:
        """Samples whose road-user label, asked or not, says yes."""
        from senna_autoprune.nuscenes.questions_file import read_questions

        assert self.config.questions is not None
        records = read_questions(self.config.questions, ("vru",)).records
        return {record.token for record in records if parse_road_users(record.answer).present}
