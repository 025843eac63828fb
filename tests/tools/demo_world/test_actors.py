"""The second edition: the first one's scenes with more in them; what the actors show is what they do; the ego's plan stays."""

from collections import Counter

import numpy as np
import pytest

from demo_world.actors import AWAY, INDICATES_LEFT, INDICATES_RIGHT
from demo_world.asks import boxed, geometric, geometry
from demo_world.facts import facts
from demo_world.plan import plan
from demo_world.world import generate
from senna_autoprune.nuscenes.rules import plan_label

SEEDS = range(910_000, 910_080)


@pytest.fixture(scope="module")
def pairs():
    return [(generate(seed, "x"), generate(seed, "x", edition=2)) for seed in SEEDS]


def test_the_first_edition_is_in_the_second(pairs):
    added = 0
    for one, two in pairs:
        assert np.array_equal(one.ego, two.ego) and one.questions == two.questions
        assert all(np.array_equal(a.track, b.track) and a.kind == b.kind for a, b in zip(one.bodies, two.bodies, strict=False))
        assert [plan(one, q.keyframe) for q in one.questions] == [plan(two, q.keyframe) for q in two.questions]
        added += len(two.bodies) - len(one.bodies)
    assert added > 200


def shown_and_done(scene, question):
    """(lamp, plan of the next 3 s) of the added bodies that have a whole future."""
    k = question.keyframe
    known = geometry(scene, k)
    for i, track, mask in zip(boxed(scene, k), known.tracks, known.track_masks, strict=True):
        if scene.bodies[i].kind in ("car", "van") and mask.all():
            yield scene.bodies[i], int(scene.bodies[i].lamp[k]), ", ".join(plan_label(track))


def test_indicators_tell_what_comes(pairs):
    moving, parked = Counter(), Counter()
    for one, two in pairs:
        for question in two.questions:
            for body, lamp, done in shown_and_done(two, question):
                if body.role == "actor" and any(body is b for b in two.bodies[len(one.bodies) :]):
                    moving[(lamp, done)] += 1
                if body.role == "parked" and lamp:
                    parked[done] += 1
    assert moving[(INDICATES_LEFT, "KEEP, LEFT_CHANGE")] > 5 and moving[(INDICATES_RIGHT, "KEEP, RIGHT_CHANGE")] > 5
    assert moving[(0, "KEEP, STRAIGHT")] > 5
    wrong = moving[(INDICATES_LEFT, "KEEP, RIGHT_CHANGE")] + moving[(INDICATES_RIGHT, "KEEP, LEFT_CHANGE")]
    assert wrong == 0 and parked["ACCELERATE, STRAIGHT"] > 0.7 * sum(parked.values()) > 10


def test_amber_lights_and_road_users_occur(pairs):
    lights, users = Counter(), Counter()
    for _, two in pairs:
        for question in two.questions:
            if two.kind != "fast":
                lights[facts(two, question).signal] += 1
                users[next(a.answer[:3] for a in geometric(two, question) if a.kind == "vru")] += 1
    assert set(lights) == {"none", "green", "amber", "red"} and lights["amber"] >= 3
    assert 0.3 < users["Yes"] / sum(users.values()) < 0.7


def test_nobody_drives_through_another_on_the_fast_road(pairs):
    for one, two in pairs:
        if two.kind != "fast":
            continue
        actors = two.bodies[len(one.bodies) :]
        for question in two.questions:
            for step in range(question.keyframe, min(40, question.keyframe + 7)):
                for actor in actors:
                    for other in two.bodies:
                        if other is not actor and actor.track[step, 0] < AWAY[0]:
                            ahead, aside = np.abs(actor.track[step, :2] - other.track[step, :2])
                            assert ahead > 5 or aside > 1.8, (two.seed, step)
