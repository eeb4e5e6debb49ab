"""The program, run inside the test's own process: for tests that run it hundreds of times."""

from __future__ import annotations

import io
import os
import sys
from unittest import mock

from conftest import Answer, CommandLine

from convmem.cli import boundary


class Inside(CommandLine):
    """As ``CommandLine``, without a process for every call; what needs one still gets it."""

    def __call__(self, *words, stdin=b"", code=0, prepare=None, stdout=None, **environment):
        """Run it to its end; fail unless it ends with *code* (any with ``None``), and in words."""
        if prepare is not None or stdout is not None or stdin != b"":
            more = {} if stdout is None else {"stdout": stdout}
            return super().__call__(
                *words, stdin=stdin, code=code, prepare=prepare, **more, **environment
            )
        out, err = _stream(b""), _stream(b"")
        with (
            mock.patch.dict(os.environ, {**self.environment, **environment}, clear=True),
            mock.patch.multiple(sys, stdin=_stream(stdin), stdout=out, stderr=err),
        ):
            ended = boundary.run(list(words))
        answer = Answer(ended, _said(out), _said(err).decode())
        assert code is None or answer.code == code, (words, answer)
        assert "Traceback" not in answer.err, (words, answer)
        return answer


def _stream(data):
    return io.TextIOWrapper(io.BytesIO(data), encoding="utf-8")


def _said(stream):
    stream.flush()
    return stream.buffer.getvalue()
