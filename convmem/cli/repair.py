"""``convmem repair``: split records that share a line, set damage aside, put turns in order."""

from __future__ import annotations

from typing import Any

from convmem.cli import values
from convmem.cli.boundary import one_line, status_of
from convmem.cli.output.bar import Bar
from convmem.cli.output.messages import Messages
from convmem.cli.places import namespace_of, open_archive, require_archive
from convmem.cli.several import Watch, chosen, total_bytes
from convmem.cli.spec import Context
from convmem.errors import ConversationNotFound, ConvmemError
from convmem.log.checks.repair_plan import RepairReport
from convmem.log.checks.verify_report import DUPLICATE_ID, SEQ_DISORDER

_LEFT = {
    DUPLICATE_ID: "{} with the id of an earlier one that differs",
    SEQ_DISORDER: "{} behind a higher seq, where some share one: the lines of several logs?",
}
_HINTS = {
    DUPLICATE_ID: "look at them with: convmem verify ID; nothing was taken away",
    SEQ_DISORDER: "number them anew with: convmem show ID --json | convmem record NEW --jsonl",
}


def run(
    context: Context,
    *,
    continuation_ids: list[str],
    all_conversations: bool,
    dry_run: bool,
    quiet: bool,
    json: bool,
) -> int:
    """Repair, and return the exit status."""
    if all_conversations:
        require_archive(context)
    messages = Messages(as_json=json, quiet=quiet)
    now = values.now(context)
    failures: list[ConvmemError] = []
    watch = Watch(messages)
    changed = 0
    with open_archive(context, observer=watch, messages=messages) as archive:
        names = chosen(archive, continuation_ids, all_conversations, "repair")
        with Bar("repairing", total_bytes(map(archive.conversation, names)), quiet=quiet) as bar:
            watch.bar = bar
            for name in names:
                try:
                    report = archive.conversation(name).repair(dry_run=dry_run, now=now)
                except ConvmemError as error:
                    if all_conversations and isinstance(error, ConversationNotFound):
                        continue  # deleted since: nobody asked for it by name
                    failures.append(error)
                    messages.error(error, where=f"{name}: ", continuation_id=name)
                    continue
                changed += report.is_changed
                if json:
                    from convmem.cli.output.machine import write_object

                    write_object(_as_dict(name, namespace_of(context), report))
                elif report.is_changed and not quiet:
                    print(_sentence(name, report))
                if not json:
                    _tell_what_is_left(messages, name, report)
    if not json and not quiet and (len(names) > 1 or not changed) and not failures:
        _sum_up(changed, len(names), dry_run)
    return status_of(failures, only_one=len(names) == 1 and not all_conversations)


def _sum_up(changed: int, count: int, dry_run: bool) -> None:
    if not changed:
        print("nothing to repair")
        return
    verb = "would repair" if dry_run else "repaired"
    print(f"{verb} {changed:,} of {count:,} conversations")


def _tell_what_is_left(messages: Messages, name: str, report: RepairReport) -> None:
    for kind, count in report.left.items():
        messages.warn(
            "left",
            f"{name}: left as it is: {_LEFT[kind].format(_count(count, 'turn'))}",
            hint=_HINTS[kind],
            continuation_id=name,
        )


def _sentence(name: str, report: RepairReport) -> str:
    done = []
    if report.is_salvaged:
        to = "the quarantine"
        if report.compressed is not None:
            to = f".quarantine/{report.compressed}"
        done.append(f"made plain of what still unpacks, the compressed file to {to}")
    if report.split:
        done.append(f"{_count(report.split, 'line')} split, {_count(report.rescued, 'turn')} saved")
    if report.moved:
        done.append(f"{_count(report.moved, 'turn')} put in order")
    if report.copies:
        done.append(f"{_count(report.copies, 'copy', 'copies')} set aside")
    if report.loosened:
        done.append(f"{_count(report.loosened, 'turn')} made to stand alone")
    if report.set_aside:
        kinds = ", ".join(f"{kind} {count:,}" for kind, count in report.set_aside.items())
        done.append(f"set aside {kinds}")
    if not done:
        done.append("the last line given its newline")
    where = ""
    if report.set_aside_bytes:
        to = "the quarantine" if report.quarantine is None else f".quarantine/{report.quarantine}"
        where = f"; {report.set_aside_bytes:,} bytes to {to}"
    verb = "would be repaired" if report.dry_run else "repaired"
    return f"{one_line(name)}: {verb}: {'; '.join(done)}{one_line(where)}"


def _count(count: int, one: str, many: str | None = None) -> str:
    return f"{count:,} {one if count == 1 else many or one + 's'}"


def _as_dict(name: str, namespace: str, report: RepairReport) -> dict[str, Any]:
    return {
        "continuation_id": name,
        "namespace": namespace,
        "dry_run": report.dry_run,
        "changed": report.is_changed,
        "split": report.split,
        "rescued": report.rescued,
        "copies": report.copies,
        "moved": report.moved,
        "loosened": report.loosened,
        "set_aside": report.set_aside,
        "set_aside_bytes": report.set_aside_bytes,
        "quarantine": report.quarantine,
        "salvaged": report.is_salvaged,
        "compressed": report.compressed,
        "bytes_before": report.bytes_before,
        "bytes_after": report.bytes_after,
        "left": report.left,
    }
