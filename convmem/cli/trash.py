"""``convmem trash``: what is in the trash, back from it, and out of it for good."""

from __future__ import annotations

from datetime import timedelta

from convmem.archive import Archive
from convmem.cli import values
from convmem.cli.boundary import EXIT_CODES, one_line, status_of
from convmem.cli.output.asking import confirm
from convmem.cli.output.messages import Healing, Messages, stdout_is_terminal
from convmem.cli.places import namespace_of, open_archive
from convmem.cli.spec import Context
from convmem.errors import ConvmemError, UsageError
from convmem.log.removing import trash as kinds
from convmem.log.removing.restore import Restoration
from convmem.log.removing.trash import TrashFile
from convmem.quantities import format_count, format_size, format_time

_KINDS = {kinds.TURNS: "turns", kinds.LOG: "conversation", kinds.STATE: "state"}


def run(
    context: Context,
    *,
    action: str,
    continuation_ids: list[str],
    since: str | None,
    removed_since: str | None,
    older_than: str | None,
    all_namespaces: bool,
    dry_run: bool,
    yes: bool,
    quiet: bool,
    json: bool,
) -> int:
    """Do what *action* says, and return the exit status."""
    _check(action, since, removed_since, older_than, all_namespaces, dry_run)
    messages = Messages(as_json=json, quiet=quiet)
    talk = _Talk(messages, as_json=json, quiet=quiet, dry_run=dry_run)
    # What removes nothing goes on where convmem.toml is wrong.
    lenient = None if action == "purge" else messages
    with open_archive(context, observer=Healing(messages), messages=lenient) as archive:
        namespaces = archive.namespaces() if all_namespaces else [namespace_of(context)]
        names = list(dict.fromkeys(continuation_ids))
        for name in names:
            archive.conversation(name)  # wrong usage is said before anything is changed
        if action == "list":
            return _list(archive, namespaces, names, talk)
        if action == "restore":
            return _restore(archive, context, names, since, removed_since, talk, messages)
        age = values.duration("--older-than", older_than)
        assert age is not None
        return _purge(archive, context, namespaces, names, age, talk, messages, yes=yes)


def _check(
    action: str,
    since: str | None,
    removed_since: str | None,
    older_than: str | None,
    all_namespaces: bool,
    dry_run: bool,
) -> None:
    wanted = {
        "list": {"--all-namespaces"},
        "restore": {"--since", "--removed-since", "--dry-run"},
        "purge": {"--older-than", "--all-namespaces", "--dry-run"},
    }
    if action not in wanted:
        raise UsageError(
            f"{action!r} is nothing that can be done with the trash",
            hint="take list, restore or purge",
        )
    given = {
        "--since": since,
        "--removed-since": removed_since,
        "--older-than": older_than,
        "--all-namespaces": all_namespaces,
        "--dry-run": dry_run,
    }
    for flag, value in given.items():
        if value and flag not in wanted[action]:
            raise UsageError(f"{flag} does not go with trash {action}")
    if action == "purge" and older_than is None:
        raise UsageError(
            "say what may go for good with --older-than",
            hint="such as --older-than 30d; --older-than 0s is everything",
        )


def _list(archive: Archive, namespaces: list[str], names: list[str], talk: _Talk) -> int:
    found = [
        (namespace, each)
        for namespace in namespaces
        for each in archive.trash(namespace=namespace)
        if not names or each.continuation_id in names
    ]
    talk.tell_all(found, with_namespace=len(namespaces) > 1)
    return 0


def _restore(
    archive: Archive,
    context: Context,
    names: list[str],
    since: str | None,
    removed_since: str | None,
    talk: _Talk,
    messages: Messages,
) -> int:
    if not names:
        raise UsageError(
            "name the conversations to restore", hint="see them with: convmem trash list"
        )
    from_time = values.moment("--since", since)
    from_removal = values.moment("--removed-since", removed_since)
    now = values.now(context)
    failures: list[ConvmemError] = []
    in_part = False
    for name in names:
        try:
            done = archive.conversation(name).restore(
                since=from_time, removed_since=from_removal, dry_run=talk.dry_run, now=now
            )
        except ConvmemError as error:
            failures.append(error)
            messages.error(error, continuation_id=name)
            continue
        talk.restored(namespace_of(context), name, done)
        if done.left_states:
            messages.warn(
                "state",
                f"{name}: a state stays in the trash: the conversation has one by now",
                "clear that one first: convmem state ID clear",
                continuation_id=name,
            )
        if done.damaged:
            in_part = True
            messages.warn(
                "damaged",
                f"{name}: {format_count(done.damaged, 'line')} damaged in the trash, left there",
                f"see {done.files[0]} in .trash",
                continuation_id=name,
                damaged=done.damaged,
            )
        if done.conflicts:
            in_part = True
            messages.warn(
                "partial",
                f"{name}: {format_count(done.conflicts, 'turn')} in conflict left in the trash:"
                " the seq or id belongs to another turn by now",
                f"record them into another conversation with --jsonl; see {done.files[0]}",
                continuation_id=name,
                conflicts=done.conflicts,
            )
    if in_part and not failures:
        return EXIT_CODES["partial"]
    return status_of(failures, only_one=len(names) == 1)


def _purge(
    archive: Archive,
    context: Context,
    namespaces: list[str],
    names: list[str],
    age: float,
    talk: _Talk,
    messages: Messages,
    *,
    yes: bool,
) -> int:
    older_than = timedelta(seconds=age)
    now = values.now(context)
    chosen = set(names) or None
    if not talk.dry_run and not yes:
        going = [
            each
            for namespace in namespaces
            for each in archive.purge_trash(
                older_than, namespace=namespace, only=chosen, dry_run=True, now=now
            )
        ]
        size = format_size(sum(each.bytes for each in going))
        if going and not confirm(
            f"Delete {format_count(len(going), 'file')} ({size}) of the trash for good?"
        ):
            messages.warn("cancelled", "nothing was purged")
            return 1
    for namespace in namespaces:
        gone = archive.purge_trash(
            older_than, namespace=namespace, only=chosen, dry_run=talk.dry_run, now=now
        )
        talk.purged(namespace, gone)
    talk.sum_up()
    return 0


class _Talk:
    """Says what is in the trash, and what happened to it."""

    def __init__(self, messages: Messages, *, as_json: bool, quiet: bool, dry_run: bool) -> None:
        self.dry_run = dry_run
        self._messages = messages
        self._as_json = as_json
        self._quiet = quiet
        self._files = self._bytes = 0

    def tell_all(self, found: list[tuple[str, TrashFile]], *, with_namespace: bool) -> None:
        """Print what is in the trash, oldest first."""
        if self._as_json:
            for namespace, each in found:
                self._write(_as_dict(namespace, each))
        elif stdout_is_terminal():
            from convmem.cli.output.human import print_trash

            print_trash(
                [(namespace, each, _KINDS[each.kind]) for namespace, each in found],
                with_namespace=with_namespace,
            )
        else:
            for namespace, each in found:
                words = [format_time(each.removed), one_line(_name(each)), _KINDS[each.kind]]
                words += [str(each.bytes), each.file_name]
                print("\t".join([namespace, *words] if with_namespace else words))

    def restored(self, namespace: str, name: str, done: Restoration) -> None:
        """Say what came back to one conversation."""
        if self._as_json:
            self._write(
                {
                    "continuation_id": name,
                    "namespace": namespace,
                    "action": "restore",
                    "dry_run": self.dry_run,
                    "restored": done.restored,
                    "bytes": done.bytes,
                    "first_seq": done.first_seq,
                    "last_seq": done.last_seq,
                    "already_there": done.already_there,
                    "conflicts": done.conflicts,
                    "unwanted": done.unwanted,
                    "damaged": done.damaged,
                    "summaries": len(done.summaries),
                    "state": done.has_state,
                    "files": done.files,
                }
            )
        elif not self._quiet:
            verb = "would come back" if self.dry_run else "came back"
            seqs = "" if done.first_seq is None else f", seq {done.first_seq}-{done.last_seq}"
            more = "; its state too" if done.has_state else ""
            more += f"; {done.already_there:,} were there already" if done.already_there else ""
            more += "; what stood for them went" if done.summaries else ""
            what = f"{format_count(done.restored, 'turn')} ({format_size(done.bytes)})"
            print(f"{one_line(name)}: {what} {verb}{seqs}{more}")

    def purged(self, namespace: str, files: list[TrashFile]) -> None:
        """Say what went for good."""
        self._files += len(files)
        self._bytes += sum(each.bytes for each in files)
        if self._as_json:
            for each in files:
                self._write(
                    {"action": "purge", "dry_run": self.dry_run, **_as_dict(namespace, each)}
                )
        elif self.dry_run and not self._quiet:
            for each in files:
                print(f"{one_line(_name(each))}: {format_size(each.bytes)} [{each.file_name}]")

    def sum_up(self) -> None:
        """Say what went in all."""
        if self._as_json or self._quiet:
            return
        verb = "would purge" if self.dry_run else "purged"
        print(f"{verb} {format_count(self._files, 'file')} ({format_size(self._bytes)})")

    def _write(self, value: dict[str, object]) -> None:
        from convmem.cli.output.machine import write_object

        write_object(value)


def _name(file: TrashFile) -> str:
    return file.continuation_id or file.name


def _as_dict(namespace: str, file: TrashFile) -> dict[str, object]:
    return {
        "continuation_id": file.continuation_id,
        "namespace": namespace,
        "kind": _KINDS[file.kind],
        "removed": format_time(file.removed),
        "bytes": file.bytes,
        "file": file.file_name,
    }
