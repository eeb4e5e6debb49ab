"""convmem with one safeguard taken out: each must be noticed, else the harness proves nothing.

They change the process that calls them for good: call them only in one that is going to end.
"""

from __future__ import annotations

import os
import time

from convmem.log import append, codec, durability, files, heal, known_ids, locks, state
from convmem.log.compressed import cold, cold_batches, cold_compress, cold_salvage
from convmem.log.removing import (
    audit,
    deleted,
    dropped,
    restore,
    rewrite,
    scrub_files,
    tombstones,
    trash,
)
from convmem.stores import long_ids, removals


def without_healing() -> None:
    """Append straight behind whatever a crash left."""

    def healed(folder, name, fd, size):
        return heal.End(size, heal.find_end(fd, size).last_seq), None

    heal.heal = healed


def without_taking_back() -> None:
    """Leave the part of a write that failed, and do not heal it either."""
    without_healing()
    append.Log._roll_back = lambda self, log, start, written, is_batch: 0


def without_lock() -> None:
    """Let everybody write at once."""
    locks.SidecarLock.acquire = lambda self, timeout_seconds: None
    locks.SidecarLock.release = lambda self: None


def without_looking_at_the_name() -> None:
    """Go on with the open file, also when a compaction has put another in its place."""
    real = append.Log._current

    def current(self, healed, *, create):
        return self._open or real(self, healed, create=create)

    append.Log._current = current


def without_looking_for_the_id() -> None:
    """Take every turn for a new one."""
    known_ids.search = lambda fd, turn_id, start, end: None


def without_the_delta() -> None:
    """Put the compacted file in place without what was recorded meanwhile."""
    real = rewrite.copy_pieces

    def copy(source, target, pieces):
        if not isinstance(pieces, list):
            real(source, target, pieces)
            time.sleep(0.003)  # as a longer log takes, so that there is a delta

    rewrite.copy_pieces = copy


def without_trash() -> None:
    """Drop turns without keeping them anywhere."""
    trash.fill = lambda *given: None


def without_memory_of_the_dropped() -> None:
    """Forget the ids of what was dropped."""
    dropped.remember = lambda *given, **options: None


def with_replacements_recorded_afterwards() -> None:
    """Put in place what stays, and then append what was to come with it."""
    real = rewrite.Rewrite.replace

    def replace(self, *, seq_floor=False, behind=None):
        real(self, seq_floor=True)
        if behind is not None:
            fd = os.open(self.log._path, os.O_WRONLY | os.O_APPEND)
            files.write_all(fd, behind(self.last_seq))
            os.close(fd)

    rewrite.Rewrite.replace = replace


def without_tombstones() -> None:
    """Forget the ids of imported turns that go."""
    tombstones.bury = lambda *given, **options: None


def with_tombstones_too_late() -> None:
    """Remember them only once the log has lost its turns."""
    late = []
    bury, replace = tombstones.bury, rewrite.Rewrite.replace

    def later(*given, **options):
        late.append((given[:2], list(given[2]), options))

    def and_then(self, **options):
        replace(self, **options)
        for where, ids, more in late:
            bury(*where, ids, **more)
        late.clear()

    tombstones.bury = later
    rewrite.Rewrite.replace = and_then


def without_scrubbing_the_trash() -> None:
    """Leave what a compaction took as it is."""
    scrub_files._in_trash = lambda folder, name: []


def without_scrubbing_the_quarantine() -> None:
    """Leave what a healing set aside as it is."""
    scrub_files._quarantined = lambda folder, name: []


def without_memory_of_the_last_seq() -> None:
    """Forget how far the numbers went when all turns are dropped."""
    codec.seq_floor_line = lambda last_seq: b""


def without_trash_of_deleted_logs() -> None:
    """Delete a log for good, in the place of moving it to the trash."""
    real = files.Folder.take

    def take(self, other, source, target):
        if target.endswith(f".{trash.LOG}"):
            other.remove(source)
        else:
            real(self, other, source, target)

    files.Folder.take = take


def with_the_trash_emptied_first() -> None:
    """Restore as if to move: take the turns out of the trash, then put them into the log."""
    real = restore._tried

    def tried(sources, wants, current, target, advanced):
        merge = real(sources, wants, current, target, advanced)
        if isinstance(target, rewrite.Rewrite):
            for source in sources:
                path = os.path.join(target.folder.path, trash.FOLDER, source.name)
                if os.path.exists(path):
                    os.unlink(path)
            time.sleep(0.003)
        return merge

    restore._tried = tried


def without_memory_of_the_deleted() -> None:
    """Begin a deleted conversation anew with the number 1."""
    deleted.last_seq = lambda folder, name: 0


def with_turns_restored_twice() -> None:
    """Take no notice of what the log has already, as it has after a restore that was killed."""
    restore.Merge._verdict = lambda self, entry, line, ids: "new"


def without_syncing_appends() -> None:
    """Answer without having synced what was appended."""
    durability.sync_data = lambda fd: None


def without_syncing_the_new_file() -> None:
    """Put the compacted file in place before its content is on the disk."""
    rewrite.sync_data = lambda fd: None


def without_syncing_folders() -> None:
    """Leave it to the system when a new name, or a changed one, gets to the disk."""
    files.Folder.sync = lambda self: None


def with_nul_bytes_kept() -> None:
    """Take NUL bytes at the end, as a power cut leaves them, for what was recorded."""
    real = heal.find_end

    def find_end(fd, size):
        end = real(fd, size)
        rest = os.pread(fd, size - end.committed, end.committed)
        return heal.End(size, end.last_seq) if not rest.strip(b"\0") else end

    heal.find_end = find_end


def with_the_answer_before_the_write() -> None:
    """Acknowledge a turn whatever becomes of its write."""
    real = append.write_all

    def write(fd, data):
        try:
            real(fd, data)
        except OSError:
            return

    append.write_all = write


def with_the_answer_before_the_sync() -> None:
    """Acknowledge a turn whatever becomes of its sync."""
    real = durability.sync_data

    def sync(fd):
        try:
            real(fd)
        except OSError:
            return

    durability.sync_data = sync


def with_syncs_tried_again() -> None:
    """Take the second sync's word for it, when the first has failed."""
    real = durability.sync_data

    def sync(fd):
        for _ in range(5):
            try:
                return real(fd)
            except OSError:
                time.sleep(0.01)
        return real(fd)

    durability.sync_data = sync


def with_unwritten_pages_believed() -> None:
    """Go on reading what the system shows of a file after a sync has failed."""
    append.forget_cached = durability.forget_cached = lambda fd: None


# --- one for each other family of operations ---------------------------------------------------


def without_setting_aside() -> None:
    """Cut what a crash or damage has left without keeping it anywhere."""
    heal.set_aside = lambda folder, name, fd, spans: "nowhere"


def without_long_ids() -> None:
    """Take it that every id fits into a file's name."""
    long_ids.keep = lambda folder, name, continuation_id: None


def without_notes() -> None:
    """Let things go without a line in the audit log."""
    audit.note = lambda folder, now, entry, *, is_lasting: None


def with_all_of_the_trash_purged() -> None:
    """Purge what others have in the trash as well."""
    real = removals.DirectoryTrash.purge

    def purge(self, namespace, files, *, now, dry_run):
        return real(self, namespace, self.files(namespace), now=now, dry_run=dry_run)

    removals.DirectoryTrash.purge = purge


def with_states_written_in_place() -> None:
    """Write a state over the one that is there."""

    def write(folder, name, temporary, chunks):
        fd = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600, dir_fd=folder.fd)
        for chunk in chunks:
            files.write_all(fd, chunk)
        os.close(fd)

    state.write_aside = write


def without_lock_of_states() -> None:
    """Let everybody change a state at once."""

    class NoLock:
        def acquire(self, timeout_seconds):
            """Let everybody in."""

        release = close = lambda self: None

    state.lock_of = lambda folder, name: NoLock()


def with_the_plain_log_gone_first() -> None:
    """Remove the plain log before the compressed one has its name."""

    def exchange(self, before):
        self.log.with_lock(10, self._healed)
        try:
            self.folder.remove(f"{self.log.name}.jsonl")
            time.sleep(0.01)
            self.folder.rename(self._temporary, f"{self.log.name}.jsonl.zst")
        finally:
            self.log.unlock()
        return True

    cold_compress._Compression._exchange = exchange


def without_a_second_look_at_the_log() -> None:
    """Put the compressed log in place without looking whether somebody has written since."""
    cold_compress._state = lambda found: (0, 0, 0, 0)
    real = cold_compress._Compression._read_back

    def slowly(self, fd):
        real(self, fd)
        time.sleep(0.005)  # as a longer log takes

    cold_compress._Compression._read_back = slowly


def with_the_compressed_log_gone_first() -> None:
    """Remove the compressed log before the plain one has its name."""
    real = cold.write_aside

    def late(folder, name, temporary, chunks):
        plain = list(chunks)
        folder.remove(f"{name}.zst")
        time.sleep(0.01)
        real(folder, name, temporary, plain)

    cold.write_aside = late


def without_the_damaged_file() -> None:
    """Save what is left of a damaged compressed log, and keep nothing else of it."""
    cold_salvage._set_aside = lambda folder, name, source: "nowhere"


def with_short_writes_believed() -> None:
    """Take it that all was written where a part was."""

    def write(fd, data, offset):
        os.pwrite(fd, data, offset)
        return len(data)

    cold_batches.write_all_at = write


def with_the_trash_taken_back_by_an_interrupt() -> None:
    """Take it that a rename was not made when a signal comes right behind it."""
    real = files.Folder.has
    files.Folder.has = lambda self, name: name.endswith(".tmp") or real(self, name)
