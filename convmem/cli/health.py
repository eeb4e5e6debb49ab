"""``convmem health``: whether the archive is well now, and what to do where it is not."""

from __future__ import annotations

from datetime import UTC, datetime

from convmem.cli.output.messages import Messages, stdout_is_terminal
from convmem.cli.places import open_archive, settings_of
from convmem.errors import UsageError
from convmem.progress import Observer
from convmem.stores.health import DEGRADED, HEALTHY, STATUSES, UNHEALTHY, Health, Limits

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping

    from convmem.cli.output.prometheus import Gauge
    from convmem.cli.spec import Context

EXIT_CODES = {HEALTHY: 0, DEGRADED: 1, UNHEALTHY: 4}
# In a pipe the words are the same, without colours, and no line is folded.
_PIPE = {"COLUMNS": "10000"}
_COLOURS = {HEALTHY: "green", DEGRADED: "yellow", UNHEALTHY: "red"}


def run(context: Context, *, prometheus: str | None, json: bool) -> int:
    """Print each check and what it found; answer with the worst of them."""
    if json and prometheus == "-":
        raise UsageError("--json and --prometheus - exclude each other")
    messages = Messages(as_json=json)
    # A broken convmem.toml is one of the things that are examined: no reason not to begin.
    settings = settings_of(context, messages)
    limits = Limits(
        min_free_bytes=settings.number("health.min_free"),
        min_free_fatal_bytes=settings.number("health.min_free_fatal"),
        lock_held_seconds=settings.seconds("health.lock_held"),
    )
    with open_archive(context, observer=Observer(), settings=settings) as archive:
        found = archive.health(limits)
    if prometheus is not None:
        from convmem.cli.output import prometheus as output

        output.write(prometheus, _gauges(found, datetime.now(UTC)))
    if json:
        from convmem.cli.output.machine import write_object

        write_object(found.as_dict())
    elif prometheus is None:
        _print(found, context.env)
    return EXIT_CODES[found.status]


def _print(found: Health, env: Mapping[str, str]) -> None:
    from convmem.cli.output.layout import fold
    from convmem.cli.output.safe import safe_line
    from convmem.cli.output.terminal import StandardOutput, Terminal

    terminal = Terminal(env if stdout_is_terminal() else _PIPE)
    out = StandardOutput()
    out.write(terminal.paint(found.status, "bold", _COLOURS[found.status]) + "\n")
    widest = max(len(each.name) for each in found.checks)
    indent = " " * (2 + widest + 2 + len(UNHEALTHY) + 2)
    room = max(20, terminal.columns - len(indent))
    for each in found.checks:
        first, *rest = fold(safe_line(each.message), room)
        status = terminal.paint(f"{each.status:<{len(UNHEALTHY)}}", _COLOURS[each.status])
        out.write(f"  {each.name:<{widest}}  {status}  {first}\n")
        if each.hint:
            rest += fold(safe_line(each.hint), room)
        for line in rest:
            out.write(f"{indent}{line}\n")
    out.flush()


def _gauges(found: Health, now: datetime) -> list[Gauge]:
    from convmem.cli.output.prometheus import Gauge

    status = Gauge("convmem_health_status", "1 for the status that the archive has, else 0.")
    for name in STATUSES:
        status.add(int(found.status == name), status=name)
    checks = Gauge(
        "convmem_health_check", "What a check found: 0 healthy, 1 degraded, 2 unhealthy."
    )
    for each in found.checks:
        checks.add(STATUSES.index(each.status), check=each.name)
    when = Gauge("convmem_health_timestamp_seconds", "When the archive was examined.")
    when.add(now.timestamp())
    return [status, checks, when]
