"""A town street: signals, crossings with pedestrians, a car ahead with brake lights, and sometimes a turn.

The driver decides at keyframes. Standing, it goes when the cause of the stop is gone. Rolling slowly it speeds up unless
somebody is ahead; at town speed it keeps it. A red signal, a pedestrian at the kerb of a crossing (or on it), or brake lights
ahead make it stop; in a turn, a pedestrian at the exit's crossing makes it crawl. The same speed and command occur with and
without each cause.
"""

from dataclasses import dataclass, field

import numpy as np

from demo_world.fast_road import _ego, _paint
from demo_world.path import Path
from demo_world.traffic import (
    EGO_FRONT,
    KEYFRAMES,
    STEP_S,
    STEPS,
    Body,
    Profile,
    Question,
    follow,
    keyframes,
)

BRAKE = 2.4
PULL = 2.3
LANE_M = 3.5
RIGHT_KERB, LEFT_KERB = -2.3, 5.6  # offsets of the kerbs from the ego lane's centre
GREEN, AMBER, RED = 0, 1, 2
NEVER = 1e3


@dataclass
class Signal:
    """A signal-controlled junction: stop line at ``line``, and when it is red (seconds)."""

    line: float
    red_from: float = NEVER
    red_to: float = NEVER


@dataclass
class Crossing:
    """A zebra whose near edge is at ``near``; its walker reaches the kerb at ``kerb_at`` seconds and then crosses."""

    near: float
    kerb_at: float = NEVER
    side: int = -1
    pace: float = 1.4


@dataclass
class Street:
    """What the script has put on the street so far."""

    signals: list[Signal] = field(default_factory=list)
    crossings: list[Crossing] = field(default_factory=list)
    used: list[tuple[float, float]] = field(default_factory=list)

    def room(self, start: float, end: float) -> bool:
        return all(end < a or start > b for a, b in self.used)


def simulate(rng: np.random.Generator, turn: int) -> tuple[np.ndarray, list[Body], list[Question], dict, Path]:
    """One scene; ``turn`` is 1 (left), -1 (right) or 0. See :func:`demo_world.fast_road.simulate`."""
    lead = turn == 0 and rng.random() < 0.42
    street, questions = Street(), []
    fast = rng.uniform(8.0, 10.9)
    t = float(rng.choice([0.5, 1.0, 1.5]))
    state = str(rng.choice(["fast", "slow", "zero"], p=(0.3, 0.4, 0.3))) if not turn else str(rng.choice(["turn", "zero"], p=(0.75, 0.25)))
    speed = {"fast": fast, "slow": rng.uniform(4.6, 5.7), "zero": 0.0, "turn": rng.uniform(6.3, 7.5)}[state]
    profile = Profile(speed)
    lead_brakes: list[tuple[float, float]] = []
    path, release, blocker = Path(), 0.0, None
    if state == "zero":
        blocker = _hold_from_start(rng, street, lead, lead_brakes)
        release = t
    turned = False
    while t <= 16.5:
        here = float(profile.distance()[round(t / STEP_S)])
        k = round(t / 0.5)
        speed = float(profile.speed[round(t / STEP_S)])
        if state == "zero":
            if rng.random() < 0.45 and t - release < 3.0 and blocker != "walker-gone":
                questions.append(Question(k, "stand", "stop", str(blocker)))
                wait = float(rng.choice([3.5, 4.0]))
                t += wait
                if _extend(blocker, street, lead_brakes, t):
                    continue
            t = _let_go(blocker, street, lead_brakes, t)
            if t > 16.5:
                break
            k = round(t / 0.5)
            target = rng.uniform(6.3, 7.5) if turn and not turned else (fast if rng.random() < 0.6 else rng.uniform(4.8, 5.7))
            questions.append(Question(k, "stand", "accelerate", f"{blocker} gone"))
            done = profile.change(t, target, PULL, 0.15)
            state = "turn" if turn and not turned else ("fast" if target > 7 else "slow")
            t = np.ceil(max(done, t + 3.5) * 2) / 2
        elif state == "turn":
            ahead = rng.uniform(0.4, 1.4)
            path = Path(here + ahead, turn, rng.uniform(9.5, 11.0) if turn > 0 else rng.uniform(8.0, 9.5))
            exit_near = path.lead_in + path.arc_length + rng.uniform(1.5, 3.0)
            street.used.append((here - 5, exit_near + 6))
            turned = True
            if rng.random() < 0.5:
                street.crossings.append(Crossing(exit_near, t - rng.uniform(0.6, 2.2), int(rng.choice([-1, 1])), rng.uniform(1.35, 1.6)))
                questions.append(Question(k, "turn", "decelerate", "walker at the exit"))
                profile.change(t, 1.5, 2.0, 0.45)
                done = profile.change(t + 3.8, rng.uniform(5.0, 5.6), 1.6)
                t = np.ceil(done * 2) / 2
                state = "slow"
            else:
                street.crossings.append(Crossing(exit_near, side=int(rng.choice([-1, 1]))))
                questions.append(Question(k, "turn", "keep", "exit free"))
                t += 4.0
                state = "slow" if speed < 5.9 else "cruise"
        elif state == "cruise":  # after a turn at 6-7 m/s: up to town speed, nothing asked
            done = profile.change(t, fast, PULL)
            t, state = np.ceil((done + 0.5) * 2) / 2, "fast"
        else:
            t, state, blocker, release = _rolling(rng, street, questions, profile, lead, lead_brakes, t, state, here, fast)
    s = profile.distance()
    ego = _ego(path, s, np.zeros(STEPS), profile.speed)
    bodies = _bodies(rng, path, street, s, lead, lead_brakes, profile)
    road = {
        "kind": "urban",
        "length": float(s[KEYFRAMES * 10 - 1]),
        "signals": [g.line for g in street.signals],
        "crossings": [c.near for c in street.crossings],
        "mark": int(rng.integers(3)),
    }
    return ego, bodies, questions, road, path


def _stop_distance(speed: float) -> float:
    """From the keyframe of the decision to standstill."""
    return 0.25 * speed + speed**2 / (2 * BRAKE)


def _rolling(rng, street, questions, profile, lead, lead_brakes, t, state, here, fast):  # type: ignore[no-untyped-def]
    """One decision at town speed or slow: brake for a cause, or keep / speed up past the same things without the cause."""
    k, speed = round(t / 0.5), float(profile.speed[round(t / STEP_S)])
    line = here + EGO_FRONT + _stop_distance(speed) + rng.uniform(0.6, 2.0)
    calm = "keep" if state == "fast" or lead else "accelerate"
    brake = rng.random() < (0.5 if state == "fast" else 0.45)
    if lead:
        if brake:
            lead_brakes.append((t, NEVER))
            questions.append(Question(k, state, "decelerate", "brake lights"))
            done = profile.change(t, 0.0, BRAKE)
            return _tick(max(done, t + 3.0) + 0.5), "zero", "lead", _tick(done + 0.5)
        questions.append(Question(k, state, calm, "car ahead"))
        return t + float(rng.choice([3.5, 4.0])), state, None, 0.0
    thing = str(rng.choice(["signal", "crossing"]))
    room = street.room(line - 1, line + 18)
    if not room:
        thing = "nothing"
    if brake and not room:
        return t + 0.5, state, None, 0.0
    if brake:
        street.used.append((line - 1, line + 18))
        done = profile.change(t, 0.0, BRAKE)
        if thing == "signal":
            street.signals.append(Signal(line, t, NEVER))
            cause = "red signal"
        else:
            street.crossings.append(Crossing(line + 1.5, t - rng.uniform(0.7, 1.4), int(rng.choice([-1, -1, 1])), rng.uniform(0.8, 1.25)))
            cause = "walker"
        questions.append(Question(k, state, "decelerate", cause))
        return _tick(max(done, t + 3.0) + 0.5), "zero", cause, _tick(done + 0.5)
    if thing == "signal":
        street.signals.append(Signal(line))
    elif thing == "crossing":
        street.crossings.append(Crossing(line + 1.5))
    street.used.append((line - 1, line + 18))
    questions.append(Question(k, state, calm, "green or empty"))
    if calm == "accelerate":
        top = max(fast, speed + 5.0)
        done = profile.change(t, top, PULL, 0.15)
        return _tick(max(done, t + 3.5)), "fast", None, 0.0
    return t + float(rng.choice([3.5, 4.0])), state, None, 0.0


def _tick(t: float) -> float:
    return float(np.ceil(t * 2 - 1e-6) / 2)


def _hold_from_start(rng: np.random.Generator, street: Street, lead: bool, lead_brakes: list) -> str:
    """The scene begins at a standstill: something must hold the ego there."""
    if lead:
        lead_brakes.append((-10.0, NEVER))
        return "lead"
    line = EGO_FRONT + rng.uniform(0.8, 2.2)
    street.used.append((line - 1, line + 18))
    if rng.random() < 0.5:
        street.signals.append(Signal(line, -10.0, NEVER))
        return "red signal"
    street.crossings.append(Crossing(line + 1.5, rng.uniform(-2.0, -0.5), int(rng.choice([-1, 1])), rng.uniform(0.75, 1.25)))
    return "walker"


def _gone_at(crossing: Crossing) -> float:
    """When the walker is well off the street on the far side."""
    return crossing.kerb_at + 0.4 + (LEFT_KERB - RIGHT_KERB + 2.2) / crossing.pace


def _extend(blocker: str | None, street: Street, lead_brakes: list, t: float) -> bool:
    """After a stop answer: True when a walker is still in the way, so that the scene goes on standing."""
    return blocker == "walker" and _gone_at(street.crossings[-1]) > t


def _let_go(blocker: str | None, street: Street, lead_brakes: list, t: float) -> float:
    """Remove the cause at ``t`` (a walker takes the time it takes); returns the keyframe time at which the ego sets off."""
    if blocker == "lead":
        lead_brakes[-1] = (lead_brakes[-1][0], t)
        return t
    if blocker == "red signal":
        street.signals[-1].red_to = t
        return t
    return max(t, _tick(_gone_at(street.crossings[-1])))


def _bodies(rng, path, street, s, lead, lead_brakes, profile):  # type: ignore[no-untyped-def]
    """Everything that has a box, from the script and at random beside it."""
    time = np.arange(STEPS) * STEP_S
    stamps = np.arange(KEYFRAMES) * 0.5
    bodies: list[Body] = []
    for signal in street.signals:
        lamp = np.full(KEYFRAMES, GREEN)
        lamp[(stamps >= signal.red_from - 1.01) & (stamps < signal.red_from)] = AMBER
        lamp[(stamps >= signal.red_from) & (stamps < signal.red_to)] = RED
        for offset, beyond in ((-2.9, 9.0), (6.3, 10.0)):
            track = np.repeat(path.pose(signal.line + beyond, offset)[None], KEYFRAMES, 0)
            bodies.append(Body("signal", track, lamp, role="signal"))
    for crossing in street.crossings:
        bodies += _walkers(rng, path, crossing, stamps)
    if lead:
        standing = rng.uniform(9.0, 16.0)  # from ego origin to the lead's centre at a standstill
        early = np.interp(time + 0.25, time, s)
        places = early + standing
        lamp = np.zeros(KEYFRAMES, dtype=np.int64)
        for start, end in lead_brakes:
            lamp[(stamps >= start) & (stamps < end)] = 1
        bodies.append(
            Body(
                str(rng.choice(["car", "car", "van"])),
                keyframes(path.pose(places, rng.uniform(-0.15, 0.15))),
                lamp,
                _paint(rng),
                role="lead",
            )
        )
    if rng.random() < 0.4:  # a follower
        places = follow(-rng.uniform(10, 22), 12.0, s, 6.5, float(profile.speed[0]))
        bodies.append(Body("car", keyframes(path.pose(places + 1.4)), paint=_paint(rng), role="follower"))
    end = float(s[KEYFRAMES * 10 - 1])
    if not path.side:
        for _ in range(int(rng.integers(0, 4))):  # oncoming cars, some of which brake: no affair of the ego's
            places = rng.uniform(20, end + 120) - rng.uniform(6, 10) * time
            track = keyframes(path.pose(places, LANE_M + 0.2))
            track[:, 2] += np.pi
            bodies.append(Body("car", track, (rng.random(KEYFRAMES) < 0.3).astype(np.int64), _paint(rng), role="oncoming"))
    for _ in range(int(rng.integers(1, 6))):  # parked behind the pavement, lights off
        place = rng.uniform(-10, end + 60)
        side = float(rng.choice([RIGHT_KERB - 6.5, LEFT_KERB + 6.5]))
        if street.room(place - 6, place + 6):
            track = np.repeat(path.pose(place, side)[None], KEYFRAMES, 0)
            bodies.append(Body(str(rng.choice(["car", "van"])), track, paint=_paint(rng), role="parked"))
    for _ in range(int(rng.integers(1, 5))):  # people walking along the pavement, well away from the kerb
        place = rng.uniform(0, end + 40) + float(rng.choice([-1.3, 1.3])) * stamps
        side = float(rng.choice([RIGHT_KERB - rng.uniform(3.0, 4.5), LEFT_KERB + rng.uniform(3.0, 4.5)]))
        bodies.append(_person(rng, path.pose(place, side), "bystander"))
    return bodies


def _person(rng: np.random.Generator, track: np.ndarray, role: str) -> Body:
    return Body("pedestrian", track, paint=_paint(rng), role=role, clothes=_paint(rng))


def _walkers(rng: np.random.Generator, path: Path, crossing: Crossing, stamps: np.ndarray) -> list[Body]:
    """The walker of a crossing, if it has one, else at times somebody who stands well back from the kerb."""
    middle = crossing.near + 1.5
    start, end = (RIGHT_KERB, LEFT_KERB) if crossing.side < 0 else (LEFT_KERB, RIGHT_KERB)
    sign = 1.0 if crossing.side < 0 else -1.0
    if crossing.kerb_at >= NEVER:
        if rng.random() < 0.4:
            place = np.full(KEYFRAMES, middle + rng.uniform(-1, 1))
            return [_person(rng, path.pose(place, start - sign * rng.uniform(2.6, 4.0)), "bystander")]
        return []
    waited = np.clip(stamps - crossing.kerb_at - 0.4, 0, None) * crossing.pace
    coming = np.clip(crossing.kerb_at - stamps, 0, None) * 1.6
    lateral = start - sign * 0.25 + sign * (waited - coming)
    lateral = np.clip(lateral, min(start, end) - 6.0, max(start, end) + 6.0)
    track = path.pose(np.full(KEYFRAMES, middle), lateral)
    track[:, 2] += sign * np.pi / 2
    return [_person(rng, track, "walker")]
