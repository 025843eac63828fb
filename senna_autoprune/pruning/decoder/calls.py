"""Who calls a model that is being pruned, and how: one policy, one thread, and no ``generate`` whose first forward is not the prompt."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable
from contextlib import ExitStack
from contextvars import ContextVar
from functools import wraps
from typing import Any
from weakref import WeakKeyDictionary

from torch import nn
from transformers import GenerationConfig

from senna_autoprune.errors import SennaPruneError

# Ways in which generate's first forward is not the prompt: a method that ranks by the prompt's text would rank by other rows.
UNASKED = {
    "assistant_model": "assisted decoding feeds drafted tokens with the prompt",
    "prompt_lookup_num_tokens": "prompt lookup feeds drafted tokens with the prompt",
    "assistant_early_exit": "early-exit drafting feeds drafted tokens with the prompt",
    "prefill_chunk_size": "a chunked prefill cuts the prompt in pieces",
}

_ACTIVE: WeakKeyDictionary[nn.Module, str] = WeakKeyDictionary()
_LOCK = threading.Lock()
_WITHIN: ContextVar[tuple[int, ...]] = ContextVar("senna_prune_within", default=())  # a task's own, and handed down to those it makes


class Calls:
    """Watches one model inside one ``with``.

    expansion: how often ``generate`` repeats each sample (beams, returned sequences); 1 outside of it.
    seen: calls of the model or of what wraps it. served: calls that reached the decoder through our hooks.
    """

    def __init__(self, model: Any, root: Any, decoder: nn.Module, policy: str) -> None:
        self.model, self.root, self.decoder, self.policy = model, root, decoder, policy
        self.expansion, self.seen, self.served = 1, 0, 0
        self.turn = threading.RLock()
        self.busy: int | None = None

    def attach(self, stack: ExitStack) -> None:
        """Watch until the stack closes.

        Raises:
            SennaPruneError: the model is inside another policy's ``with``, of this or of another thread.
        """
        with _LOCK:
            if self.decoder in _ACTIVE:
                raise SennaPruneError(
                    f"this model is already inside the with of {_ACTIVE[self.decoder]}; one policy at a time, in one thread: leave it first"
                )
            _ACTIVE[self.decoder] = self.policy
        stack.callback(_ACTIVE.pop, self.decoder, None)
        self.owner, self.alive = threading.get_ident(), {thread.ident for thread in threading.enumerate()}
        self.guests: set[int] = set()
        self.task = _task()
        _WITHIN.set((*_WITHIN.get(), id(self)))
        stack.callback(lambda: _WITHIN.set(tuple(one for one in _WITHIN.get() if one != id(self))))
        for module in {id(one): one for one in (self.root, self.model)}.values():
            if isinstance(module, nn.Module):
                stack.callback(module.register_forward_pre_hook(self._see).remove)
        # generate's own two steps too: somebody may have taken hold of model.generate before the with
        for name, watched in (("generate", self._watched), ("_prefill", self._begun), ("_get_candidate_generator", self._drafting)):
            plain, before = getattr(self.model, name, None), vars(self.model).get(name)
            if plain is None:
                continue
            setattr(self.model, name, watched(plain))
            if before is None:
                stack.callback(delattr, self.model, name)
            else:
                stack.callback(setattr, self.model, name, before)

    def check(self) -> None:
        """Raise SennaPruneError if this thread or task is not the one that pruned the model, nor its guest."""
        me = threading.get_ident()
        if me != self.owner and me not in self.guests:
            raise SennaPruneError(
                f"another thread prunes this model by {self.policy}; a model has one user at a time: wait, or load it twice "
                "(a thread that the with has started may generate with a streamer)"
            )
        task = _task()
        if task is not None and self.task not in (None, task) and not self.task.done() and id(self) not in _WITHIN.get():
            raise SennaPruneError(
                f"another task prunes this model by {self.policy} and waits in its with; a model has one user: wait, or load it twice"
            )
        if self.busy not in (None, me):
            raise SennaPruneError("two threads call this pruned model at the same time; a model has one user at a time")

    def begin(self) -> None:
        """A forward has reached the decoder. SennaPruneError as ``check``."""
        self.check()
        self.busy = threading.get_ident()
        self.served += 1

    def end(self) -> bool:
        """That forward is over, or has failed; False if it was not ours."""
        mine = self.busy == threading.get_ident()
        if mine:
            self.busy = None
        return mine

    def unserved(self) -> bool:
        """Whether calls were made and none came through the hooks."""
        return self.seen > 0 and self.served == 0

    def _see(self, module: nn.Module, args: tuple[Any, ...]) -> None:
        self.check()
        self.seen += 1

    def _begun(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(plain)
        def prefill(*args: Any, **kwargs: Any) -> Any:
            config = next((one for one in (*args, *kwargs.values()) if isinstance(one, GenerationConfig)), None)
            refuse(lambda name: getattr(config, name, None))
            return plain(*args, **kwargs)

        return prefill

    def _drafting(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(plain)
        def candidates(*args: Any, **kwargs: Any) -> Any:
            refuse(lambda name: name == "assistant_model")

        return candidates

    def _watched(self, plain: Callable[..., Any]) -> Callable[..., Any]:
        @wraps(plain)
        def generate(*args: Any, **kwargs: Any) -> Any:
            me = threading.get_ident()
            if kwargs.get("streamer") is not None and me not in self.alive:
                self.guests.add(me)
            self.check()
            config = kwargs.get("generation_config") or self.model.generation_config

            def asked(name: str) -> Any:
                return kwargs[name] if kwargs.get(name) is not None else getattr(config, name, None)

            refuse(asked)
            with self.turn:
                self.expansion = max(int(asked("num_beams") or 1), int(asked("num_return_sequences") or 1))
                try:
                    return plain(*args, **kwargs)
                finally:
                    self.expansion = 1

        return generate


def _task() -> Any:
    """The task of asyncio that runs in this thread; None: there is no loop."""
    try:
        return asyncio.current_task()
    except RuntimeError:
        return None


def refuse(asked: Callable[[str], Any]) -> None:
    """Raise SennaPruneError if generate is asked for what a pruned prompt cannot give. asked: an option's value by its name."""
    for name, why in UNASKED.items():
        if asked(name):
            raise SennaPruneError(f"{why} ({name}), so a pruning method would rank by other tokens than the question; leave it out")
    if asked("use_cache") is False:
        raise SennaPruneError("without a cache every step would be pruned anew, ranked by the answer so far; leave use_cache=False out")
