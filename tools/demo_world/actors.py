"""The second edition of the world: road users whose intention is seen and not said, and amber lights.

The first edition asks for the ego's plan only. For the other question types the pictures must settle what the question's text does not:
an indicator tells a lane change, a turn or a start, somebody stands on the pavement within 20 m or does not, a light is amber. Nobody here
is a cause of the ego's plan (which follows the first edition's rules): cars stay 22 m or more ahead or on the other side of the street,
walkers well away from the kerb. Drawn from a stream of its own, so that the first edition's scenes stay as they were.
"""

from __future__ import annotations

import numpy as np

from demo_world.fast_road import LANE_M, LANES, _paint
from demo_world.traffic import KEYFRAMES, Body, Question, quintic
from demo_world.urban import AMBER, GREEN, LEFT_KERB, RED, RIGHT_KERB

STAMPS = np.arange(KEYFRAMES) * 0.5
INDICATES_LEFT, INDICATES_RIGHT = 2, 3  # lamp of a vehicle, beside 1 for brake lights
SHOWN = (-2, 7)  # keyframes before and after the asked one in which an actor of the fast road is there
AWAY = np.array([5e3, 5e3, 0.0])
ROOM_M = 13.0  # between the centres of two vehicles in a lane


def add_actors(rng: np.random.Generator, kind: str, ego: np.ndarray, bodies: list[Body], questions: list[Question]) -> list[Body]:
    """The bodies of a scene and its actors. ego: (KEYFRAMES, 4); ``bodies`` keep their order, signals' lamps are changed in place."""
    added: list[Body] = []
    for question in questions:
        if kind == "fast":
            added += _lane_changers(rng, ego, [*bodies, *added], question.keyframe)
        elif question.family != "turn":
            added += _street(rng, ego, question.keyframe, kind == "street", [*bodies, *added])
        if question.cause == "red signal" and question.manoeuvre == "decelerate" and rng.random() < 0.4:
            _amber(bodies, question.keyframe)
    return bodies + added


def _amber(bodies: list[Body], k: int) -> None:
    """The signal that turns red at the keyframe shows amber there and turns red a second later."""
    for body in bodies:
        if body.kind == "signal" and k >= 1 and body.lamp[k] == RED and body.lamp[k - 1] != RED:
            body.lamp[max(0, k - 2) : k] = GREEN
            body.lamp[k : k + 2] = AMBER


def _lane_changers(rng: np.random.Generator, ego: np.ndarray, bodies: list[Body], k: int) -> list[Body]:
    """Cars 23 to 33 m ahead at the ego's speed: some indicate and change lane, some go on."""
    made: list[Body] = []
    x, speed = float(ego[k, 0]), float(ego[k, 3])
    for _ in range(int(rng.integers(2, 4)) if speed > 15.0 else 0):
        lane = int(rng.choice(LANES))
        target = int(rng.choice([other for other in LANES if abs(other - lane) == 1])) if rng.random() < 0.8 else lane
        place = x + rng.uniform(24.5, 33.0)
        if not _room([*bodies, *made], k, place, (lane, target), speed):
            continue
        lateral = lane * LANE_M + (target - lane) * LANE_M * quintic((STAMPS - STAMPS[k] - 0.1) / 2.6)
        track = np.stack([place + speed * (STAMPS - STAMPS[k]), lateral, np.zeros(KEYFRAMES)], 1)
        shown = (np.arange(KEYFRAMES) >= k + SHOWN[0]) & (np.arange(KEYFRAMES) <= k + SHOWN[1])
        track[~shown] = AWAY
        code = INDICATES_LEFT if target > lane else INDICATES_RIGHT
        lamp = np.where((target != lane) & shown, code, 0).astype(np.int64)
        made.append(Body(str(rng.choice(["car", "car", "van"])), track, lamp, _paint(rng), role="actor"))
    return made


def _room(bodies: list[Body], k: int, place: float, lanes: tuple[int, int], speed: float) -> bool:
    """Nobody within ``ROOM_M`` in either lane while the actor is there."""
    for step in range(max(0, k + SHOWN[0]), min(KEYFRAMES, k + SHOWN[1] + 1)):
        here = place + speed * (step - k) * 0.5
        for body in bodies:
            x, y, _ = body.track[step]
            if body.kind != "rail" and abs(x - here) < ROOM_M and any(abs(y - lane * LANE_M) < 2.5 for lane in lanes):
                return False
    return True


def _street(rng: np.random.Generator, ego: np.ndarray, k: int, straight: bool, bodies: list[Body]) -> list[Body]:
    """Beside a town street: somebody within 20 m or nobody, oncoming cars that turn off, parked cars that set off."""
    x, made = float(ego[k, 0]), []
    since = STAMPS - STAMPS[k]
    if rng.random() < 0.5:
        left = rng.random() < 0.3
        offset = LEFT_KERB + rng.uniform(2.6, 3.2) if left else RIGHT_KERB - rng.uniform(3.0, 4.4)
        place = x + (rng.uniform(15.5, 17.0) if left else rng.uniform(11.0, 17.5))
        pace = float(rng.choice([0.0, -1.2, 1.2]))
        track = np.stack([place + pace * since, np.full(KEYFRAMES, offset), np.full(KEYFRAMES, 0.0 if pace >= 0 else np.pi)], 1)
        body = Body(str(rng.choice(["pedestrian", "bicycle"])), track, paint=_paint(rng), role="bystander", clothes=_paint(rng))
        if body.kind == "bicycle":
            along = float(rng.choice([-4.0, 4.0]))
            body.track = np.stack([place + along * since, track[:, 1], np.full(KEYFRAMES, 0.0 if along > 0 else np.pi)], 1)
        made.append(body)
    if straight and rng.random() < 0.7:
        made += _turner(rng, x, since, [*bodies, *made], k)
    for _ in range(int(rng.integers(1, 4))):
        made += _starter(rng, x, since, k, [*bodies, *made])
    return made


def _turner(rng: np.random.Generator, x: float, since: np.ndarray, bodies: list[Body], k: int) -> list[Body]:
    """An oncoming car that goes on, or indicates and turns off to its right (away from the ego)."""
    place, speed, offset = x + rng.uniform(16.0, 27.0), rng.uniform(5.6, 7.0), 3.7
    turns = rng.random() < 0.6
    if _crowded(bodies, k, place, offset, 9.0):
        return []
    driven = speed * since  # from the keyframe on
    begin, radius = 0.3 * speed, 7.0
    angle = np.clip((driven - begin) / radius, 0.0, np.pi / 2) if turns else np.zeros_like(driven)
    after = np.maximum(driven - begin - radius * np.pi / 2, 0.0) if turns else np.zeros_like(driven)
    straight = np.minimum(driven, begin) if turns else driven
    track = np.stack(
        [place - straight - radius * np.sin(angle), offset + radius * (1 - np.cos(angle)) + after, np.pi - angle], 1
    )  # its right is the ego's left: towards greater offsets
    lamp = np.full(KEYFRAMES, INDICATES_RIGHT if turns else 0, dtype=np.int64)
    return [Body(str(rng.choice(["car", "car", "van"])), track, lamp, _paint(rng), role="oncoming")]


def _starter(rng: np.random.Generator, x: float, since: np.ndarray, k: int, bodies: list[Body]) -> list[Body]:
    """A car parked behind the pavement; if it indicates it sets off a second later, along the street."""
    side = float(rng.choice([RIGHT_KERB - 6.5, LEFT_KERB + 6.5]))
    place = x + (rng.uniform(15.0, 26.0) if side < 0 else rng.uniform(21.0, 28.0))
    if _crowded(bodies, k, place, side, 7.5):
        return []
    starts = rng.random() < 0.75
    gone = np.clip(since - 1.0, 0.0, None)
    moved = np.where(gone < 4.0, 1.3 * gone**2, 20.8 + 10.4 * (gone - 4.0)) if starts else np.zeros_like(since)
    track = np.stack([place + moved, np.full(KEYFRAMES, side), np.zeros(KEYFRAMES)], 1)
    lamp = np.where(starts & (since > -2.1) & (since < 4.1), INDICATES_LEFT if side < 0 else INDICATES_RIGHT, 0).astype(np.int64)
    return [Body(str(rng.choice(["car", "car", "van"])), track, lamp, _paint(rng), role="parked")]


def _crowded(bodies: list[Body], k: int, place: float, offset: float, room: float) -> bool:
    """Somebody is within ``room`` metres along the street of the place, at about the same offset, now or soon."""
    last = min(KEYFRAMES - 1, k + 6)
    return any(abs(body.track[step, 1] - offset) < 2.5 and abs(body.track[step, 0] - place) < room for body in bodies for step in (k, last))
