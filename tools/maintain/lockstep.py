"""What looking costs, on a machine that others use too: AutoPrune and its lengths alone in lockstep, a layer of each in turn.

``senna-prune bench`` measures prefills in turn, and a neighbour that comes for a second slows one of two. Here both are under way at
once, on two decoders over the same weights, and a baton goes back and forth at every layer: what the machine does for longer than a layer
(30 ms) it does to both. Who comes second finds the layer's weights in the cache: the order changes every round, and rounds count by twos.
The sum over the layers of each one's fastest round is what is left where no neighbour was.

    python tools/maintain/lockstep.py --rounds 32
"""

from __future__ import annotations

import argparse
import json
from contextlib import ExitStack
from dataclasses import dataclass, field
from threading import Semaphore, Thread
from time import perf_counter
from typing import Any

import numpy as np
import torch
from scipy.stats import bootstrap

from senna_autoprune import AutoPrune
from senna_autoprune.bench.in_flight import over_the_same_weights
from senna_autoprune.bench.passes import lengths_alone
from senna_autoprune.bench.shapes import BenchShape, build_decoder, build_prompt
from senna_autoprune.device import keep_freed_memory
from senna_autoprune.pruning.policy import Policy


@dataclass
class Runner:
    """One prefill, on a thread that runs only while it has the baton. laps: seconds that it had it, layer by layer."""

    model: Any
    policy: Policy
    embeds: torch.Tensor
    mask: torch.Tensor
    baton: Semaphore = field(default_factory=lambda: Semaphore(0))
    other: Runner | None = None
    done: bool = False
    laps: list[float] = field(default_factory=list)
    begun: float = 0.0
    error: BaseException | None = None

    def pass_on(self, *_: Any) -> None:
        """Before a layer: let the other run its own."""
        if self.other is None or self.other.done:
            return
        self.laps.append(perf_counter() - self.begun)
        self.other.baton.release()
        self.baton.acquire()
        self.begun = perf_counter()

    def run(self) -> None:
        """The thread."""
        try:
            with ExitStack() as stack:
                stack.enter_context(torch.inference_mode())
                stack.enter_context(self.policy(self.model, visual_mask=self.mask))
                for module in (*self.model.model.layers, self.model.model.norm):
                    stack.callback(module.register_forward_pre_hook(self.pass_on, prepend=True).remove)
                self.baton.acquire()
                self.begun = perf_counter()
                self.model(inputs_embeds=self.embeds, use_cache=True, logits_to_keep=1)
                self.laps.append(perf_counter() - self.begun)
        except BaseException as error:  # raised again where the threads were started
            self.error = error
        self.done = True
        if self.other is not None:
            self.other.baton.release()


def both(first: Runner, second: Runner) -> tuple[list[float], list[float]]:
    """The laps of each. The first begins every layer."""
    first.other, second.other = second, first
    threads = [Thread(target=one.run) for one in (first, second)]
    for thread in threads:
        thread.start()
    first.baton.release()
    for thread in threads:
        thread.join()
    for one in (first, second):
        if one.error is not None:
            raise one.error
    return first.laps, second.laps


def measure(shape: BenchShape, shares: list[float], rounds: int) -> dict[str, np.ndarray]:
    """Laps (rounds, 2, layers + 2) of AutoPrune and of its lengths alone, by share."""
    model = build_decoder(shape, torch.float32, "cpu")
    models, (embeds, mask) = over_the_same_weights(model, 2), build_prompt(shape, torch.float32, "cpu")
    looking = {share: AutoPrune(retention=share) for share in shares}
    alone = {share: lengths_alone(looking[share], model, embeds, mask) for share in shares}
    found: dict[float, list[Any]] = {share: [] for share in shares}
    for done in range(-1, rounds // 2 * 2):  # the first is to warm up
        for share in shares:
            one, other = (Runner(models[index], policy, embeds, mask) for index, policy in enumerate((looking[share], alone[share])))
            both(*((other, one) if done % 2 else (one, other)))
            if done >= 0:
                found[share].append((one.laps, other.laps))
    return {f"{share:.2f}": np.array(laps) for share, laps in found.items()}


def ratios_of(laps: np.ndarray) -> np.ndarray:
    """Lengths alone over AutoPrune, of every two rounds (geometric means): (rounds / 2,) of (rounds, 2, layers + 2)."""
    ratios = laps[:, 1].sum(-1) / laps[:, 0].sum(-1)
    return np.sqrt(ratios[::2] * ratios[1::2])


def fastest(laps: np.ndarray) -> float:
    """The same of each layer's fastest round."""
    looked, blind = laps.min(0).sum(-1)
    return float(blind / looked)


def main() -> None:
    """Print a line a share; the last line is JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=32)
    parser.add_argument("--retention", default="0.20,0.25,0.40")
    parser.add_argument("--layers", type=int, default=24)
    parser.add_argument("--hidden", type=int, default=768)
    given = parser.parse_args()
    if given.rounds < 4:
        parser.error("--rounds: at least 4, for rounds count by twos")
    keep_freed_memory()
    shares = [float(share) for share in given.retention.split(",")]
    found = measure(BenchShape(layers=given.layers, hidden=given.hidden), shares, given.rounds)
    for share, laps in found.items():
        ratios = ratios_of(laps)
        low, high = bootstrap((ratios,), np.median, n_resamples=2000, method="percentile", rng=0).confidence_interval
        middle = f"{np.median(ratios):.3f} [{low:.3f}, {high:.3f}] (median, 95 %, {len(ratios)} x 2 rounds)"
        ms = 1e3 * np.median(laps.sum(-1), axis=0)
        print(f"{share}: lengths alone / AutoPrune {middle}, {fastest(laps):.3f} of fastest layers; medians {ms[1]:.0f} and {ms[0]:.0f} ms")
    print(json.dumps({share: laps.tolist() for share, laps in found.items()}))


if __name__ == "__main__":
    main()
