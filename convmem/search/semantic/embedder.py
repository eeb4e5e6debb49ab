"""Embedders: what turns texts into vectors, which one a setting names, and that it keeps its word.

A setting names one of three kinds:

- ``minilm``: on this machine, without a network (``minilm``).
- ``https://host/v1/embeddings?model=NAME``: an endpoint as OpenAI's is (``remote``). The texts
  are sent there: nothing else in convmem sends anything anywhere.
- The name of an entry point in the group ``convmem.embedders``: a plug. It leads to a function of
  ``list[str]`` that returns ``float32[n, d]``, or to an object or class with this file's
  ``Embedder``'s members.
"""

from __future__ import annotations

from importlib import import_module, util
from typing import TYPE_CHECKING, Any, Protocol

from convmem.errors import ConvmemError, UsageError

if TYPE_CHECKING:
    from collections.abc import Callable

    import numpy as np
    from numpy.typing import NDArray

DEFAULT = "minilm"
ENTRY_POINTS = "convmem.embedders"

_MISSING = "pip install 'convmem[semantic]'"
# What a plug is asked for where it does not say how long its vectors are.
_PROBE = "convmem"


class EmbedderError(ConvmemError):
    """The embedder failed, or answered with what are no vectors of its own. Nothing was stored."""

    kind = "embedder"


class Embedder(Protocol):
    """Turns texts into vectors, such that texts of like meaning have vectors of like direction."""

    @property
    def name(self) -> str:
        """Who made a vector: those of different names are never compared.

        What changes the vectors changes the name: another model, another way of cutting texts.
        """

    @property
    def dimensions(self) -> int:
        """How many numbers a vector has."""

    def embed(self, texts: list[str]) -> NDArray[np.float32]:
        """Return a row for each text, of unit length, in their order."""


class Watched:
    """An embedder whose every answer is looked at before it is believed.

    Args:
        embed: What makes the vectors, of any length; they are brought to unit length here.
        name: Who made them.
        dimensions: How many numbers each has; ``None`` if the first answer is to tell.
    """

    __slots__ = ("_dimensions", "_embed", "name")

    def __init__(
        self, embed: Callable[[list[str]], Any], name: str, dimensions: int | None
    ) -> None:
        self._embed = embed
        self.name = name
        self._dimensions = dimensions

    @property
    def dimensions(self) -> int:
        """How many numbers a vector has. Who does not say is asked for one.

        Raises:
            EmbedderError: It gave none.
        """
        if self._dimensions is None:
            self.embed([_PROBE])
        assert self._dimensions is not None
        return self._dimensions

    def embed(self, texts: list[str]) -> NDArray[np.float32]:
        """Return a row for each text, of unit length; all zeros where the embedder says nothing.

        Raises:
            EmbedderError: It failed, or its answer has other rows, another width or other things
                than numbers in it.
        """
        import numpy as np

        try:
            given = self._embed(texts)
        except ConvmemError:
            raise
        except Exception as error:
            said = f"{type(error).__name__}: {error}".splitlines()[0]
            raise EmbedderError(
                f"the embedder {self.name} failed on {len(texts)} texts: {said}",
                hint="nothing was stored; what it says is its own: see its documentation",
            ) from error
        try:
            # A copy: what the embedder gave may be its own, and is brought to unit length here.
            found = np.array(given, dtype=np.float32, ndmin=2)
        except (TypeError, ValueError) as error:
            raise self._wrong(f"with what is no table of numbers ({error})") from error
        if not texts:
            return np.zeros((0, self._dimensions or 0), np.float32)
        if found.ndim != 2 or found.shape[0] != len(texts):
            shape = " × ".join(map(str, found.shape))
            raise self._wrong(f"with a table of {shape} numbers for {len(texts)} texts")
        width = found.shape[1]
        if self._dimensions not in (None, width) or not width:
            raise self._wrong(f"with vectors of {width} numbers, not of {self._dimensions}")
        # In double: the squares of large numbers go beyond what float32 holds.
        lengths = np.sqrt(np.einsum("ij,ij->i", found, found, dtype=np.float64))
        if not np.isfinite(lengths).all():
            row = int(np.flatnonzero(~np.isfinite(lengths))[0])
            raise self._wrong(f"with what is no number (in row {row + 1} of {len(texts)})")
        self._dimensions = width
        lengths[lengths == 0] = 1
        found /= lengths[:, None]
        return found

    def _wrong(self, what: str) -> EmbedderError:
        return EmbedderError(
            f"the embedder {self.name} answered {what}",
            hint="nothing was stored; an embedder that has changed needs a new name, so that its"
            " vectors meet no old ones",
        )


def open_embedder(
    setting: str = DEFAULT,
    *,
    key: str | None = None,
    model_file: str | None = None,
    threads: int = 1,
    windows: int = 1,
    attempts: int = 5,
    answer_seconds: float = 60.0,
) -> Watched:
    """Return the embedder that *setting* names; see this file's beginning.

    Asks no endpoint: that is done by its ``embed``, and by ``dimensions`` if the setting does
    not say ``&dimensions=N``. Opening ``minilm`` takes 0.2 s, most of it for numpy and onnxruntime.

    Args:
        key: What the endpoint is shown as proof of who asks.
        model_file: Another model for ``minilm``.
        threads: How many cores ``minilm`` uses; 0 for all.
        windows: In how many parts ``minilm`` embeds a long text.
        attempts: How often a busy endpoint is asked.
        answer_seconds: How long one answer of an endpoint may take.

    Raises:
        UsageError: There is no such embedder, or what it needs is not installed.
    """
    if util.find_spec("numpy") is None:
        raise UsageError("embedding needs numpy, which is not installed", hint=_MISSING)
    if setting == DEFAULT:
        minilm = import_module("convmem.search.semantic.minilm")
        model = minilm.MiniLM(model_file=model_file, threads=threads, windows=windows)
        return Watched(model.embed, model.name, model.dimensions)
    if model_file is not None:
        raise UsageError(
            f"a model file is for the embedder {DEFAULT}, and this one is {setting}",
            hint=f"leave the model file out, or set the embedder to {DEFAULT}",
        )
    if "://" in setting:
        remote = import_module("convmem.search.semantic.remote")
        endpoint = remote.Endpoint.parse(
            setting, key=key, attempts=attempts, answer_seconds=answer_seconds
        )
        return Watched(endpoint.embed, endpoint.name, endpoint.dimensions)
    return _plugged(setting)


def opened(embedder: str | Any) -> Watched:
    """Return *embedder* as it is used: what a setting names, or an object or function of one's own.

    Raises:
        UsageError: It is none, or what it needs is not installed.
    """
    if isinstance(embedder, str):
        return open_embedder(embedder)
    if isinstance(embedder, Watched):
        return embedder
    return watched(embedder, getattr(embedder, "__qualname__", type(embedder).__qualname__))


def _plugged(name: str) -> Watched:
    from importlib.metadata import entry_points

    found = entry_points(group=ENTRY_POINTS)
    chosen = [each for each in found if each.name == name]
    if not chosen:
        known = ", ".join([DEFAULT, *sorted({each.name for each in found})])
        raise UsageError(
            f"there is no embedder {name!r}: there is {known}",
            hint=f"a package gives one by an entry point in the group {ENTRY_POINTS}; an endpoint"
            " is written https://host/v1/embeddings?model=NAME",
        )
    try:
        plug = chosen[0].load()
        if isinstance(plug, type):
            plug = plug()
    except Exception as error:
        raise EmbedderError(
            f"the embedder {name} ({chosen[0].value}) cannot be loaded:"
            f" {type(error).__name__}: {error}",
            hint="install what it needs, or choose another embedder",
        ) from error
    return watched(plug, name)


def watched(plug: Any, name: str) -> Watched:
    """Return a plug as an embedder: a function, or an object with ``embed``.

    Its own ``name`` and ``dimensions`` count where it has them.

    Raises:
        UsageError: It is neither.
    """
    embed = getattr(plug, "embed", plug)
    if not callable(embed):
        raise UsageError(
            f"the embedder {name} is neither a function nor an object with embed()",
            hint="a function takes a list of texts and returns a row of float32 for each",
        )
    own = getattr(plug, "name", None)
    dimensions = getattr(plug, "dimensions", None)
    if dimensions is not None and (not isinstance(dimensions, int) or dimensions < 1):
        raise UsageError(f"the embedder {name} says that its vectors have {dimensions!r} numbers")
    return Watched(embed, own if isinstance(own, str) and own else name, dimensions)
