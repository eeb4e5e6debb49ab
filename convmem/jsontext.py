"""JSON text, exact and fast: orjson where it can hold a value, the standard library where not.

orjson turns integers beyond 64 bits into floats and refuses some values that are valid JSON;
storage must never edit content, so such text takes the slower road. Both roads accept and refuse
the same things: no NaN, no infinity, no lone surrogate, no bytes that are not UTF-8.
"""

from __future__ import annotations

import json
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

# Importing orjson costs as much as the whole of a short command; it pays after some 100 lines.
_calls_before_orjson = 0
_orjson: Any = sys.modules.get("orjson")

_DIGITS = bytes(0x30 if 0x30 <= byte <= 0x39 else 0x78 for byte in range(256))
# The shortest run of digits that may not fit into 64 bits.
_LONG_NUMBER = b"0" * 19


class NotJson(ValueError):
    """The text is not JSON, or JSON that no other reader could be trusted to read alike."""


def expect_few_calls(calls: int = 200) -> None:
    """Do without orjson for the first *calls* calls: for commands that handle few lines."""
    global _calls_before_orjson
    _calls_before_orjson = calls


def fast() -> tuple[Callable[[bytes], Any], Callable[[Any], bytes]]:
    """Return orjson's own ``loads`` and ``dumps``, for loops in which every call is felt.

    Both raise ``ValueError`` or ``TypeError`` for what only the slower road takes, or nobody. What
    ``loads`` returns is exact where ``is_exact`` says so.
    """
    global _orjson
    _orjson = _orjson or _import_undisturbed()
    return _orjson.loads, _orjson.dumps


def is_exact(text: bytes) -> bool:
    """Whether every number in *text* surely fits into what orjson makes of it."""
    return _LONG_NUMBER not in text.translate(_DIGITS)


def loads(text: bytes) -> Any:
    """Parse one JSON value from UTF-8 *text*.

    Raises:
        NotJson: With the reason and the position in its message.
    """
    orjson = _orjson or _load_orjson()
    if orjson is not None and is_exact(text):
        try:
            return orjson.loads(text)
        except ValueError:
            pass  # the standard library says it better, and takes what is valid all the same
    return _loads_slowly(text)


def loads_roughly(text: bytes) -> Any:
    """Do as ``loads``, but where *text* is not ``is_exact`` its integers may come as floats."""
    orjson = _orjson or _load_orjson()
    if orjson is not None:
        try:
            return orjson.loads(text)
        except ValueError:
            pass
    return _loads_slowly(text)


def _loads_slowly(text: bytes) -> Any:
    try:
        value = _DECODER.decode(str(text, "utf-8"))
        if b"\\u" in text:
            _exact_bytes(value)
    except (ValueError, RecursionError) as error:
        raise NotJson(_reason(error)) from None
    return value


def dumps(value: Any) -> bytes:
    """Return *value* as compact UTF-8 JSON. *value* holds JSON types only (see ``turns``).

    Raises:
        NotJson: It cannot be written as JSON; the message says why.
    """
    orjson = _orjson or _load_orjson()
    if orjson is not None:
        try:
            return bytes(orjson.dumps(value))
        except (TypeError, ValueError):
            pass  # integers beyond 64 bits and deep nesting are valid; real faults show below
    try:
        return _exact_bytes(value)
    except (TypeError, ValueError, RecursionError) as error:
        raise NotJson(_reason(error)) from None


def canonical(value: Any) -> bytes:
    """Return the one spelling of *value* that equal values share: sorted keys, one writer."""
    return json.dumps(
        value, ensure_ascii=False, separators=(",", ":"), allow_nan=False, sort_keys=True
    ).encode()


def _load_orjson() -> Any:
    global _orjson, _calls_before_orjson
    if _calls_before_orjson > 0:
        _calls_before_orjson -= 1
        return None
    _orjson = _import_undisturbed()
    return _orjson


def _import_undisturbed() -> Any:
    """Import orjson while Ctrl-C and its like wait.

    An exception in the middle of it, as a signal handler raises, ends the process with a
    segmentation fault (seen with orjson 3.13.0 on Python 3.11).
    """
    import signal

    if not hasattr(signal, "pthread_sigmask"):
        import orjson

        return orjson
    before = signal.pthread_sigmask(
        signal.SIG_BLOCK, {signal.SIGINT, signal.SIGTERM, signal.SIGALRM}
    )
    try:
        import orjson
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    return orjson


def _exact_bytes(value: Any) -> bytes:
    return _ENCODER.encode(value).encode("utf-8")


def _finite(text: str) -> float:
    number = float(text)
    if number - number != 0.0:
        raise ValueError(f"number {text[:20]} is out of range")
    return number


def _no_constant(text: str) -> Any:
    raise ValueError(f"the constant {text} is not JSON")


def _reason(error: BaseException) -> str:
    if isinstance(error, RecursionError):
        return "nested too deeply"
    if isinstance(error, UnicodeEncodeError):
        return "a lone surrogate is not valid text"
    if isinstance(error, UnicodeDecodeError):
        return f"not UTF-8 at byte {error.start}"
    text = str(error)
    if "integer string conversion" in text:
        return "an integer of more than 4,300 digits"
    return text[:1].lower() + text[1:]


_DECODER = json.JSONDecoder(parse_float=_finite, parse_constant=_no_constant)
_ENCODER = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False)
