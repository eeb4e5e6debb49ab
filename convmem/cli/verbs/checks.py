"""The verbs that look after the files: verify, repair, stats, health."""

from __future__ import annotations

from convmem.cli.spec import Verb

VERBS: tuple[Verb, ...] = ()
