"""The bound on a search's answers, counted by hand: three scenes of 1, 2 and 4 questions."""

from __future__ import annotations

from senna_autoprune.evaluation.budget.ahead import AGAIN, Ahead
from senna_autoprune.evaluation.runs.rows import NO_IMAGE, UNPRUNED

SIZE, GRID = {"a": 1, "b": 2, "c": 4}, (0.4, 0.25, 0.1)


def test_every_method_by_itself() -> None:
    ahead = Ahead("a", (), "abc", SIZE, ["x", "y"], GRID, each=True)
    assert ahead.most == 2 * 7 + 1 + 2 * 3 * 7
    ahead.ask([(UNPRUNED, 1), (NO_IMAGE, 1)], "abc")
    ahead.ask([(AGAIN, 1)], "a")
    ahead.ask([("x", 0.4), ("y", 0.4)], "ab")
    ahead.ask([("x", 0.4)], "ab")  # again: nothing new
    assert (ahead.asked, ahead.most) == (14 + 1 + 6, 57)
    ahead.decided("y", 0.4)  # its last scene is not asked, its smaller budgets may be
    assert ahead.most == 57 - 4
    ahead.stopped("x", 0.4)  # nor are the smaller ones
    assert ahead.most == 53 - 4 - 2 * 7
    ahead.stopped("y", 0.25)
    assert ahead.most == ahead.asked == 21


def test_one_method_is_chosen_first() -> None:
    ahead = Ahead("a", "a", "bc", SIZE, ["x", "y"], GRID, each=False)
    assert ahead.most == 2 * 7 + 1 + 2 * 3 * 1 + 3 * 6
    ahead.chosen("x", (0.4, 0.1))
    assert ahead.most == 2 * 7 + 1 + 2 * 6
