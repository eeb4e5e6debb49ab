"""Every place in convmem's code that changes a disk, found in its source.

A place is a call of ``os``, or of one of the few functions of ``log/files.py`` that stand for it.
"""

from __future__ import annotations

import ast
import os
from collections.abc import Iterator
from dataclasses import dataclass

from faults import CALLS

import convmem

HOME = os.path.dirname(convmem.__file__)
FLOORS = ("log", "stores")  # all the others go by way of these

_BY_NAME = ("write_all", "write_all_at", "write_chunks", "write_aside", "copy_pieces", "sync_data")
_OF_A_FOLDER = ("remove", "rename", "take", "subfolder", "sync")
# Also methods of lists and the like: it is a folder where it is called one.
_FOLDERS = ("folder", "inner", "other", "states", "quarantine", "root")
_OPENS = ("open", "open_file")

# Whatever else of the standard library changes a disk: nothing of it may be called unseen.
UNSEEN_OF_OS = frozenset(
    "writev pwritev truncate replace renames link symlink rmdir remove removedirs makedirs mkfifo"
    " mknod lchmod chown fchown lchown copy_file_range sendfile splice posix_fallocate setxattr"
    " removexattr sync fdatasync".split()
)
UNSEEN_MODULES = frozenset({"shutil", "tempfile", "pathlib", "mmap", "sqlite3"})


@dataclass(frozen=True, order=True)
class Site:
    """One call in the source."""

    path: str
    first: int  # line
    last: int
    function: str
    callee: str

    def __str__(self) -> str:
        return f"{self.path}:{self.first} {self.function}: {self.callee}"


def all_sites() -> list[Site]:
    """Return every call that changes a disk, in order."""
    return sorted(site for path, tree in sources() for site in _in(path, tree, "module"))


def unseen() -> list[str]:
    """Return what is used of the standard library that the shim would not see."""
    found = []
    for path, tree in sources():
        for node in ast.walk(tree):
            if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "os":
                if node.attr in UNSEEN_OF_OS:
                    found.append(f"{path}:{node.lineno} os.{node.attr}")
            elif isinstance(node, ast.Import | ast.ImportFrom):
                names = {alias.name for alias in node.names} | {getattr(node, "module", None)}
                found += [f"{path}:{node.lineno} {name}" for name in names & UNSEEN_MODULES]
    return found


def sources() -> Iterator[tuple[str, ast.Module]]:
    """Yield the path below the package, and the source, of each of its modules there."""
    for floor in FLOORS:
        for folder, _, names in os.walk(os.path.join(HOME, floor)):
            for name in sorted(names):
                if name.endswith(".py"):
                    path = os.path.join(folder, name)
                    with open(path, "rb") as file:
                        yield os.path.relpath(path, HOME), ast.parse(file.read())


def _in(path: str, node: ast.AST, function: str) -> Iterator[Site]:
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        function = node.name if function == "module" else f"{function}.{node.name}"
    if isinstance(node, ast.Call) and _changes_a_disk(node):
        last = node.end_lineno or node.lineno
        yield Site(path, node.lineno, last, function, ast.unparse(node.func))
    for child in ast.iter_child_nodes(node):
        yield from _in(path, child, function)


def _changes_a_disk(call: ast.Call) -> bool:
    func = call.func
    if isinstance(func, ast.Name):
        return func.id in _BY_NAME
    if not isinstance(func, ast.Attribute):
        return False
    of = ast.unparse(func.value)
    if func.attr in _OPENS:
        is_file = of == "os" or func.attr == "open_file"
        return is_file and any("O_CREAT" in ast.unparse(each) for each in call.args)
    if of == "os":
        return func.attr in CALLS
    return func.attr in _OF_A_FOLDER and of.rpartition(".")[2].strip("_") in (*_FOLDERS, "self")
