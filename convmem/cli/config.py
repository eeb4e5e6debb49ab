"""``convmem config``: what is set and by whom, where the file is, and whether it is right."""

from __future__ import annotations

import os
from collections import Counter

from convmem.cli.boundary import one_line
from convmem.cli.output.messages import Messages, stdout_is_terminal, write_bytes
from convmem.cli.places import open_archive, root_of, settings_of
from convmem.errors import ConvmemError, UsageError
from convmem.progress import Observer
from convmem.rules import KeepRule, Rules
from convmem.settings import FILE_NAME, Settings
from convmem.thresholds import SETTINGS, nearest, shown

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping
    from typing import Any

    from convmem.cli.spec import Context
    from convmem.retention import RetentionPolicy
    from convmem.rules import ArchiveRule, RetentionRule

ACTIONS = ("show", "path", "check")
_PLACES = ("CONVMEM_ARCHIVE", "CONVMEM_NAMESPACE", "CONVMEM_EMBEDDER_KEY")
_UNITS = {"duration": "seconds", "size": "bytes"}


def run(context: Context, *, action: str | None, json: bool) -> int:
    """Show the settings, print the file's place, or check it."""
    if action == "path":
        write_bytes(os.fsencode(_path(context)) + b"\n")
        return 0
    if action == "check":
        return _check(context, as_json=json)
    if action in (None, "show"):
        _show(settings_of(context), as_json=json)
        return 0
    near = nearest(str(action), ACTIONS)
    raise UsageError(
        f"config does not know {action!r}",
        hint=f"did you mean {near}?" if near else f"it has {', '.join(ACTIONS)}",
    )


def complete_actions(incomplete: str) -> list[str]:
    """Return the actions that begin with *incomplete*, for the shell."""
    return [action for action in ACTIONS if action.startswith(incomplete)]


# --- show --------------------------------------------------------------------------------------


def _show(settings: Settings, *, as_json: bool) -> None:
    if as_json:
        from convmem.cli.output.machine import write_object

        for name in SETTINGS:
            write_object(_as_dict(settings, name))
        return
    rows = [
        (name, shown(setting.kind, settings.value(name)), _source(settings, name))
        for name, setting in SETTINGS.items()
    ]
    if not stdout_is_terminal():
        for row in rows:
            write_bytes(os.fsencode("\t".join(map(one_line, row))) + b"\n")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("setting", style="cyan", overflow="fold")
    table.add_column("value", overflow="fold")
    table.add_column("from", style="dim", overflow="fold")
    for row in rows:
        table.add_row(*(Text(one_line(cell)) for cell in row))
    Console(highlight=False).print(table)


def _as_dict(settings: Settings, name: str) -> dict[str, Any]:
    setting = SETTINGS[name]
    source = settings.source(name)
    return {
        "name": name,
        "value": settings.value(name),
        "unit": _UNITS.get(setting.kind),
        "source": source,
        "variable": setting.variable,
        "path": settings.path if source == "file" else None,
        "line": settings.line_of(*name.split(".")) if source == "file" else None,
        "default": setting.default,
        "about": setting.doc,
    }


def _source(settings: Settings, name: str) -> str:
    source = settings.source(name)
    if source == "environment":
        return f"environment {SETTINGS[name].variable}"
    if source == "file":
        return f"{settings.path}:{settings.line_of(*name.split('.'))}"
    return "default"


# --- check -------------------------------------------------------------------------------------


def _check(context: Context, *, as_json: bool) -> int:
    messages = Messages(as_json=as_json)
    problems: list[ConvmemError] = []
    settings = Settings.load(
        os.path.expanduser(root_of(context)), context.env, on_problem=problems.append
    )
    rules = Rules.of(settings, on_problem=problems.append)
    for warning, hint in _unknown_variables(context.env):
        messages.warn("settings", warning, hint)
    for error in problems:
        messages.error(error)
    if problems:
        return 2
    for line, doubt in rules.doubts():
        messages.warn("settings", f"{settings.path}:{line}: {doubt}")
    with open_archive(context, observer=Observer(), settings=settings) as archive:
        names = [
            (namespace, chat.continuation_id)
            for namespace in archive.namespaces()
            for chat in archive.conversations(namespace=namespace)
        ]
    told = list(_told(settings, rules, names))
    if as_json:
        from convmem.cli.output.machine import write_object

        for each in told:
            write_object(each)
        return 0
    if not settings.has_file:
        print(f"there is no {one_line(settings.path)}: all is as by default, and nothing goes")
        return 0
    print(f"{one_line(settings.path)} is right")
    for each in told:
        print(_sentence(each))
    return 0


def _told(
    settings: Settings, rules: Rules, names: list[tuple[str, str]]
) -> Iterator[dict[str, Any]]:
    """Yield what each rule means, with the conversations that it decides of."""
    counts = Counter(_decider(rules, *name) for name in names)
    for kept in rules.keep:
        yield {
            "table": "keep",
            "number": kept.number,
            "line": kept.line,
            "namespace": list(kept.who.namespace),
            "id": list(kept.who.id),
            "meaning": f"{kept.who}: nothing touches it",
            "conversations": counts["keep", kept.number],
        }
    for rule in rules.retention:
        yield {
            "table": "retention",
            "number": rule.number,
            "line": rule.line,
            "namespace": list(rule.who.namespace),
            "id": list(rule.who.id),
            "meaning": f"{rule.who}: {_meaning(rule)}",
            "conversations": counts["retention", rule.number],
        }
    if rules.archive.line is not None:
        yield {
            "table": "archive",
            "line": rules.archive.line,
            "meaning": _archive_meaning(rules.archive),
            "conversations": len(names) - sum(n for at, n in counts.items() if at[0] == "keep"),
        }
    if rules.trash_max_age_seconds is not None:
        yield {
            "table": "trash",
            "line": settings.line_of("trash"),
            "meaning": f"what is in the trash for more than {_span(rules.trash_max_age_seconds)}"
            " is deleted for good",
        }
    yield {
        "table": None,
        "meaning": "no retention rule speaks of it",
        "conversations": counts["none", 0],
    }


def _decider(rules: Rules, namespace: str, continuation_id: str) -> tuple[str, int]:
    rule = rules.deciding(namespace, continuation_id)
    if rule is None:
        return "none", 0
    return "keep" if isinstance(rule, KeepRule) else "retention", rule.number


def _sentence(told: dict[str, Any]) -> str:
    where = ""
    if told["table"] is not None:
        number = f" {told['number']}" if "number" in told else ""
        where = f"{told['table']}{number} (line {told['line']}): "
    count = told.get("conversations")
    matching = "" if count is None else f" [{count:,} conversation{'' if count == 1 else 's'}]"
    return one_line(f"{where}{told['meaning']}{matching}")


def _meaning(rule: RetentionRule) -> str:
    parts = [] if rule.policy is None else list(_policy_meaning(rule.policy))
    if rule.compress_idle_seconds is not None:
        parts.append(f"is compressed when idle for more than {_span(rule.compress_idle_seconds)}")
    if rule.delete_idle_seconds is not None:
        parts.append(f"goes to the trash when idle for more than {_span(rule.delete_idle_seconds)}")
    return "; ".join(parts)


def _policy_meaning(policy: RetentionPolicy) -> Iterator[str]:
    from datetime import timedelta

    age = _span(policy.max_age.total_seconds()) if isinstance(policy.max_age, timedelta) else None
    newest = None if policy.keep_last is None else f"the newest {policy.keep_last:,}"
    if age and newest:
        yield f"turns older than {age} go, but for {newest}"
    elif age:
        yield f"turns older than {age} go"
    elif newest:
        yield f"all turns but {newest} go"
    if policy.max_bytes is not None:
        yield f"the oldest turns go until it takes no more than {shown('size', policy.max_bytes)}"


def _archive_meaning(rule: ArchiveRule) -> str:
    parts = []
    if rule.max_age_seconds is not None:
        parts.append(
            "whole conversations go to the trash when idle for more than"
            f" {_span(rule.max_age_seconds)}"
        )
    if rule.max_bytes is not None:
        parts.append(
            "whole conversations go to the trash, idle longest first, until all logs take no more"
            f" than {shown('size', rule.max_bytes)}; none that was active within"
            f" {_span(rule.min_idle_seconds)}"
        )
    if rule.allow_empty:
        parts.append("the rules may delete every conversation")
    return "; ".join(parts)


def _span(seconds: float) -> str:
    return shown("duration", seconds)


def _unknown_variables(env: Mapping[str, str]) -> Iterator[tuple[str, str | None]]:
    known = [*_PLACES, *(setting.variable for setting in SETTINGS.values())]
    for name in sorted(env):
        if name.startswith("CONVMEM_") and name not in known:
            near = nearest(name, known)
            yield (
                f"{name} in the environment is no setting",
                f"did you mean {near}?" if near else None,
            )


def _path(context: Context) -> str:
    return os.path.join(os.path.realpath(os.path.expanduser(root_of(context))), FILE_NAME)
