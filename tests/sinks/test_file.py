"""The file of notifications: whole lines, on disk, in bounded files."""

from __future__ import annotations

import os
from pathlib import Path

import orjson
import pytest

from alerts.notifications import decode_notification
from alerts.sinks.delivery import TryLater
from alerts.sinks.file import FileSink, append_line
from tests.sinks.notifications import notification


async def test_each_notification_is_one_line(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "alerts.jsonl")
    sent = [notification(sequence=number) for number in range(1, 4)]
    for each in sent:
        await sink.deliver(each)
    lines = (tmp_path / "alerts.jsonl").read_bytes().splitlines()
    assert [decode_notification(line).id for line in lines] == [each.id for each in sent]


async def test_a_file_that_was_moved_away_is_begun_anew(tmp_path: Path) -> None:
    sink = FileSink(tmp_path / "a")
    await sink.deliver(notification())
    (tmp_path / "a").rename(tmp_path / "moved")
    await sink.deliver(notification())
    assert len((tmp_path / "a").read_bytes().splitlines()) == len((tmp_path / "moved").read_bytes().splitlines()) == 1


def test_files_are_rotated_by_size_and_the_oldest_go(tmp_path: Path) -> None:
    path = tmp_path / "a"
    for number in range(10):
        append_line(path, b"%d" % number * 9, max_bytes=25, keep=2)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["a", "a.1", "a.2"]
    assert path.read_bytes() + (tmp_path / "a.1").read_bytes() == b"8" * 9 + b"\n" + b"9" * 9 + b"\n" + (
        b"6" * 9 + b"\n" + b"7" * 9 + b"\n"
    )
    assert all(each.stat().st_size <= 25 for each in tmp_path.iterdir())


def test_a_line_longer_than_the_bound_is_still_written(tmp_path: Path) -> None:
    append_line(tmp_path / "a", b"x" * 100, max_bytes=10, keep=1)
    append_line(tmp_path / "a", b"y" * 100, max_bytes=10, keep=1)
    assert (tmp_path / "a").read_bytes() == b"y" * 100 + b"\n"


def test_half_a_line_of_a_crash_does_not_swallow_the_next(tmp_path: Path) -> None:
    path = tmp_path / "a"
    path.write_bytes(b'{"half": ')
    append_line(path, b'{"whole": 1}', max_bytes=0, keep=0)
    assert orjson.loads(path.read_bytes().splitlines()[-1]) == {"whole": 1}


async def test_a_folder_that_is_not_there_is_tried_later(tmp_path: Path) -> None:
    with pytest.raises(TryLater, match="No such file"):
        await FileSink(tmp_path / "no" / "a").deliver(notification())


def test_what_could_not_be_written_whole_is_not_there_at_all(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a"
    append_line(path, b"one", max_bytes=0, keep=0)
    write = os.write
    monkeypatch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:4]))
    with pytest.raises(OSError, match="only a part"):
        append_line(path, b"two and more", max_bytes=0, keep=0)
    assert path.read_bytes() == b"one\n"
