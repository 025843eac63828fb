"""Only regular files of a bounded size are read, and from a run folder only files with one name."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from senna_autoprune.errors import SennaPruneError
from senna_autoprune.files.atomic import replace_file
from senna_autoprune.files.json_files import read_json
from senna_autoprune.files.regular import read_regular, require_own, require_own_folder
from senna_autoprune.files.yaml_files import read_yaml


def test_a_file_is_read_up_to_its_limit(tmp_path: Path) -> None:
    (tmp_path / "a").write_bytes(b"12345")
    assert read_regular(tmp_path / "a", 5) == b"12345"
    with pytest.raises(SennaPruneError, match="larger than 4"):
        read_regular(tmp_path / "a", 4)
    with pytest.raises(FileNotFoundError):
        read_regular(tmp_path / "absent", 4, own=True)


@pytest.mark.parametrize("read", [read_json, read_yaml, lambda path: read_regular(path, 9)])
def test_pipes_and_devices_do_not_hang(tmp_path: Path, read) -> None:  # type: ignore[no-untyped-def]
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", Path("/dev/zero")):
        with pytest.raises(SennaPruneError, match="no regular file"):
            read(path)


def test_links_are_followed_only_where_nobody_else_made_them(tmp_path: Path) -> None:
    (tmp_path / "real").write_text("{}")
    (tmp_path / "link").symlink_to("real")
    assert read_json(tmp_path / "link") == {}  # checkpoints of a hub cache are links
    with pytest.raises(SennaPruneError, match="no plain file"):
        read_json(tmp_path / "link", own=True)
    os.link(tmp_path / "real", tmp_path / "second")
    with pytest.raises(SennaPruneError, match="second name"):
        require_own(tmp_path / "real")
    (tmp_path / "folder").symlink_to(tmp_path)
    require_own_folder(tmp_path)
    require_own_folder(tmp_path / "absent")
    for name in ("folder", "real"):
        with pytest.raises(SennaPruneError, match="link or no folder"):
            require_own_folder(tmp_path / name)


def test_a_link_under_a_files_name_is_replaced_and_what_it_names_stays(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    (tmp_path / "out.png").symlink_to("mine")
    replace_file(tmp_path / "out.png", b"new")
    assert (tmp_path / "mine").read_text() == "mine" and (tmp_path / "out.png").read_bytes() == b"new"
    assert not (tmp_path / "out.png").is_symlink()
