"""Threads that share one archive: each finds what it recorded, whatever the others do."""

from __future__ import annotations

import shutil
import threading
import time

import pytest

from convmem import Archive

SECONDS = 1.5
THREADS = 12


def _nothing(archive, root):
    """The others only record and search."""


def _rebuild(archive, root):
    archive.index(rebuild=True)


def _drop(archive, root):
    archive.drop_index()


def _remove(archive, root):
    shutil.rmtree(root / "default" / ".index", ignore_errors=True)


def _forbid(archive, root):
    """No index is to be had: every search reads the logs."""
    place = root / "default" / ".index"
    shutil.rmtree(place, ignore_errors=True)
    if not place.exists():
        place.write_text("mine")


@pytest.mark.parametrize("meanwhile", [_nothing, _rebuild, _drop, _remove, _forbid])
def test_what_a_thread_recorded_it_finds_at_once(tmp_path, meanwhile):
    """Two walks through one folder once shared their place in it, and each missed some logs."""
    missed = []
    failed = []
    end = time.monotonic() + SECONDS
    with Archive.open(tmp_path, durability="none") as archive:

        def work(mine):
            nth = 0
            try:
                while time.monotonic() < end:
                    nth += 1
                    word = f"unique{mine}x{nth}q"
                    archive.conversation(f"c{mine % 5}").record("user", f"say {word} now")
                    if [hit.turn.text for hit in archive.search(word)] != [f"say {word} now"]:
                        missed.append(word)
                    if mine == 0 and nth % 10 == 1:
                        meanwhile(archive, tmp_path)
            except Exception as error:
                failed.append(error)

        threads = [threading.Thread(target=work, args=(mine,)) for mine in range(THREADS)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert failed == []
    assert missed == []
