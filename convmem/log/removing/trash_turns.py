"""The turns in one file of the trash, in the order in which they stand there. Takes no lock."""

from __future__ import annotations

import os

from convmem.log import codec, lines, records
from convmem.log.removing import trash

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

    from convmem.log.files import Folder
    from convmem.log.records import OnDamage
    from convmem.turns import Turn


def turns_in(folder: Folder, file_name: str, damaged: OnDamage) -> Iterator[Turn]:
    """Yield the turns in a file of turns; what is none is told to *damaged*.

    A half of a batch counts, for what a compaction takes need not be whole batches. Nothing is
    yielded if the file was purged this moment.
    """
    try:
        inner = folder.existing_subfolder(trash.FOLDER)
        try:
            fd = inner.open_file(file_name, os.O_RDONLY)
        finally:
            inner.close()
    except FileNotFoundError:
        return
    try:
        for start, end, line in lines.forward(fd, 0, os.fstat(fd).st_size):
            turn = None if line is None else codec.parse(line)
            if turn is not None:
                yield turn
            elif line is None or not codec.is_seq_floor(line):
                damaged(records.Damage(start, end - start, codec.NOT_A_TURN))
    finally:
        os.close(fd)
