"""Code as HTML, coloured a little: comments, strings, numbers, the words of the language.

Not with pygments, though rich brings it: the language is the stranger's choice, and several of its
lexers take minutes for a hostile screenful; and its next release would give other bytes. What
stands here reads each letter once.
"""

from __future__ import annotations

import re
from html import escape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator

_DOUBLE = r'"[^"\\\n]*(?:\\.[^"\\\n]*)*"?'
_SINGLE = r"'[^'\\\n]*(?:\\.[^'\\\n]*)*'?"
_TICKS = r"`[^`\\]*(?:\\.[^`\\]*)*`?"
_LONG = (
    r'"""[^"\\]*(?:(?:\\.|"(?!""))[^"\\]*)*(?:""")?'
    + r"|'''[^'\\]*(?:(?:\\.|'(?!''))[^'\\]*)*(?:''')?"
)
_SLASHES = r"//[^\n]*|/\*[^*]*(?:\*(?!/)[^*]*)*(?:\*/)?"
_HASH = r"(?<![^\s;])\#[^\n]*"
_DASHES = r"--[^\n]*"

# What makes a language look like itself: its comments, its strings, its words.
_KINDS = {
    "python": (
        _HASH,
        f"{_LONG}|{_DOUBLE}|{_SINGLE}",
        "and as assert async await break case class continue def del elif else except finally "
        "for from global if import in is lambda match nonlocal not or pass raise return try "
        "while with yield None True False self",
    ),
    "sh": (
        _HASH,
        f"{_DOUBLE}|'[^']*'?",
        "if then else elif fi for in do done while until case esac function return local "
        "export set unset exit trap source echo cd sudo",
    ),
    "script": (
        _SLASHES,
        f"{_DOUBLE}|{_SINGLE}|{_TICKS}",
        "abstract any as async await boolean break case catch class const continue debugger "
        "declare default delete do else enum export extends false finally for from function "
        "if implements import in instanceof interface let new null number of private "
        "protected public readonly return static string super switch this throw true try type "
        "typeof undefined var void while yield",
    ),
    "c": (
        _SLASHES,
        f"{_DOUBLE}|{_SINGLE}",
        "abstract auto base bool break case catch char class const constexpr continue default "
        "defer delete do double else enum extends extern false final finally float fn for "
        "func go goto if impl implements import in inline int interface internal let long "
        "loop map match mod mut namespace new nil null nullptr override package private "
        "protected pub public range return self short signed sizeof static struct super "
        "switch template this throw throws trait true try type typedef union unsafe unsigned "
        "use using val var virtual void volatile when where while yield",
    ),
    "hash": (
        _HASH,
        f"{_DOUBLE}|{_SINGLE}",
        "and begin break case class def defmodule do else elsif end ensure false for foreach "
        "fn function if in input interface library module my next nil not null on or query "
        "require rescue return schema self sub then true type unless until use when while yes "
        "no FROM RUN COPY ADD ENV ARG CMD ENTRYPOINT WORKDIR EXPOSE USER",
    ),
    "sql": (
        f"{_DASHES}|{_SLASHES}",
        f"{_DOUBLE}|'[^']*'?",
        "add all alter and as asc between by case check column constraint create cross "
        "database default delete desc distinct drop else end exists explain false foreign "
        "from full group having if in index inner insert into is join key left like limit not "
        "null on or order outer primary references returning right select set table then true "
        "union unique update using values view when where with",
    ),
    "dash": (
        _DASHES,
        _DOUBLE,
        "and break case class data deriving do else elseif end false for function goto if "
        "import in instance let local module newtype nil not of or repeat return then true "
        "type until where while",
    ),
    "json": (r"//[^\n]*", _DOUBLE, "true false null"),
    "css": (r"/\*[^*]*(?:\*(?!/)[^*]*)*(?:\*/)?", f"{_DOUBLE}|{_SINGLE}", "important"),
    "markup": (r"<!--[^-]*(?:-(?!->)[^-]*)*(?:-->)?", f"{_DOUBLE}|{_SINGLE}", ""),
    "diff": ("", "", ""),
}
_NAMES = {
    "python": "python py python3 py3 pyi pycon",
    "sh": "bash sh shell zsh console shell-session fish",
    "script": "javascript js mjs cjs jsx typescript ts mts tsx",
    "c": "c h cpp c++ cc cxx hpp csharp cs c# java kotlin kt swift go golang rust rs php scala",
    "hash": "ruby rb perl pl r yaml yml toml ini cfg conf elixir ex exs docker dockerfile make "
    "makefile mk cmake nginx graphql powershell ps1",
    "sql": "sql",
    "dash": "lua haskell hs",
    "json": "json jsonl json5 jsonc",
    "css": "css scss less",
    "markup": "html htm xml svg vue",
    "diff": "diff patch",
}
_LANGUAGES = {name: kind for kind, names in _NAMES.items() for name in names.split()}
LANGUAGES = tuple(_KINDS)
"""The kinds of language that ``coloured`` knows."""


def language_of(name: str) -> str:
    """Return the kind of language that a fence or a file's ending names, or nothing."""
    return _LANGUAGES.get(name.lower(), "")


def language_of_file(path: str) -> str:
    """Return the kind of language of a file by its name, or nothing."""
    return language_of(path.replace("\\", "/").rpartition("/")[2].rpartition(".")[2])


def block(code: str, language: str, *, label: str = "") -> str:
    """Return *code* as a block; *label* is what stands above it."""
    said = f' data-lang="{escape(label)}"' if label else ""
    # The newline is the tag's own: one that begins the code would be lost.
    return f'<div class="code"{said}><pre>\n<code>{coloured(code, language)}</code></pre></div>\n'


def coloured(code: str, language: str) -> str:
    """Return *code* escaped, and coloured where *language* is known."""
    if language == "diff":
        return "\n".join(map(_diff_line, code.split("\n")))
    if not language:
        return escape(code)
    return "".join(_coloured(code, language))


def _diff_line(line: str) -> str:
    kind = {"+": "i", "-": "d", "@": "f"}.get(line[:1], "")
    return _span(line, "f" if line.startswith(("+++", "---")) else kind)


def _coloured(code: str, language: str) -> Iterator[str]:
    pattern, words = _patterns.get(language) or _pattern(language)
    at = 0
    for found in pattern.finditer(code):
        kind, text = found.lastgroup, found[0]
        if kind == "w":
            if text.lower() in words if language == "sql" else text in words:
                kind = "k"
            elif code[found.end() : found.end() + 1] == "(":
                kind = "f"
            else:
                continue
        elif kind == "s" and language == "json" and code[found.end() : found.end() + 1] == ":":
            kind = "t"
        yield escape(code[at : found.start()])
        yield _span(text, kind or "")
        at = found.end()
    yield escape(code[at:])


def _span(text: str, kind: str) -> str:
    return f'<span class="{kind}">{escape(text)}</span>' if kind else escape(text)


_patterns: dict[str, tuple[re.Pattern[str], frozenset[str]]] = {}


def _pattern(language: str) -> tuple[re.Pattern[str], frozenset[str]]:
    comment, string, words = _KINDS[language]
    number = r"(?<![\w.])\d[\w.]*"
    name = r"</?[A-Za-z][\w:.-]*" if language == "markup" else r"[^\W\d]\w*"
    kind = "k" if language == "markup" else "w"
    text = f"(?P<c>{comment})|(?P<s>{string})|(?P<n>{number})|(?P<{kind}>{name})"
    made = re.compile(text, re.S), frozenset(words.split())
    _patterns[language] = made
    return made
