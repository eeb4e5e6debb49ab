"""Reading standard input, which may be closed: that is an error, and not an empty text."""

from __future__ import annotations

import os

from convmem.errors import storage_error


def read_some(count: int) -> bytes:
    """Return what is there, at most *count* bytes, waiting for the first of it; empty at the end.

    Raises:
        StorageError: It is closed, or cannot be read.
    """
    try:
        return os.read(0, count)
    except OSError as error:
        failure = storage_error(error, "cannot read standard input")
        failure.hint = "nothing was recorded; give it a file or a pipe, such as < /dev/null"
        raise failure from error
