"""Secrets in what is printed: the key, and a password in an address, whoever repeats them."""

from __future__ import annotations

import base64
import re
from urllib.parse import quote, unquote

_USER = re.compile(r"(?<=://)[^/?#\s@]*(?::[^/?#\s@]*)?@")
_SHORTEST = 4  # characters; a shorter "secret" would blot out ordinary words


class Mask:
    """``mask(text)``: the text with every form of the secrets it knows replaced by ``***``.

    Args:
        key: of the server, "" without.
        url: whose user part (``user:password@``) is secret as well, also in Basic authorisation.
    """

    def __init__(self, key: str, url: str) -> None:
        secrets = {key}
        for found in _USER.findall(url):
            user, _, password = found[:-1].partition(":")
            pair = f"{unquote(user)}:{unquote(password)}"
            secrets |= {password or user, unquote(password or user), pair, base64.b64encode(pair.encode()).decode()}
        forms = {form for secret in secrets for form in (secret, quote(secret, safe=""), base64.b64encode(secret.encode()).decode())}
        longest_first = sorted((form for form in forms if len(form) >= _SHORTEST or form in secrets - {""}), key=len, reverse=True)
        self._secrets = re.compile("|".join(map(re.escape, longest_first))) if longest_first else None

    def __call__(self, text: str) -> str:
        masked = _USER.sub("***@", text)
        return self._secrets.sub("***", masked) if self._secrets else masked
