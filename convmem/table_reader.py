"""One table of ``convmem.toml``: keys are taken as what they must be, the rest is unknown."""

from __future__ import annotations

from convmem.thresholds import Wrong, nearest, quantity

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from convmem.settings import OnProblem, Settings


class TableReader:
    """Takes the keys of a table, and tells each problem with the line where it stands.

    What is wrong or not there is ``None``.
    """

    def __init__(
        self,
        settings: Settings,
        on_problem: OnProblem,
        value: dict[str, Any],
        path: tuple[str | int, ...],
    ) -> None:
        self._settings = settings
        self._on_problem = on_problem
        self._left = dict(value)
        self._given = frozenset(value)
        self._taken: list[str] = []
        self._path = path
        self.line = settings.line_of(*path)

    def wrong(self, message: str, *key: str, hint: str | None = None) -> None:
        """Tell a problem of this table, or of one of its keys."""
        name, *number = self._path
        where = f"[[{name}]]" if number else f"[{name}]"
        self._on_problem(
            self._settings.problem(f"{where}: {message}", *self._path, *key, hint=hint)
        )

    def duration(self, key: str, *, may_be_zero: bool = False) -> float | None:
        """Take a duration."""
        read = self._quantity("duration", key)
        if read == 0 and not may_be_zero:
            self.wrong(f"{key} must be more than 0", key)
            return None
        return read

    def size(self, key: str) -> int | None:
        """Take a size."""
        read = self._quantity("size", key)
        return None if read is None else int(read)

    def count(self, key: str) -> int | None:
        """Take a whole number."""
        read = self._quantity("count", key)
        return None if read is None else int(read)

    def flag(self, key: str) -> bool:
        """Take ``true`` or ``false``; false if it is not there."""
        value = self._take(key)
        if value is not None and not isinstance(value, bool):
            self.wrong(f"{key} must be true or false", key)
        return value is True

    def patterns(self, key: str) -> tuple[str, ...] | None:
        """Take a pattern, or an array of them."""
        value = self._take(key)
        if value is None:
            return None
        patterns = value if isinstance(value, list) else [value]
        if not patterns or not all(isinstance(each, str) and each for each in patterns):
            self.wrong(
                f"{key} must be a pattern in quotes, or an array of them",
                key,
                hint=f'such as {key} = "ci-*" or {key} = ["ci-*", "test-*"]',
            )
            # What was meant is not known; whoever carries on must match nothing with it.
            return ("",)
        return tuple(patterns)

    def needs_one_of(self, *keys: str) -> None:
        """Tell if none of *keys* is there: a table that does nothing is one not finished."""
        if not self._given & {*keys} and not self._left:
            self.wrong("says nothing to do", hint=f"give one of {', '.join(keys)}")

    def end(self) -> None:
        """Tell what was not taken."""
        for key in self._left:
            near = nearest(key, self._taken)
            hint = f"did you mean {near}?" if near else f"it may have {', '.join(self._taken)}"
            self.wrong(f"unknown key {key!r}", key, hint=hint)

    def _take(self, key: str) -> Any:
        self._taken.append(key)
        return self._left.pop(key, None)

    def _quantity(self, kind: str, key: str) -> float | int | None:
        value = self._take(key)
        if value is None:
            return None
        try:
            return quantity(kind, value)
        except Wrong as wrong:
            self.wrong(f"{key} {wrong}", key, hint=wrong.hint)
            return None
