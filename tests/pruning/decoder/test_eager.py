"""The compiler's stance is put back when the last policy leaves, in whatever order they leave, and by whatever thread."""

from __future__ import annotations

import threading
import warnings

import torch
from torch._dynamo import eval_frame

from senna_autoprune import AutoPrune
from senna_autoprune.pruning.decoder.eager import without_graphs
from tests.models import tiny_llama


def stance() -> str:
    return eval_frame._stance.stance


def test_the_last_to_leave_puts_back_what_the_first_found():
    for found in ("default", "eager_on_recompile"):
        with torch.compiler.set_stance(found):
            first, second = without_graphs(), without_graphs()
            first.__enter__()
            second.__enter__()
            first.__exit__(None, None, None)
            assert stance() == "force_eager"
            second.__exit__(None, None, None)
            assert stance() == found
    assert stance() == "default"


def test_who_comes_later_has_no_graphs_whatever_was_set_meanwhile():
    with without_graphs():
        with torch.compiler.set_stance("default"), without_graphs():
            assert stance() == "force_eager"
        torch.compiler.set_stance("force_eager")
    assert stance() == "default"


def test_policies_of_two_threads_that_leave_in_the_order_they_came():
    one, two = tiny_llama(layers=2), tiny_llama(layers=2)
    inside, left, seen = threading.Event(), threading.Event(), []

    def other() -> None:
        with AutoPrune(retention=0.6)(two):
            inside.set()
            left.wait(60)
            seen.append(stance())

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # nothing was pruned
        thread = threading.Thread(target=other)
        with AutoPrune(retention=0.6)(one):
            thread.start()
            assert inside.wait(60)
        left.set()
        thread.join()
    assert seen == ["force_eager"] and stance() == "default"
