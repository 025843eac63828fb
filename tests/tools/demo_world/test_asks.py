"""Questions straight from the simulation equal those that ``questions build`` reads from the tables of the same scene."""

import pytest

from demo_world.asks import geometric, geometry, taught
from demo_world.tables import TableWriter
from demo_world.world import generate
from senna_autoprune.nuscenes.can_bus import CanBus
from senna_autoprune.nuscenes.scenes import iter_samples, load_tables, scenes_of_split

SEEDS = (900_001, 900_004)


@pytest.fixture(scope="module")
def root(tmp_path_factory):
    folder = tmp_path_factory.mktemp("world")
    writer = TableWriter(folder, "v1.0-demo")
    for number, seed in enumerate(SEEDS):
        writer.add(generate(seed, f"scene-{9001 + number}", edition=2), [])
    writer.write("demo_test")
    return folder


def test_same_geometry_as_the_tables(root):
    nusc = load_tables(root, "v1.0-demo")
    checked = 0
    for number, row in enumerate(scenes_of_split(nusc, "demo_test")[0]):
        scene = generate(SEEDS[number], row["name"], edition=2)
        for k, sample in enumerate(iter_samples(nusc, row, CanBus(str(root)), "fixed")):
            ours, theirs = geometry(scene, k), sample.geometry
            assert ours.names == list(theirs.names) and ours.command == theirs.command
            assert ours.box_xy == pytest.approx(theirs.box_xy, abs=2e-3)
            assert ours.tracks == pytest.approx(theirs.tracks, abs=4e-3) and (ours.track_masks == theirs.track_masks).all()
            assert ours.ego_track == pytest.approx(theirs.ego_track, abs=4e-3) and (ours.ego_masks == theirs.ego_masks).all()
            assert ours.ego_speed == pytest.approx(theirs.ego_speed, abs=1e-3)
            checked += len(ours.names)
    assert checked > 100


def test_every_type_is_asked():
    kinds = set()
    for seed in range(900_000, 900_012):
        scene = generate(seed, "x", edition=2)
        for question in scene.questions:
            asked = geometric(scene, question) + taught(scene, question, {})
            kinds |= {a.kind for a in asked}
            assert sum(a.kind == "description" for a in asked) == 6
            assert all(a.answer.strip() and "{" not in a.question for a in asked)
    assert kinds == {"plan", "vru", "motion", "light", "description", "explanation"}
