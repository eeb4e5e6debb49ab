"""TOML with the lines of its keys: what people are told must name the place that they look at."""

from __future__ import annotations

import tomllib

import pytest

from convmem.tomltext import NotToml, lines_of, loads, text_of

TEXT = '''\
# a comment

sync = "none"
"odd key" = 1
note = """
sync = "not a key"
[neither] a table
"""
a.b.c = 1
list = [
  # in a list
  "x",
  { y = 1, z = [{ deep = 2 }] },
]

[health]   # with a comment
min_free = "1G"

[[retention]]
id = "a"

[[retention]]
namespace = [
 "x",
]
id = "b"
[retention.inner]
k = 1
[[retention.more]]
m = 1
[[retention.more]]
m = 2
'''


def _leaves(value, path=()):
    if isinstance(value, dict | list) and value:
        pairs = value.items() if isinstance(value, dict) else enumerate(value)
        for key, item in pairs:
            yield from _leaves(item, (*path, key))
    else:
        yield path


def test_every_key_of_a_file_has_the_line_where_it_stands():
    """Strings and arrays over several lines, dotted keys and counted tables included."""
    found = lines_of(TEXT)
    assert set(_leaves(tomllib.loads(TEXT))) <= set(found)
    lines = TEXT.split("\n")
    for path, start in {
        ("sync",): "sync",
        ("odd key",): '"odd key"',
        ("note",): "note",
        ("a", "b", "c"): "a.b.c",
        ("list",): "list",
        ("list", 1, "z", 0, "deep"): "list",
        ("health",): "[health]",
        ("health", "min_free"): "min_free",
        ("retention", 0): "[[retention]]",
        ("retention", 0, "id"): 'id = "a"',
        ("retention", 1, "namespace"): "namespace",
        ("retention", 1, "id"): 'id = "b"',
        ("retention", 1, "inner", "k"): "k = 1",
        ("retention", 1, "more", 1, "m"): "m = 2",
    }.items():
        assert lines[found[path] - 1].startswith(start), path
    assert found["retention", 1] == found["retention", 0] + 3
    assert lines_of(TEXT.replace("\n", "\r\n")) == found


def test_text_that_is_not_toml_is_refused_with_its_line():
    """A message without a place makes people read the whole file."""
    with pytest.raises(NotToml, match="expected '='") as caught:
        loads(b'a = 1\nb "x"\n')
    assert caught.value.line == 2
    with pytest.raises(NotToml) as caught:
        loads(b'a = "x\n')
    assert caught.value.line == 1
    with pytest.raises(NotToml, match="not UTF-8") as caught:
        loads(b"a = 1\n# caf\xe9\n")
    assert caught.value.line == 2
    with pytest.raises(NotToml, match="nested too deeply"):
        loads(b"a = " + b"[" * 100_000)


def test_the_mark_that_some_editors_put_first_is_no_error():
    """Notepad writes one; nobody can see it."""
    assert loads(b"\xef\xbb\xbfa = 1") == {"a": 1}
    assert text_of(b"\xef\xbb\xbfa") == "a"
