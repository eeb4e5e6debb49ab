"""What turns are looked for: those that hold some units of a query, and pass its filters."""

from __future__ import annotations

from convmem.search.index.database import UNSAID

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Sequence

    from convmem.search.index.turn_facts import Facts
    from convmem.search.language.query import Unit


class Wanted:
    """What turns are looked for.

    Attributes:
        units: What they must hold: all of these, or, with *is_any*, one of them.
        excluded: What they must not hold: units that the index alone can tell.
        among: Only turns that are wanted so, too.
    """

    __slots__ = ("among", "excluded", "is_any", "units")

    def __init__(
        self,
        units: Sequence[Unit],
        *,
        is_any: bool = False,
        excluded: Sequence[Unit] = (),
        among: Wanted | None = None,
    ) -> None:
        self.units = units
        self.is_any = is_any
        self.excluded = excluded
        self.among = among

    @property
    def expression(self) -> str:
        """What FTS5's ``MATCH`` is given."""
        how = " OR " if self.is_any else " AND "
        text = how.join(unit.expression for unit in self.units)
        if self.among is not None:
            text = f"({text}) AND ({self.among.expression})"
        for unit in self.excluded:
            text = f"({text}) NOT {unit.expression}"
        return text


class Passes:
    """Which turns the filters of a query let through, by what the index knows of them.

    Attributes:
        roles: The numbers of the roles that are wanted; ``None``: all that anybody spoke.
        since, until: In microseconds since 1970.
    """

    __slots__ = ("roles", "since", "until")

    def __init__(self, roles: Collection[int] | None, since: int | None, until: int | None) -> None:
        self.roles = roles
        self.since = since
        self.until = until

    def __call__(self, facts: Facts) -> bool:
        if facts.role not in self.roles if self.roles is not None else facts.role == UNSAID:
            return False
        if self.since is None and self.until is None:
            return True
        if facts.micros is None or (self.since is not None and facts.micros < self.since):
            return False
        return self.until is None or facts.micros < self.until
