"""Settings: the value of every threshold for one archive, and where each came from.

A flag comes first and is the verb's own affair; then the environment, then ``convmem.toml`` in
the archive, then the default. Nothing here reads the environment: it is an argument.
"""

from __future__ import annotations

import os

from convmem.errors import ConvmemError, StorageDenied, UsageError, storage_error
from convmem.thresholds import SETTINGS, Wrong, checked, nearest

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import Any

    OnProblem = Callable[[ConvmemError], None]

FILE_NAME = "convmem.toml"
# The tables of the same file that say what goes and what stays; ``rules`` reads them.
RULE_TABLES = ("keep", "retention", "archive", "trash")
_LARGEST_FILE_BYTES = 1 << 20


class Settings:
    """What is set, for one archive. Made by ``load``; never changes.

    Attributes:
        path: The file of settings, there or not.
        has_file: Whether it is there.
        tables: All that the file says, as TOML tables; empty where the file could not be read.
    """

    def __init__(self, path: str, env: Mapping[str, str], on_problem: OnProblem) -> None:
        self.path = path
        self.has_file = False
        self.tables: dict[str, Any] = {}
        self._data = b""
        self._lines: dict[tuple[str | int, ...], int] | None = None
        self._found: dict[str, tuple[float | int | str, bool]] = {}
        try:
            self._read()
        except ConvmemError as error:
            on_problem(error)
        self._take(env, on_problem)

    @classmethod
    def load(
        cls, root: str, env: Mapping[str, str], *, on_problem: OnProblem | None = None
    ) -> Settings:
        """Return the settings of the archive at *root* under *env*. Without a file: one open.

        With *on_problem* nothing is raised for what cannot be read or is wrong: it is told, and
        the next place in the order counts. That is for those who must go on, as ``record`` must:
        a slip of the pen may not cost turns. Who removes anything goes without.

        Raises:
            UsageError: Something in the file or the environment is wrong; nothing was done.
            StorageError: The file is there and cannot be read.
        """
        if on_problem is not None:
            return cls(os.path.join(root, FILE_NAME), env, on_problem)
        problems: list[ConvmemError] = []
        settings = cls(os.path.join(root, FILE_NAME), env, problems.append)
        raise_first(problems)
        return settings

    def seconds(self, name: str) -> float:
        """Return a duration."""
        value = self.value(name)
        assert not isinstance(value, str), name
        return float(value)

    def number(self, name: str) -> int:
        """Return a count, or a size in bytes."""
        value = self.value(name)
        assert isinstance(value, int), name
        return value

    def switch(self, name: str) -> bool:
        """Return whether it is switched on."""
        value = self.value(name)
        assert isinstance(value, bool), name
        return value

    def word(self, name: str) -> str:
        """Return one of the setting's choices, or a text."""
        value = self.value(name)
        assert isinstance(value, str), name
        return value

    def value(self, name: str) -> float | int | str:
        """Return the value of the setting *name*, such as ``health.min_free``."""
        found = self._found.get(name)
        return SETTINGS[name].default if found is None else found[0]

    def source(self, name: str) -> str:
        """Return ``"environment"``, ``"file"`` or ``"default"``."""
        found = self._found.get(name)
        if found is None:
            return "default"
        return "environment" if found[1] else "file"

    def line_of(self, *path: str | int) -> int | None:
        """Return the line on which a key of the file stands; ``line_of("retention", 0, "id")``.

        Where the key has none of its own, the line of the table that it would stand in.
        """
        if self._lines is None:
            from convmem import tomltext

            self._lines = tomltext.lines_of(tomltext.text_of(self._data)) if self.tables else {}
        while path:
            if path in self._lines:
                return self._lines[path]
            path = path[:-1]
        return None

    def problem(self, message: str, *path: str | int, hint: str | None = None) -> UsageError:
        """Return the error that something is wrong in the file, at *path* of it."""
        line = self.line_of(*path)
        return UsageError(f"{self.path}{'' if line is None else f':{line}'}: {message}", hint=hint)

    def _read(self) -> None:
        data = _read_file(self.path)
        if data is None:
            return
        self.has_file = True
        from convmem import tomltext

        try:
            self.tables = tomltext.loads(data)
        except tomltext.NotToml as error:
            raise UsageError(
                f"{self.path}:{error.line}: {error}",
                hint='settings are TOML, such as lock_timeout = "10s"',
            ) from None
        self._data = data

    def _take(self, env: Mapping[str, str], on_problem: OnProblem) -> None:
        if self.tables:
            self._take_file(on_problem)
        for setting in SETTINGS.values():
            typed = env.get(setting.variable)
            if typed:  # an empty variable is how shells unset one for a single command
                try:
                    self._found[setting.name] = (checked(setting, typed, is_typed=True), True)
                except Wrong as wrong:
                    on_problem(UsageError(f"{setting.variable} {wrong}", hint=wrong.hint))
        if self.number("health.min_free_fatal") > self.number("health.min_free"):
            on_problem(
                UsageError(
                    "health.min_free_fatal is more than health.min_free",
                    hint="what is unhealthy must be less than what is degraded",
                )
            )

    def _take_file(self, on_problem: OnProblem) -> None:
        known = {tuple(name.split(".")): setting for name, setting in SETTINGS.items()}
        tables = {path[0] for path in known if len(path) > 1}
        for path, value in self._keys(tables, on_problem):
            if path not in known:
                on_problem(self._unknown(path))
                continue
            setting = known[path]
            try:
                self._found[setting.name] = (checked(setting, value), False)
            except Wrong as wrong:
                on_problem(self.problem(f"{setting.name} {wrong}", *path, hint=wrong.hint))

    def _keys(
        self, tables: Iterable[str], on_problem: OnProblem
    ) -> Iterable[tuple[tuple[str, ...], Any]]:
        for key, value in self.tables.items():
            if key in RULE_TABLES:
                continue
            if key not in tables:
                yield (key,), value
            elif isinstance(value, dict):
                for inner, item in value.items():
                    yield (key, inner), item
            else:
                on_problem(self.problem(f"{key} must be a table", key, hint=f"write [{key}]"))

    def _unknown(self, path: tuple[str, ...]) -> UsageError:
        *table, key = path
        is_table = isinstance(self.tables[path[0]], dict | list) and not table
        word = f"table [{key}]" if is_table else f"key {key!r}"
        where = f" in [{table[0]}]" if table else ""
        same_key = [name for name in SETTINGS if name.rpartition(".")[2] == key]
        if same_key:
            home = same_key[0].rpartition(".")[0]
            hint = f"it stands in [{home}]" if home else "it stands before the first [table]"
        else:
            near = nearest(".".join(path), [*SETTINGS, *RULE_TABLES])
            hint = f"did you mean {near}?" if near else "convmem config show names them all"
        return self.problem(f"unknown {word}{where}", *path, hint=hint)


def raise_first(problems: list[ConvmemError]) -> None:
    """Raise the first of *problems*, and say how many more there are."""
    if not problems:
        return
    first = problems[0]
    if len(problems) > 1:
        more = f"{len(problems) - 1} more; see them with: convmem config check"
        first.hint = f"{first.hint}; {more}" if first.hint else more
    raise first


def _read_file(path: str) -> bytes | None:
    """Return what is in the file, or ``None`` if there is none. Links and pipes are not opened."""
    import stat

    flags = os.O_RDONLY
    for name in ("O_NOFOLLOW", "O_NONBLOCK", "O_CLOEXEC", "O_BINARY"):
        flags |= getattr(os, name, 0)
    try:
        fd = os.open(path, flags)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise storage_error(error, f"cannot read {path}") from error
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            raise StorageDenied(f"{path} is not a regular file")
        parts = []
        size = 0
        while data := os.read(fd, _LARGEST_FILE_BYTES):
            parts.append(data)
            size += len(data)
            if size > _LARGEST_FILE_BYTES:
                raise UsageError(f"{path} is larger than 1 MiB: these are no settings")
        return b"".join(parts)
    except OSError as error:
        raise storage_error(error, f"cannot read {path}") from error
    finally:
        os.close(fd)
