"""The template teacher: light, description and explanation of a simulated keyframe, from the world's state.

Only what is in the picture is said: a body is named if enough of its pixels are to be seen (``seen``, from the renderer).
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from demo_world.cameras import CAMERAS
from demo_world.facts import facts
from demo_world.traffic import Body, Question, Scene
from senna_autoprune.nuscenes.strings import channel

Seen = Mapping[int, int]  # body -> its pixels in one view
NAMED_PIXELS = 40
MOST_NAMED = 3
LIGHTS = {"none": "None", "green": "Green", "amber": "Yellow", "red": "Red"}
NOUNS = {"car": "car", "van": "van", "lorry": "truck", "motorcycle": "motorcycle", "bicycle": "bicycle", "pedestrian": "pedestrian"}
INDICATES = {2: ", indicating left", 3: ", indicating right"}


def light(scene: Scene, question: Question) -> str:
    """Red, Green, Yellow or None: the light that is the ego's affair."""
    return LIGHTS[facts(scene, question).signal]


def named(scene: Scene, keyframe: int, seen: Seen) -> list[int]:
    """The bodies that a description names: seen well enough, nearest first."""
    ego = scene.ego_keyframes[keyframe]
    far = {i: float(np.hypot(*(scene.bodies[i].track[keyframe, :2] - ego[:2]))) for i in seen if i < len(scene.bodies)}
    good = [i for i in far if seen[i] >= NAMED_PIXELS and scene.bodies[i].kind in NOUNS]
    return sorted(good, key=far.__getitem__)[:MOST_NAMED]


def description(scene: Scene, question: Question, view: str, seen: Seen) -> str:
    """Light and weather, the road, up to three road users of the view (place and movement), the traffic light (front view)."""
    k = question.keyframe
    said = [f"It is {'night' if scene.night else 'day'} and {'rainy' if scene.rain else 'dry'} on a {_road(scene)}."]
    users = named(scene, k, seen)
    for body in (scene.bodies[i] for i in users):
        said.append(f"A {NOUNS[body.kind]} is {_place(scene, k, body, view)}, {_movement(body, k)}.")
    if not users:
        said.append("No road user is near.")
    if view == "front":
        state = LIGHTS[facts(scene, question).signal].lower()
        said.append("There is no traffic light." if state == "none" else f"The traffic light is {state}.")
    return " ".join(said)


def _road(scene: Scene) -> str:
    return "motorway" if scene.kind == "fast" else "town street"


def _place(scene: Scene, k: int, body: Body, view: str) -> str:
    """Third of the picture and distance in steps of 10 m."""
    camera = next(c for c in CAMERAS if c.channel == channel(view))
    ego = scene.ego_keyframes[k]
    dx, dy = body.track[k, :2] - ego[:2]
    bearing = np.arctan2(dy, dx) - ego[2] - np.radians(camera.yaw_deg)
    bearing = (bearing + np.pi) % (2 * np.pi) - np.pi
    third = "on the left" if bearing > 0.17 else "on the right" if bearing < -0.17 else "in the middle"
    tens = max(10, 10 * round(float(np.hypot(dx, dy)) / 10))
    return f"{third} at {tens} meters"


def _movement(body: Body, k: int) -> str:
    lamp = int(body.lamp[k])
    a, b = max(k - 1, 0), min(k + 1, len(body.track) - 1)
    moving = np.hypot(*(body.track[b, :2] - body.track[a, :2])) / ((b - a) * 0.5) > 0.3
    return ("moving" if moving else "standing") + (", braking" if lamp == 1 else INDICATES.get(lamp, ""))


def explanation(scene: Scene, question: Question) -> str:
    """Why the driver decided so: the cause that the simulation acted on."""
    cause = question.cause
    signal = facts(scene, question).signal
    if ":" in cause:
        return _lane_reason(question, *cause.split(":")[1].split(","))
    if cause == "red signal":
        return "The traffic light ahead turns red." if signal == "amber" else "The traffic light ahead is red."
    if cause == "walker":
        return "A pedestrian crosses the road ahead."
    if cause == "walker at the exit":
        return "A pedestrian crosses the road into which I turn."
    if cause == "exit free":
        return "The road into which I turn is free."
    if cause == "brake lights":
        return "The car ahead brakes."
    if cause == "lead":
        return "The car ahead stands with its brake lights on."
    if cause == "lead gone":
        return "The car ahead has let go of its brakes."
    if cause == "car ahead":
        return "A car ahead drives on without braking."
    return "The traffic light ahead is green." if signal == "green" else "The road ahead is free."


def _lane_reason(question: Question, left: str, right: str) -> str:
    lanes = {"left": left, "right": right}
    if question.manoeuvre == "keep":
        return "No truck is near in my lane."
    if question.manoeuvre == "left_change":
        return "A slow truck is ahead and the left lane is free."
    words = [f"the {side} lane is {state}" for side, state in lanes.items()]
    return f"A slow truck is ahead, {words[0]} and {words[1]}."
