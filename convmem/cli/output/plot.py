"""A small plot for a terminal: one column a day, in block characters or in ASCII."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

HEIGHT = 5

# A cell filled from below, by eighths.
_BLOCKS = " ▁▂▃▄▅▆▇█"
_ASCII = " ...:::##"


def shows_blocks(env: Mapping[str, str]) -> bool:
    """Whether the locale in *env* says that a terminal there takes UTF-8."""
    locale = env.get("LC_ALL") or env.get("LC_CTYPE") or env.get("LANG") or ""
    return "utf-8" in locale.lower() or "utf8" in locale.lower()


def lines_of(
    values: Sequence[int], *, most: str, first: str, last: str, with_blocks: bool
) -> Iterator[str]:
    """Yield the lines of a plot of *values*, the highest of them as high as the plot.

    What is not nothing is at least one eighth high, so that a quiet day differs from none.

    Args:
        values: What to plot, none negative, one column each.
        most: What stands at the top of the scale: the highest value, for people.
        first, last: What stands below the first and the last column.
        with_blocks: Block characters; else ASCII.
    """
    letters = _BLOCKS if with_blocks else _ASCII
    top = max(values, default=0)
    heights = [-(-value * HEIGHT * 8 // top) if top else 0 for value in values]
    margin = len(most)
    bar, corner, floor = ("│", "└", "─") if with_blocks else ("|", "+", "-")
    for row in range(HEIGHT - 1, -1, -1):
        label = most if row == HEIGHT - 1 else ""
        cells = "".join(letters[min(8, max(0, height - row * 8))] for height in heights)
        yield f"{label:>{margin}} {bar}{cells}".rstrip()
    yield f"{'0':>{margin}} {corner}{floor * len(values)}"
    gap = " " * max(1, len(values) - len(first) - len(last))
    yield f"{'':>{margin}}  {first}{gap}{last}"
