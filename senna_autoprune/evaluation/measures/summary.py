"""The rows of a run -> ``metrics.json``: every setting beside its controls, on the same questions.

A question counts if *every* setting of the run gave it an answer: all rows of a table are then about the same
questions, and pairs exist. An empty or broken answer of a model is an answer (invalid, wrong); a sample that could not
be asked is not, and is listed as failed.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from operator import eq
from typing import Any

import numpy as np
from numpy.typing import NDArray

from senna_autoprune.evaluation.measures import controls, metrics
from senna_autoprune.evaluation.measures.adapted import Reading, adapted_measures, judges, read_severity
from senna_autoprune.evaluation.measures.breakdown import breakdown
from senna_autoprune.evaluation.measures.clusters import Clusters, clusters_of, scene_warning
from senna_autoprune.evaluation.measures.cost import Columns, cost_measures, full_tokens
from senna_autoprune.evaluation.measures.flips import DANGEROUS, Flip, flip_table, severity, sort_flips
from senna_autoprune.evaluation.measures.intervals import Paired
from senna_autoprune.evaluation.measures.metrics import Few
from senna_autoprune.evaluation.measures.official import PLAN_MARK, planning_score
from senna_autoprune.evaluation.measures.paired_tests import holm, scene_test
from senna_autoprune.evaluation.measures.parsing import (
    LIGHTS,
    Plan,
    parse_light,
    parse_motion,
    parse_plan,
    parse_road_users,
    plan_meaning,
    text_scores,
)
from senna_autoprune.evaluation.measures.retention import (
    accuracy,
    accuracy_retention,
    macro_f1_measure,
    mcnemar,
    plan_sums,
    retention_of,
)
from senna_autoprune.evaluation.measures.rightness import senna_label_is_readable
from senna_autoprune.evaluation.measures.verdict import evidence, judge
from senna_autoprune.evaluation.measures.weighted import weighted_measures
from senna_autoprune.evaluation.runs.rows import MAJORITY, NO_IMAGE, PRUNING_CONTROLS, RANDOM_ANSWER, UNPRUNED, AnswerRow, QuestionRow

SCHEMA = 1

SENNA_TYPES = {"vru", "motion", "light", "description", "explanation"}  # beside plan: each has measures of its own here

Array = NDArray[Any]
Texts = dict[int, str]  # question -> answer
Official = tuple[dict[str, Any], list[bool] | None]  # the original metric, and which answers it calls right


def texts_of(questions: Sequence[QuestionRow], by_setting: Mapping[str, Sequence[AnswerRow]], reading: Reading | None) -> dict[str, Texts]:
    """setting -> question -> what it said; plans in Senna's own form, whatever form the adapter reads them from."""
    texts = {name: {r.question: r.words or "" for r in found} for name, found in by_setting.items()}
    if reading is None or reading.plain("plan"):
        return texts
    plans = {q.question: q for q in questions if q.type == "plan"}
    return {
        name: {key: reading.written("plan", text, plans[key].text) if key in plans else text for key, text in found.items()}
        for name, found in texts.items()
    }


def official_records(questions: Sequence[QuestionRow], answers: Mapping[int, str]) -> Iterator[dict[str, str]]:
    """Questions with their answers as ``official.planning_metric`` reads them."""
    for q in questions:
        if q.question in answers:
            yield {"token": q.token, "question": q.text, "gt": q.label, "answer": answers[q.question]}


def summarise(
    questions: Sequence[QuestionRow],
    rows: Sequence[AnswerRow],
    method: str,
    seed: int = 0,
    resamples: int = 2000,
    reading: Reading | None = None,
) -> dict[str, Any]:
    """All measures of a run as plain data (NaN-free, JSON-ready).

    Args:
        rows: answers of all settings; those of ``unpruned`` must be among them.
        method: the setting whose flips and breakdown are given in full.
        seed, resamples: of the bootstrap and of the random answers.
        reading: of the run's adapter, which adds ``measures`` by question type to every setting; None: without.
    """
    by_setting: dict[str, list[AnswerRow]] = {}
    for row in rows:
        by_setting.setdefault(row.setting, []).append(row)
    answered = {name: {r.question for r in found if r.answer is not None} for name, found in by_setting.items()}
    complete = set.intersection(*answered.values()) if answered else set()
    kept = [question for question in questions if question.question in complete]
    texts = texts_of(questions, by_setting, reading)
    result: dict[str, Any] = {
        "schema": SCHEMA,
        "method": method,
        "questions": _question_facts(questions, kept, rows),
        "scenes": _scene_facts(kept),
        "bootstrap": {"resamples": resamples, "seed": seed, "level": 0.95, "unit": "scene"},
        "settings": {name: {"kind": "model"} for name in by_setting},
    }
    full = full_tokens([row for row in rows if row.question in complete])
    unpruned = Columns([row for row in by_setting.get(UNPRUNED, []) if row.question in complete])
    for name, found in by_setting.items():
        usable = [row for row in found if row.question in complete]
        result["settings"][name]["cost"] = cost_measures(usable, unpruned, full)
        result["settings"][name]["unended"] = {"count": sum(row.cut for row in usable), "of": len(usable)}
    models = texts_of(questions, by_setting, None)  # as they were said: the adapter reads them itself
    reads_plans = reading is None or reading.kind("plan") == "plan"
    plans = [q for q in kept if q.type == "plan" and parse_plan(q.label).valid and reads_plans]
    if plans:
        _add_plan_controls(texts, result, plans, seed)
        read = _Plans.of(plans, {name: texts[name] for name in result["settings"]})
        for name in result["settings"]:
            result["settings"][name]["plan"] = _plan_entry(read, name, seed, resamples)
        _add_holm(result["settings"])
    for kind in sorted({q.type for q in kept} & SENNA_TYPES):
        group = [q for q in kept if q.type == kind]
        for name in by_setting:
            result["settings"][name][kind] = _other_entry(kind, group, texts[name])
    if reading is not None:
        for kind in _types(kept):
            group = [q for q in kept if q.type == kind]
            for name, entry in adapted_measures(group, models, reading, seed).items():
                result["settings"][name].setdefault("measures", {})[kind] = entry
    weighted = {kind: weighted_measures([q for q in kept if q.type == kind], texts, reading, seed, resamples) for kind in _types(kept)}
    if any(weighted.values()):
        result["weighted"] = {kind: found for kind, found in weighted.items() if found is not None}
    missing = {row.question: row.missing_frames for row in rows if row.missing_frames and row.question in complete}
    if missing:
        result["missing_frames"] = {"pictures": sum(missing.values()), "questions": len(missing), "of": len(kept)}
    result["unlabelled"] = dict(Counter(q.type for q in kept if not _label_is_readable(q, reading)))
    result["flips"] = _flips(kept, texts, list(by_setting), method, reading)
    if plans and method in texts and UNPRUNED in texts:
        result["breakdown"] = _breakdown(plans, read, method)
        result["verdict"] = _verdict(plans, texts, read, method, result["settings"][method]["cost"]["retention_tokens"])
    return result


def _types(questions: Sequence[QuestionRow]) -> list[str]:
    return sorted({question.type for question in questions})


def _question_facts(questions: Sequence[QuestionRow], kept: Sequence[QuestionRow], rows: Sequence[AnswerRow]) -> dict[str, Any]:
    tokens = {q.question: q.token for q in questions}
    failed = [row for row in rows if row.status == "failed"]
    return {
        "asked": len(questions),
        "complete": len(kept),
        "by_type": dict(Counter(q.type for q in kept)),
        "label_counts": dict(Counter(str(parse_plan(q.label)) for q in kept if q.type == "plan").most_common()),
        "failed_rows": len(failed),
        "failed_samples": len({tokens.get(row.question) for row in failed}),
        "failed": [{"question": r.question, "token": tokens.get(r.question), "setting": r.setting, "reason": r.reason} for r in failed],
    }


def _scene_facts(kept: Sequence[QuestionRow]) -> dict[str, Any]:
    unknown = sum(not q.scene_known for q in kept)
    count = len(set(clusters_of(kept)))
    facts: dict[str, Any] = {"count": count, "questions_without_scene": unknown}
    warning = scene_warning(count)
    if warning is not None:
        facts["warning"] = warning
    if unknown:
        facts["note"] = (
            f"the scene of {unknown} of {len(kept)} questions is unknown: each such sample counts as a scene of its "
            "own, so the intervals are too narrow if samples share scenes"
        )
    return facts


def _add_plan_controls(texts: dict[str, Texts], result: dict[str, Any], plans: list[QuestionRow], seed: int) -> None:
    """Answers without a model: the most frequent label, and labels drawn by frequency."""
    labels = [q.label for q in plans]
    majority = controls.majority_answer(labels)
    drawn = controls.random_answers(labels, seed)
    texts[MAJORITY] = {q.question: majority for q in plans}
    texts[RANDOM_ANSWER] = {q.question: text for q, text in zip(plans, drawn, strict=True)}
    result["settings"][MAJORITY] = {"kind": "answer", "answer": majority.strip()}
    result["settings"][RANDOM_ANSWER] = {
        "kind": "answer",
        "expected_accuracy": controls.expected_random_accuracy(labels),
    }


def _official(labels: Sequence[str], answers: Sequence[str]) -> Official:
    """The original metric of one setting's answers, and which of them it calls right; where it raises, its exception."""
    try:
        score = planning_score(labels, answers)
    except (ValueError, KeyError, ZeroDivisionError) as error:
        return {"accuracy": None, "error": f"{type(error).__name__}: {error}"}, None
    return {"accuracy": score.accuracy, "correct": score.correct_count, "f1_score": score.f1_score}, score.correct


@dataclass(frozen=True)
class _Plans:
    """Planning questions with every setting's answers, read once for all measures. rights: which are right; official: see ``_official``."""

    labels: Few[Plan]
    scenes: Clusters
    texts: dict[str, Few[str]]
    answers: dict[str, Few[Plan]]
    sums: dict[str, Array]  # ``plan_sums``
    rights: dict[str, NDArray[np.bool_]]
    official: dict[str, Official]

    @classmethod
    def of(cls, plans: Sequence[QuestionRow], texts: Mapping[str, Texts]) -> _Plans:
        stated, scenes = Few(q.label for q in plans), clusters_of(plans)
        labels = metrics.each_once(parse_plan, stated)
        said = {name: Few(map(found.__getitem__, [q.question for q in plans])) for name, found in texts.items()}
        answers = {name: metrics.each_once(parse_plan, found) for name, found in said.items()}
        sums = {name: plan_sums(labels, found, scenes) for name, found in answers.items()}
        rights = {name: np.array(metrics.pair_once(eq, found, labels), dtype=bool) for name, found in answers.items()}
        counted = [place for place, question in enumerate(plans) if PLAN_MARK in question.text]
        official = {name: _official(stated.take(counted), found.take(counted)) for name, found in said.items()}
        return cls(labels, scenes, said, answers, sums, rights, official)


def _plan_entry(plans: _Plans, name: str, seed: int, resamples: int) -> dict[str, Any]:
    labels, scenes, answers, hits = plans.labels, plans.scenes, plans.answers[name], plans.rights[name]
    official, official_hits = plans.official[name]
    entry = {
        **metrics.plan_measures(labels, answers),
        "exact_accuracy_interval": accuracy(hits, scenes).to_dict(),
        "official": official,
    }
    others = [other for other in (UNPRUNED, *PRUNING_CONTROLS, NO_IMAGE, MAJORITY) if other in plans.rights and other != name]
    rights = {other: plans.rights[other] for other in others}
    entry["mcnemar_against"] = {other: mcnemar(right, hits).to_dict() for other, right in rights.items()}
    entry["scene_test_against"] = {other: scene_test(Paired.of(right, hits, scenes), seed).to_dict() for other, right in rights.items()}
    if UNPRUNED not in plans.rights:
        return entry
    _, before_official = plans.official[UNPRUNED]
    entry["agreement"] = metrics.agreement(plans.texts[name], plans.texts[UNPRUNED])
    entry["retention"] = {
        "exact_accuracy": accuracy_retention(plans.rights[UNPRUNED], hits, scenes).to_dict(),
        "macro_f1": retention_of(plans.sums[name], plans.sums[UNPRUNED], macro_f1_measure, resamples, seed).to_dict(),
    }
    if official_hits is not None and before_official is not None:
        entry["retention"]["official_accuracy"] = accuracy_retention(before_official, official_hits, scenes).to_dict()
    return entry


def _add_holm(settings: dict[str, Any]) -> None:
    """Holm's p over the table: every setting against unpruned, one family."""
    tests = {
        name: entry["plan"]["scene_test_against"][UNPRUNED]
        for name, entry in settings.items()
        if UNPRUNED in entry.get("plan", {}).get("scene_test_against", {})
    }
    for name, p_value in holm({name: test["p_value"] for name, test in tests.items()}).items():
        tests[name]["p_holm"] = p_value


def _verdict(plans: Sequence[QuestionRow], texts: Mapping[str, Texts], read: _Plans, method: str, tokens: float) -> dict[str, Any]:
    """What may be said of the method, and the same evidence of the controls that see nothing."""
    rights = {name: read.rights[name] for name in (UNPRUNED, method, NO_IMAGE, MAJORITY) if name in read.rights}
    found = {}
    for name, right in rights.items():
        flips = [question.scene for question, worst in _changed(plans, texts[UNPRUNED], texts[name]) if worst in DANGEROUS]
        found[name] = evidence(name, tokens if name == method else None, Paired.of(rights[UNPRUNED], right, read.scenes), flips)
    mine = found[method]
    assert mine is not None  # there are questions
    blind = [one.to_dict() for name, one in found.items() if one is not None and name in (NO_IMAGE, MAJORITY)]
    return {**judge(mine).to_dict(), "evidence": mine.to_dict(), "blind": blind}


def _breakdown(plans: Sequence[QuestionRow], read: _Plans, method: str) -> dict[str, Any]:
    return breakdown(
        [q.attributes for q in plans],
        read.rights[UNPRUNED].tolist(),
        read.rights[method].tolist(),
        metrics.pair_once(lambda a, b: plan_meaning(a) == plan_meaning(b), read.texts[UNPRUNED], read.texts[method]),
    )


def _label_is_readable(question: QuestionRow, reading: Reading | None = None) -> bool:
    if reading is not None and (question.type not in SENNA_TYPES | {"plan"} or not reading.plain(question.type)):
        labelled = question.label.strip() and reading.label(question.type, question.label, question.text) is not None
        return bool(question.future) or bool(labelled)
    return senna_label_is_readable(question)


def _other_entry(kind: str, group: Sequence[QuestionRow], texts: Texts) -> dict[str, Any]:
    """Measures of one question type but planning; questions whose label cannot be read are left out (``unlabelled``
    counts them).
    """
    group = [q for q in group if _label_is_readable(q)]
    labels, answers = [q.label for q in group], [texts[q.question] for q in group]
    if kind == "vru":
        return metrics.road_user_measures([parse_road_users(t) for t in labels], [parse_road_users(t) for t in answers])
    if kind == "motion":
        return metrics.motion_measures([parse_motion(t) for t in labels], [parse_motion(t) for t in answers])
    if kind == "light":
        return metrics.class_measures([parse_light(t) for t in labels], [parse_light(t) for t in answers], LIGHTS)
    return text_scores(list(zip(labels, answers, strict=True)))


def severity_of(question: QuestionRow, unpruned: str, pruned: str, reading: Reading | None = None) -> str:
    """Severity of a changed answer: by Senna's table of question types, or as the run's adapter reads it."""
    if reading is not None and judges(question.type, reading):
        return read_severity(question, unpruned, pruned, reading)
    if reading is not None and question.type == "plan":
        unpruned, pruned = (reading.written("plan", text, question.text) for text in (unpruned, pruned))
    return severity(question.type, question.label, unpruned, pruned)


def flips_between(
    questions: Sequence[QuestionRow],
    unpruned: Mapping[int, str],
    pruned: Mapping[int, str],
    setting: str,
    reading: Reading | None = None,
) -> list[Flip]:
    """Every answer that changed, worst first; questions that lack an answer on either side are left out."""
    return sort_flips(
        [
            Flip(q.question, q.token, q.scene, q.type, setting, worst, q.label, unpruned[q.question], pruned[q.question])
            for q, worst in _changed(questions, unpruned, pruned, reading)
        ]
    )


def _changed(
    questions: Sequence[QuestionRow], unpruned: Mapping[int, str], pruned: Mapping[int, str], reading: Reading | None = None
) -> Iterator[tuple[QuestionRow, str]]:
    """The questions whose answer changed, with its severity, which is looked up once for the same words."""
    known: dict[tuple[str, ...], str] = {}
    for q in questions:
        before, after = unpruned.get(q.question), pruned.get(q.question)
        if before is None or after is None or before == after:
            continue
        key = (q.type, q.label, "" if reading is None else q.text, before, after)
        worst = known.get(key)
        if worst is None:
            worst = known[key] = severity_of(q, before, after, reading)
        yield q, worst


def _flips(
    kept: Sequence[QuestionRow], texts: Mapping[str, Texts], models: Sequence[str], method: str, reading: Reading | None = None
) -> dict[str, Any]:
    """Per setting of a model (unpruned left out) the table by severity; every flip is listed for the method only."""
    result: dict[str, Any] = {}
    for name in models:
        if name != UNPRUNED and UNPRUNED in models:
            flips = flips_between(kept, texts[UNPRUNED], texts[name], name, reading)
            result[name] = flip_table(flips, len(kept), len(set(clusters_of(kept))))
            if name == method:
                result[name]["list"] = [flip.to_dict() for flip in flips]
    return result
