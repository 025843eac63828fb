"""A teacher behind an OpenAI-compatible server (vLLM, llama.cpp, SGLang, ...): ``POST BASE_URL/chat/completions``.

The key comes from the environment (``OPENAI_API_KEY``) and goes nowhere but into the request's header.
"""

from __future__ import annotations

import base64
import mimetypes
import os
import random
import threading
from pathlib import Path
from typing import Any

import httpx

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.nuscenes.teacher.backend import MAX_NEW_TOKENS, TeacherError

KEY_VARIABLE = "OPENAI_API_KEY"
CONNECT_TIMEOUT_S = 10.0
FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 30.0
_BUSY = {408, 409, 425, 429, 500, 502, 503, 504}  # may pass: try again
_SET_UP = {401, 403, 404, 405}  # wrong key, model or address: no question will get an answer


class OpenAIBackend:
    """Asks a server over HTTP, from several threads at once.

    Args:
        base_url: up to and with ``/v1``.
        timeout_s: for one request (connecting has its own, shorter one).
        attempts: tries before a question is given up; between them the delay doubles, with jitter, and a server's
            ``Retry-After`` (seconds) is kept.
    """

    def __init__(
        self, base_url: str, model: str, concurrency: int = 4, timeout_s: float = 120.0, attempts: int = 5
    ) -> None:
        self.base_url = base_url.rstrip("/")
        self.identity = {"teacher": "openai", "model": model, "max_tokens": MAX_NEW_TOKENS}
        self.concurrency = max(1, concurrency)
        self._attempts = max(1, attempts)
        self._stopped = threading.Event()
        key = os.environ.get(KEY_VARIABLE)
        self._client = httpx.Client(
            timeout=httpx.Timeout(timeout_s, connect=min(CONNECT_TIMEOUT_S, timeout_s)),
            limits=httpx.Limits(max_connections=self.concurrency),
            headers={"Authorization": f"Bearer {key}"} if key else {},
        )

    @classmethod
    def parse(cls, spec: str, **options: Any) -> OpenAIBackend:
        """From ``BASE_URL#MODEL``. Raises SennaPruneError if a part is missing or the address is not http."""
        base_url, _, model = spec.partition("#")
        if not base_url.startswith(("http://", "https://")) or not model:
            raise SennaPruneError(
                f"--teacher openai:{spec}: use openai:BASE_URL#MODEL, e.g. openai:http://host:8000/v1#NAME"
            )
        return cls(base_url, model, **options)

    def answer(self, question: str, image: Path) -> str:
        """One request, tried again while the server is busy or away.

        Raises:
            TeacherError: no answer to this question after all attempts, or the server refuses it.
            SennaPruneError: the server refuses the key, the model or the address.
        """
        request = self._request(question, image)
        delay = FIRST_DELAY_S
        for attempt in range(1, self._attempts + 1):
            wait = delay
            try:
                response = self._client.post(f"{self.base_url}/chat/completions", json=request)
            except (httpx.TransportError, RuntimeError) as error:  # RuntimeError: the client was closed meanwhile
                problem = f"{self.base_url}: {type(error).__name__}: {error}"
            else:
                if response.status_code == httpx.codes.OK:
                    return _content(response)
                problem = f"{self.base_url} answered {response.status_code}: {_first_line(response.text)}"
                if response.status_code in _SET_UP or response.is_redirect:
                    raise SennaPruneError(f"teacher {self.identity['model']}: {problem} (key: ${KEY_VARIABLE})")
                if response.status_code not in _BUSY:
                    raise TeacherError(problem)
                wait = max(delay, _retry_after(response))
            if attempt < self._attempts and self._stopped.wait(min(wait, LONGEST_DELAY_S) * random.uniform(1.0, 1.25)):
                break
            delay *= 2
        raise TeacherError(f"{problem} (tried {attempt} times)")

    def close(self) -> None:
        """Wake the waiting and drop the connections."""
        self._stopped.set()
        self._client.close()

    def _request(self, question: str, image: Path) -> dict[str, Any]:
        kind = mimetypes.guess_type(image.name)[0] or "image/jpeg"
        data = base64.b64encode(image.read_bytes()).decode()
        return {
            "model": self.identity["model"],
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {"type": "image_url", "image_url": {"url": f"data:{kind};base64,{data}"}},
                        {"type": "text", "text": question},
                    ],
                }
            ],
            "temperature": 0,
            "max_tokens": MAX_NEW_TOKENS,
        }


def _content(response: httpx.Response) -> str:
    try:
        content = response.json()["choices"][0]["message"]["content"]
    except (ValueError, KeyError, IndexError, TypeError) as error:
        raise TeacherError(f"the server's answer is no chat completion: {_first_line(response.text)}") from error
    if not isinstance(content, str):
        raise TeacherError("the server's answer holds no text")
    return content


def _retry_after(response: httpx.Response) -> float:
    try:
        return max(0.0, float(response.headers.get("retry-after", "0")))
    except ValueError:  # a date: our own delay will do
        return 0.0


def _first_line(text: str) -> str:
    line = text.strip().splitlines()[0] if text.strip() else "(nothing)"
    return line[:200]
