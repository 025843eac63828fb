"""A teacher behind an OpenAI-compatible server (vLLM, llama.cpp, SGLang, ...): ``POST BASE_URL/chat/completions``.

The key comes from the environment (``OPENAI_API_KEY``) and goes nowhere but into the request's header; the server's own words are
printed with every secret masked (``secrets.Mask``). A server is not trusted: its answer is bounded in bytes, and a request in time,
however slowly it drips.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import json
import mimetypes
import os
import random
import ssl
import threading
from pathlib import Path
from typing import Any

import httpx

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.files.image_files import MAX_BYTES
from senna_autoprune.files.json_files import text_fault
from senna_autoprune.files.regular import read_regular
from senna_autoprune.nuscenes.teacher.backend import MAX_NEW_TOKENS, TeacherError
from senna_autoprune.nuscenes.teacher.secrets import Mask

KEY_VARIABLE = "OPENAI_API_KEY"
CONNECT_TIMEOUT_S = 10.0
FIRST_DELAY_S = 0.5
LONGEST_DELAY_S = 30.0
MOST_BYTES = 1_000_000  # of a response; 512 tokens are a few thousand
_BUSY = {408, 409, 425, 429, 500, 502, 503, 504}  # may pass: try again
_SET_UP = {401, 403, 404, 405}  # wrong key, model or address: no question will get an answer


class OpenAIBackend:
    """Asks a server over HTTP, from several threads at once.

    Args:
        base_url: up to and with ``/v1``.
        timeout_s: for one request in all (connecting has its own, shorter one).
        attempts: tries before a question is given up; between them the delay doubles, with jitter, and a server's
            ``Retry-After`` (seconds) is kept.
    Raises:
        SennaPruneError: an address that is none, or a key that no header can hold.
    """

    def __init__(self, base_url: str, model: str, concurrency: int = 4, timeout_s: float = 120.0, attempts: int = 5) -> None:
        self.base_url = base_url.rstrip("/")
        self.identity = {"teacher": "openai", "model": model, "max_tokens": MAX_NEW_TOKENS}
        self.concurrency = max(1, concurrency)
        self._attempts = max(1, attempts)
        self._timeout_s = timeout_s
        self._stopped = threading.Event()
        key = os.environ.get(KEY_VARIABLE, "").strip()
        if not (key.isascii() and key.isprintable()):
            raise SennaPruneError(f"${KEY_VARIABLE} holds what no key does (a character that is not ASCII, or a line break inside)")
        self._mask = Mask(key, self.base_url)
        if text_fault(model):
            raise SennaPruneError(f"--teacher openai:...#MODEL: the model's name is {text_fault(model)}")
        try:
            self._url = httpx.URL(f"{self.base_url}/chat/completions")
            if not self._url.host or not 0 < (self._url.port or 80) < 2**16:
                raise httpx.InvalidURL("no host, or a port beyond 65535")
        except (httpx.InvalidURL, UnicodeError) as error:
            raise SennaPruneError(f"--teacher openai:{self._mask(self.base_url)}: no web address ({self._mask(str(error))})") from None
        self._headers = {"Accept-Encoding": "identity", **({"Authorization": f"Bearer {key}"} if key else {})}
        self._tls = ssl.create_default_context() if self._url.scheme == "https" else False

    @classmethod
    def parse(cls, spec: str, **options: Any) -> OpenAIBackend:
        """From ``BASE_URL#MODEL``. Raises SennaPruneError if a part is missing or the address is not http."""
        base_url, _, model = spec.partition("#")
        if not base_url.startswith(("http://", "https://")) or not model:
            shown = Mask("", base_url)(spec)
            raise SennaPruneError(f"--teacher openai:{shown}: use openai:BASE_URL#MODEL, e.g. openai:http://host:8000/v1#NAME")
        return cls(base_url, model, **options)

    def answer(self, question: str, image: Path) -> str:
        """One request, tried again while the server is busy or away.

        Raises:
            TeacherError: no answer to this question after all attempts, or the server refuses it.
            SennaPruneError: the server refuses the key, the model or the address.
        """
        request = self._request(question, image)
        shown = self._mask(self.base_url)
        delay = FIRST_DELAY_S
        for attempt in range(1, self._attempts + 1):
            wait = delay
            try:
                status, headers, body = asyncio.run(self._post(request))
            except (httpx.HTTPError, TimeoutError, OSError, RuntimeError, ssl.SSLError) as error:
                name = "ReadTimeout" if isinstance(error, TimeoutError) else type(error).__name__
                problem = f"{shown}: {name}: {self._mask(str(error))}"
            else:
                if status == httpx.codes.OK:
                    return self._content(body)
                problem = f"{shown} answered {status}: {self._first_line(body)}"
                if status in _SET_UP or 300 <= status < 400:
                    raise SennaPruneError(f"teacher {self.identity['model']}: {problem} (key: ${KEY_VARIABLE})")
                if status not in _BUSY:
                    raise TeacherError(problem)
                wait = max(delay, _retry_after(headers))
            if self._stopped.is_set():
                break
            if attempt < self._attempts and self._stopped.wait(min(wait, LONGEST_DELAY_S) * random.uniform(1.0, 1.25)):
                break
            delay *= 2
        raise TeacherError(f"{problem} (tried {attempt} times)")

    def close(self) -> None:
        """Wake the waiting and drop the connections."""
        self._stopped.set()

    async def _post(self, request: dict[str, Any]) -> tuple[int, httpx.Headers, bytes]:
        """Status, headers and the body's first ``MOST_BYTES``. Raises TimeoutError once ``timeout_s`` is over, however it was spent."""
        limits = httpx.Timeout(self._timeout_s, connect=min(CONNECT_TIMEOUT_S, self._timeout_s))
        async with asyncio.timeout(self._timeout_s), httpx.AsyncClient(timeout=limits, verify=self._tls) as client:
            asked = asyncio.ensure_future(self._read(client, request))
            while not asked.done():
                await asyncio.wait([asked], timeout=0.2)
                if self._stopped.is_set() and not asked.done():
                    asked.cancel()
                    with contextlib.suppress(asyncio.CancelledError, Exception):
                        await asked
                    raise RuntimeError("the build has ended")
            return asked.result()

    async def _read(self, client: httpx.AsyncClient, request: dict[str, Any]) -> tuple[int, httpx.Headers, bytes]:
        async with client.stream("POST", self._url, json=request, headers=self._headers) as response:
            body = b""
            async for chunk in response.aiter_raw():
                body += chunk
                if len(body) > MOST_BYTES:
                    break
            return response.status_code, response.headers, body

    def _request(self, question: str, image: Path) -> dict[str, Any]:
        kind = mimetypes.guess_type(image.name)[0] or "image/jpeg"
        data = base64.b64encode(read_regular(image, MAX_BYTES)).decode()
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

    def _content(self, body: bytes) -> str:
        if len(body) > MOST_BYTES:
            raise TeacherError(f"the server's answer has more than {MOST_BYTES} bytes")
        try:
            content = json.loads(body)["choices"][0]["message"]["content"]
        except (ValueError, KeyError, IndexError, TypeError, RecursionError) as error:
            raise TeacherError(f"the server's answer is no chat completion: {self._first_line(body)}") from error
        if not isinstance(content, str):
            raise TeacherError("the server's answer holds no text")
        return content

    def _first_line(self, body: bytes) -> str:
        """The first line of what a server said, for an error: decoded, masked, 200 characters at most."""
        text = self._mask(body[:20_000].decode("utf-8", "replace")).strip()
        return (text.splitlines()[0] if text else "(nothing)")[:200]


def _retry_after(headers: httpx.Headers) -> float:
    try:
        return max(0.0, float(headers.get("retry-after", "0")))
    except ValueError:  # a date: our own delay will do
        return 0.0
