"""The verbs of an agent's memory: context, state."""

from __future__ import annotations

from convmem.cli.spec import Verb

VERBS: tuple[Verb, ...] = ()
