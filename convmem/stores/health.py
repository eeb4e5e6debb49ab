"""How an archive is: healthy, degraded or unhealthy, by what each check found."""

from __future__ import annotations

from dataclasses import dataclass, field

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

HEALTHY = "healthy"
DEGRADED = "degraded"
UNHEALTHY = "unhealthy"
STATUSES = (HEALTHY, DEGRADED, UNHEALTHY)
"""All that a status can be, the best first."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What counts as trouble.

    Attributes:
        min_free_bytes: Less free space than this is ``degraded``.
        min_free_fatal_bytes: Less than this is ``unhealthy``.
        lock_held_seconds: A lock that is never free for so long is ``degraded``.
    """

    min_free_bytes: int = 1 << 30
    min_free_fatal_bytes: int = 100 << 20
    lock_held_seconds: float = 2.0


@dataclass(frozen=True, slots=True)
class Check:
    """What one check found: its status, in words why, and what to do about it."""

    name: str
    status: str
    message: str
    hint: str | None = None

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON values."""
        return {
            "check": self.name,
            "status": self.status,
            "message": self.message,
            "hint": self.hint,
        }


@dataclass(slots=True)
class Health:
    """The state of an archive: ``healthy``, ``degraded`` or ``unhealthy``, and why."""

    checks: list[Check] = field(default_factory=list)

    @property
    def status(self) -> str:
        """The worst of the checks."""
        return max((each.status for each in self.checks), key=STATUSES.index, default=HEALTHY)

    def as_dict(self) -> dict[str, Any]:
        """Return the JSON object that ``health --json`` prints."""
        return {"status": self.status, "checks": [each.as_dict() for each in self.checks]}
