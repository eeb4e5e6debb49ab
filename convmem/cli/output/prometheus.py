"""Metrics as a text file for Prometheus' node exporter, whole at every moment.

The exporter's textfile collector reads ``*.prom`` in its folder at any time, as another user: so
the file is put in place in one step, and can be read by all. It never names a conversation.
"""

from __future__ import annotations

from convmem.cli.output.messages import write_bytes
from convmem.cli.output.replacing import replace_file

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

_MODE = 0o644


class Gauge:
    """One metric that may rise and fall, and its samples."""

    __slots__ = ("_samples", "help", "name")

    def __init__(self, name: str, help: str) -> None:
        self.name = name
        self.help = help
        self._samples: list[tuple[Mapping[str, str], float]] = []

    def add(self, value: float | None, **labels: str) -> None:
        """Add a sample; ``None`` adds none."""
        if value is not None:
            self._samples.append((labels, value))

    def lines(self) -> Iterable[str]:
        """Yield its lines; none where it has no sample."""
        if not self._samples:
            return
        yield f"# HELP {self.name} {_escaped(self.help)}"
        yield f"# TYPE {self.name} gauge"
        for labels, value in self._samples:
            shown = ",".join(f'{key}="{_escaped_label(text)}"' for key, text in labels.items())
            yield f"{self.name}{'{' + shown + '}' if shown else ''} {value!r}"


def write(path: str, gauges: Iterable[Gauge]) -> None:
    """Replace the file at *path* in one step; ``-`` is standard output.

    Raises:
        UsageError: It is a folder.
        StorageError: It cannot be written; the old file is as it was.
    """
    text = "".join(f"{line}\n" for gauge in gauges for line in gauge.lines())
    data = text.encode("utf-8", "backslashreplace")
    if path == "-":
        write_bytes(data)
        return
    replace_file(path, data, flag="--prometheus", mode=_MODE)


def _escaped(text: str) -> str:
    return text.replace("\\", "\\\\").replace("\n", "\\n")


def _escaped_label(text: str) -> str:
    return _escaped(text).replace('"', '\\"')
