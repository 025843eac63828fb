"""A three-lane carriageway at 60-70 km/h: slow lorries, and neighbours who decide which lane change is open.

The driver decides at keyframes. Seeing a lorry less than 45 m ahead in its lane it moves left if that lane exists and is
free, else right if that one is, else it brakes. A lane is taken when a vehicle is beside the ego or close
behind it: the side and rear cameras' business.
Lanes are 4.3 m wide and a change takes 2.9 s at >= 16 m/s: Senna's rule asks for > 4 m at less than 5 degrees after 3 s.
"""

from dataclasses import dataclass

import numpy as np

from demo_world.path import Path
from demo_world.traffic import (
    KEYFRAMES,
    STEP_S,
    STEPS,
    Body,
    Profile,
    Question,
    follow,
    keyframes,
    quintic,
)

LANE_M = 4.3
LANES = (-1, 0, 1)  # right, middle, left
REACT_M, IGNORE_M = 45.0, 60.0
TAKEN = (-24.0, 16.0)  # a vehicle here, relative to the ego origin, takes its lane
CLEAR = (-42.0, 62.0)  # outside of this it certainly does not; between the two nobody is asked
CHANGE_S = 2.85

PAINTS = ((40, 40, 190), (190, 120, 40), (200, 200, 200), (60, 60, 60), (60, 140, 60), (30, 170, 210), (150, 60, 130))


@dataclass
class Neighbour:
    """A vehicle known by its lane and its places s (STEPS,)."""

    kind: str
    lane: int
    places: np.ndarray


def lane_state(lane: int, ego_s: float, step: int, others: list[Neighbour]) -> str:
    """Is a lane ``missing``, ``taken``, ``free``, or hard to say (``unclear``) for an ego at ``ego_s``?"""
    if lane not in LANES:
        return "missing"
    state = "free"
    for other in others:
        if other.lane != lane:
            continue
        ahead = other.places[step] - ego_s
        if TAKEN[0] <= ahead <= TAKEN[1]:
            return "taken"
        if CLEAR[0] < ahead < CLEAR[1] and not (ahead > TAKEN[1] + 6 and other.kind != "lorry"):
            state = "unclear"
    return state


def decide(lane: int, ego_s: float, step: int, others: list[Neighbour]) -> str:
    """What the driver does at this moment: keep, left_change, right_change, decelerate or unclear."""
    gaps = [o.places[step] - ego_s for o in others if o.lane == lane and o.kind == "lorry" and o.places[step] > ego_s]
    gap = min(gaps, default=1e3)
    if gap >= IGNORE_M:
        return "keep"
    if gap > REACT_M:
        return "unclear"
    left, right = (lane_state(lane + d, ego_s, step, others) for d in (1, -1))
    if left == "free":
        return "left_change"
    if left == "unclear":
        return "unclear"
    return {"free": "right_change", "unclear": "unclear"}.get(right, "decelerate")


def simulate(rng: np.random.Generator) -> tuple[np.ndarray, list[Body], list[Question], dict, Path]:
    """One scene: the ego (STEPS, 4), the others, the questions, what the road looks like, and its path."""
    path = Path()
    speed = rng.uniform(16.4, 19.9)
    lane = int(rng.choice(LANES, p=(0.25, 0.5, 0.25)))
    first_lane = lane
    profile = Profile(speed)
    time = np.arange(STEPS) * STEP_S
    lateral = np.full(STEPS, lane * LANE_M)
    others: list[Neighbour] = []
    for other_lane in LANES:  # a companion who stays beside or close behind for the whole scene
        wish = 0.15 if abs(other_lane - lane) > 1 else 0.62 if other_lane > lane else 0.5
        if other_lane != lane and rng.random() < wish:
            kind = str(rng.choice(["motorcycle", "car", "van"], p=(0.5, 0.35, 0.15)))
            start = rng.uniform(-17.0, 6.0)
            drift = rng.uniform(-0.25, 0.25)
            others.append(Neighbour(kind, other_lane, start + 8.0 + (speed + drift) * time - 8.0))
        elif rng.random() < 0.4:  # somebody far behind or well ahead takes nothing
            start = rng.choice([rng.uniform(-75, -50), rng.uniform(30, 70)])
            others.append(Neighbour("car", other_lane, start + (speed + 0.04 * np.sign(start)) * time))
    if rng.random() < 0.35:  # a car at the ego's own speed ahead of it is no reason to do anything
        others.append(Neighbour("car", lane, rng.uniform(24, 44) + speed * time))
        own_lead = True
    else:
        own_lead = False
    questions: list[Question] = []
    t = float(rng.choice([0.5, 1.0, 1.5]))
    while t <= 16.5:
        ego_s = profile.distance()
        step = round(t / STEP_S)
        lead_here = own_lead and lane == first_lane
        lorry = Neighbour("lorry", lane, ego_s[step] + rng.uniform(28, 38) + rng.uniform(8.5, 10.5) * (time - t))
        if not lead_here and rng.random() < 0.78 and decide(lane, ego_s[step], step, [*others, lorry]) != "unclear":
            others.append(lorry)
        manoeuvre = decide(lane, ego_s[step], step, others)
        if manoeuvre == "unclear":
            t += 0.5
            continue
        states = ",".join(lane_state(lane + d, ego_s[step], step, others) for d in (1, -1))
        questions.append(Question(round(t / 0.5), "fast road", manoeuvre, f"{'lorry' if manoeuvre != 'keep' else 'clear'}:{states}"))
        if manoeuvre == "decelerate":
            lorry_speed = (lorry.places[-1] - lorry.places[0]) / (time[-1] - time[0])
            profile.change(t, lorry_speed, 2.4)
            break
        if manoeuvre != "keep":
            side = 1 if manoeuvre == "left_change" else -1
            lateral = lateral + side * LANE_M * quintic((time - t - 0.05) / CHANGE_S)
            lane += side
        t += float(rng.choice([3.5, 4.0, 5.0, 6.0]))
    ego_s = profile.distance()
    questions = [q for q in questions if _undisturbed(q, questions)]
    ego = _ego(path, ego_s, lateral, profile.speed)
    if rng.random() < 0.5:  # a follower in the ego's first lane
        leader = next((o.places for o in others if o.lane == first_lane and o.kind == "lorry"), None)
        others.append(Neighbour("car", first_lane, follow(rng.uniform(-45, -25), speed, leader, 9.0)))
    bodies = [_body(rng, path, o) for o in others]
    for _ in range(int(rng.integers(0, 5))):  # oncoming traffic behind the left rail
        places = rng.uniform(30, 600) - 19.0 * time
        track = keyframes(path.pose(places, LANE_M * float(rng.choice([2.9, 3.9]))))
        track[:, 2] += np.pi
        bodies.append(Body(str(rng.choice(["car", "car", "van"])), track, paint=_paint(rng), role="oncoming"))
    return ego, bodies, questions, {"kind": "fast", "length": float(ego_s[KEYFRAMES * 10 - 1])}, path


def _undisturbed(question: Question, all_of_them: list[Question]) -> bool:
    """No other manoeuvre begins within the three seconds that the answer covers."""
    gaps = [q.keyframe - question.keyframe for q in all_of_them if q.keyframe > question.keyframe and q.manoeuvre != "keep"]
    return min(gaps, default=99) >= 7


def _ego(path: Path, s: np.ndarray, lateral: np.ndarray, speed: np.ndarray) -> np.ndarray:
    """(STEPS, 4) x, y, yaw, speed of the ego."""
    pose = path.pose(s, lateral)
    slope = np.gradient(lateral) / np.maximum(np.gradient(s), 1e-3)
    pose[:, 2] += np.where(np.gradient(s) > 1e-3, np.arctan(slope), 0.0)
    return np.concatenate([pose, speed[:, None]], 1)


def _paint(rng: np.random.Generator) -> tuple[int, int, int]:
    base = PAINTS[int(rng.integers(len(PAINTS)))]
    return tuple(int(np.clip(c + rng.integers(-15, 16), 0, 255)) for c in base)  # type: ignore[return-value]


def _body(rng: np.random.Generator, path: Path, other: Neighbour) -> Body:
    wobble = 0.0 if other.kind in ("lorry", "van") else rng.uniform(-0.25, 0.25)
    track = keyframes(path.pose(other.places + 1.4, other.lane * LANE_M + wobble))
    return Body(other.kind, track, paint=_paint(rng), role=f"lane{other.lane}")
