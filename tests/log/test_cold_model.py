"""The model once more, with a conversation that is compressed at any moment: nobody notices."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, settings
from hypothesis.stateful import rule
from test_model import Conversations

from convmem.log.compressed import cold_compress, cold_pack, cold_read

EXAMPLES = int(os.environ.get("CONVMEM_EXAMPLES", "30"))


class ColdConversations(Conversations):
    """All rules of the model; who changes the file by hand has made it plain before."""

    @property
    def log(self):
        if getattr(self, "archive", None) is not None and os.path.exists(f"{self._log}.zst"):
            self.chat.uncompress()
        return self._log

    @log.setter
    def log(self, path):
        self._log = path

    @rule()
    def compress(self):
        report = self.chat.compress()
        assert report.outcome in ("compressed", "already_compressed", "small")
        if report.outcome != "already_compressed" and report.bytes_before > 1:
            self.healed()


@pytest.fixture(autouse=True)
def _small_files_too(monkeypatch):
    """Compress what is never worth it, in many parts, and wait for no disk."""
    monkeypatch.setattr(cold_compress, "_BLOCK_BYTES", 1)
    monkeypatch.setattr(cold_compress, "_blocks", lambda size: size if size < 1 << 40 else 0)
    monkeypatch.setattr(cold_pack, "PART_BYTES", 300)
    monkeypatch.setattr(cold_read, "_IN_MEMORY_BYTES", 1000)
    monkeypatch.setattr(os, "fsync", lambda fd: None)


ColdConversations.TestCase.settings = settings(
    max_examples=EXAMPLES,
    stateful_step_count=20,
    deadline=None,
    report_multiple_bugs=False,
    suppress_health_check=[HealthCheck.too_slow],
)
TestColdConversations = ColdConversations.TestCase
