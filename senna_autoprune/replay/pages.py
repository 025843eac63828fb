"""What our HTML pages have in common: escaping templates, one set of colours, pictures inside the file.

A page is one file that needs no network and no server. Strings of a checkpoint, a question file or the tables never
become markup: templates escape by themselves, a name that is not given is an error, and each page's content security policy
lets nothing but its own style and script run.
"""

from __future__ import annotations

import base64
from importlib.resources import files
from typing import TYPE_CHECKING

from senna_autoprune.errors import visible

if TYPE_CHECKING:
    from jinja2 import Environment

OURS = "senna_autoprune.replay"
FOLDER = "page"  # of a package, with its templates and styles
COLOURS = "colours.css"  # light and dark, shared by all pages


def environment(package: str) -> Environment:
    """Templates of a package's ``page`` folder, escaping everything that is not ``Markup``; what turns the order of reading round
    (bidi), or is no character of a page, is made visible.
    """
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader(package, FOLDER),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=lambda value: visible(value) if type(value) is str else value,
    )


def page_file(package: str, name: str) -> str:
    """The text of a file of a package's ``page`` folder."""
    return files(package).joinpath(FOLDER, name).read_text(encoding="utf-8")


def page_style(package: str, name: str) -> str:
    """Our colours and a package's own style sheet."""
    return page_file(OURS, COLOURS) + page_file(package, name)


def base64_text(data: bytes) -> str:
    return base64.b64encode(data).decode()


def jpeg_uri(data: bytes) -> str:
    """A JPEG file as the source of an ``img``."""
    return f"data:image/jpeg;base64,{base64_text(data)}"
