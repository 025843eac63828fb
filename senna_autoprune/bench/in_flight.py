"""Prompts in flight at once, as a server has them: a thread each, with a decoder of its own over the same weights.

Hooks are of one decoder, so that threads cannot share it; weights they can. On a GPU each thread has a stream of its own, too.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from itertools import chain
from threading import Barrier, BrokenBarrierError, Thread
from time import perf_counter
from typing import Any

import numpy as np
import torch
from torch import Tensor

from senna_autoprune.bench.passes import UNPRUNED, Timing, in_turn
from senna_autoprune.pruning.decoder.models import CACHE
from senna_autoprune.pruning.policy import Policy


@dataclass
class InFlightRow:
    """One setting with ``in_flight`` prompts at once, from a prompt's beginning to the end of its decode steps.

    ``together``, ``alone``: prompts/s at once and one after the other (over rounds). ``latency_ms``: of a prompt among the others (over
    prompts and rounds). ``gain``: median of the ratios of throughput within a round.
    """

    setting: str
    in_flight: int
    together: Timing
    alone: Timing
    latency_ms: Timing
    gain: float

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; the timings are named for what they are."""
        found = asdict(self)
        found["prompts_per_s_together"], found["prompts_per_s_alone"] = found.pop("together"), found.pop("alone")
        return found


def over_the_same_weights(model: Any, count: int) -> list[Any]:
    """``count`` models, the first of them ``model``; the others are copies that share its parameters and buffers."""
    shared = {id(tensor): tensor for tensor in chain(model.parameters(), model.buffers())}
    return [model, *(copy.deepcopy(model, dict(shared)) for _ in range(count - 1))]


@dataclass
class Flight:
    """What came of prompts that flew together. tokens: (steps + 1,) of each. seconds: from the first start to the last end."""

    seconds: float
    latencies: list[float]
    tokens: list[list[int]]


@dataclass
class _Seat:
    """One thread's share."""

    model: Any
    embeds: Tensor
    mask: Tensor
    policy: Policy | None
    steps: int
    begun: float = 0.0
    ended: float = 0.0
    tokens: list[int] = field(default_factory=list)
    error: BaseException | None = None

    def fly(self, barrier: Barrier) -> None:
        try:
            stream = torch.cuda.Stream(self.embeds.device) if self.embeds.is_cuda else None
            with torch.inference_mode(), torch.cuda.stream(stream), ExitStack() as stack:
                if self.policy is not None:
                    stack.enter_context(self.policy(self.model, visual_mask=self.mask))
                barrier.wait()
                self.begun = perf_counter()
                output = self.model(inputs_embeds=self.embeds, use_cache=True, logits_to_keep=1)
                token = output.logits[:, -1].argmax(-1, keepdim=True)
                tokens = [token]
                for _ in range(self.steps):
                    logits = self.model(input_ids=token, **{CACHE: getattr(output, CACHE)}, use_cache=True, logits_to_keep=1).logits
                    token = logits[:, -1].argmax(-1, keepdim=True)
                    tokens.append(token)
                self.tokens = torch.cat(tokens, dim=1)[0].tolist()  # waits for the stream
                self.ended = perf_counter()
        except BaseException as error:  # raised again where the threads were started
            self.error = error
            barrier.abort()


def fly(models: Sequence[Any], prompts: Sequence[tuple[Tensor, Tensor]], policy: Policy | None, steps: int) -> Flight:
    """Prefill and ``steps`` decode steps of each prompt (1, N_i, d) with its visual mask (1, N_i), all at once, on a model each.

    Raises:
        whatever a thread raised first.
    """
    barrier = Barrier(len(prompts))
    seats = [_Seat(model, embeds, mask, policy, steps) for model, (embeds, mask) in zip(models, prompts, strict=True)]
    if prompts[0][0].is_cuda:
        torch.cuda.synchronize(prompts[0][0].device)
    threads = [Thread(target=seat.fly, args=(barrier,)) for seat in seats]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    failed = [seat.error for seat in seats if seat.error is not None]
    if failed:
        raise next((error for error in failed if not isinstance(error, BrokenBarrierError)), failed[0])  # those only waited
    seconds = max(seat.ended for seat in seats) - min(seat.begun for seat in seats)
    return Flight(seconds, [seat.ended - seat.begun for seat in seats], [seat.tokens for seat in seats])


def measure_in_flight(
    model: Any,
    prompts: Sequence[tuple[Tensor, Tensor]],
    policies: dict[str, Policy],
    *,
    decode_steps: int = 1,
    rounds: int = 3,
    warmup: int = 1,
    on_round: Callable[[int], None] = lambda done: None,
) -> list[InFlightRow]:
    """As many prompts at once as there are, unpruned and under every policy, beside the same ones one after the other; in turn.

    Args:
        prompts: of ``batches.build_prompts``. policies: name -> policy; "unpruned" is added. decode_steps: after each prefill.
        on_round: told the number of the round that is done, warm-up included.

    Returns:
        one row a setting, in order.

    Raises:
        SennaPruneError: a policy is impossible on this model; and whatever else a thread raised.
    """
    models, names = over_the_same_weights(model, len(prompts)), [UNPRUNED, *policies]
    together: dict[str, list[float]] = {name: [] for name in names}
    alone: dict[str, list[float]] = {name: [] for name in names}
    latencies: dict[str, list[float]] = {name: [] for name in names}
    for name, counts in in_turn(names, rounds, warmup, on_round):
        flight = fly(models, prompts, policies.get(name), decode_steps)
        single = sum(fly([model], [prompt], policies.get(name), decode_steps).seconds for prompt in prompts)
        if counts:
            together[name].append(len(prompts) / flight.seconds)
            alone[name].append(len(prompts) / single)
            latencies[name] += [1e3 * seconds for seconds in flight.latencies]
    return [
        InFlightRow(
            name,
            len(prompts),
            Timing.of(together[name]),
            Timing.of(alone[name]),
            Timing.of(latencies[name]),
            float(np.median([one / other for one, other in zip(together[name], alone[name], strict=True)])),
        )
        for name in names
    ]
