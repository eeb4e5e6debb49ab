"""Embedding as processes do it: killed, two at once, by hand, and in little memory."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from contextlib import closing

import pytest

from convmem import Archive
from convmem.errors import LockTimeout

pytest.importorskip("numpy", reason="needs the extra semantic: numpy")

from convmem.search.semantic.vectors import VectorFile

# An embedder by hashes, as a package gives one: it says how often it was asked, and may be slow,
# or wait until its standard input is closed.
PLUG = """
import os, sys, time, zlib
import numpy as np

name, dimensions = "toy", 8

def embed(texts):
    if os.environ.get("TOY_SECONDS"):
        print(*map(len, texts), flush=True)
        time.sleep(float(os.environ["TOY_SECONDS"]))
    if os.environ.get("TOY_WAITS"):
        sys.stdin.read()
    found = np.zeros((len(texts), dimensions), np.float32)
    for row, text in zip(found, texts):
        for word in text.split():
            row += np.random.default_rng(zlib.crc32(word.encode())).standard_normal(dimensions)
    return found
"""
EMBED = """
import sys, toy
from convmem import Archive
with Archive.open(sys.argv[1], embedder=toy) as archive:
    print(archive.index(semantic=True).missing)
"""


@pytest.fixture
def plugged(tmp_path, cli, monkeypatch):
    """Install the plug for all who run here."""
    folder = tmp_path / "plug"
    about = folder / "toy-1.dist-info"
    about.mkdir(parents=True)
    (folder / "toy.py").write_text(PLUG)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: toy\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[convmem.embedders]\ntoy = toy\n")
    cli.environment["PYTHONPATH"] += os.pathsep + str(folder)
    cli.environment["CONVMEM_EMBEDDER"] = "toy"
    monkeypatch.syspath_prepend(str(folder))
    return cli


def record(archive, count, name="talk"):
    archive.conversation(name).record_many(
        {"role": "user", "content": f"thing number {at}"} for at in range(count)
    )


def embedding_process(plugged, root, seconds, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", EMBED, root],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**plugged.environment, "TOY_SECONDS": str(seconds), **environment},
    )


def vectors_in(root):
    from convmem.log.files import Folder

    with closing(Folder.open(os.path.join(root, "default", ".index"))) as folder:
        return VectorFile.open(folder, "toy", 8).count


def scores(archive):
    page = archive.search("thing number 7", semantic=True, limit=2000)
    assert page.notes == []
    return {hit.turn.seq: pytest.approx(hit.score, abs=1e-3) for hit in page}


def test_embedding_that_is_killed_goes_on_where_it_was(plugged, archive, root, tmp_path):
    """Some hours of work are not to be lost to a closed lid."""
    record(archive, 700)
    for asked in (1, 2, 3):
        process = embedding_process(plugged, root, 0.05)
        for _ in range(asked):
            assert process.stdout.readline()
        process.send_signal(signal.SIGKILL)
        process.communicate()
    kept = vectors_in(root)
    assert kept >= 64
    process = embedding_process(plugged, root, 0.001)
    *asked, missing = process.communicate()[0].splitlines()
    assert missing == "0"
    assert sum(len(line.split()) for line in asked) == 700 - kept

    import toy

    with (
        Archive.open(root, embedder=toy) as one,
        Archive.open(tmp_path / "new", embedder=toy) as new,
    ):
        record(new, 700)
        new.index(semantic=True)
        assert scores(one) == scores(new)


def test_one_process_embeds_and_another_says_so(plugged, archive, root):
    """Both would pay an endpoint for the same texts."""
    import toy

    record(archive, 300)
    process = embedding_process(plugged, root, 0.001, TOY_WAITS="1")
    try:
        assert process.stdout.readline()
        with Archive.open(root, embedder=toy) as second:
            with pytest.raises(LockTimeout, match="another process is making vectors"):
                second.index(semantic=True)
            page = second.search("thing number 7", semantic=True)
            assert len(page) == 10
            assert "without a vector" in page.notes[0]
    finally:
        process.communicate()
    assert vectors_in(root) == 300


def test_by_hand(plugged, archive, root):
    """``convmem index --semantic``, then ``convmem search --semantic``, or the setting."""
    record(archive, 100)
    answer = plugged("search", "--semantic", "thing", "--json")
    assert "100 turns without a vector" in answer.err
    (told,) = plugged("index", "--semantic", "--json").objects
    assert told["without_vector"] == 0
    assert told["vector_bytes"] == os.path.getsize(
        os.path.join(root, "default", ".index", vector_file(root))
    )
    assert "of vectors" in plugged("index", "--semantic").text
    asked = ("search", "thing number 7 with other words", "--json")
    first = plugged(*asked, "--semantic")
    assert not first.err
    assert first.objects[0]["seq"] == 8
    assert plugged(*asked, CONVMEM_SEMANTIC="true").objects == first.objects
    with open(os.path.join(root, "convmem.toml"), "w") as file:
        file.write('[search]\nsemantic = true\nembedder = "toy"\n')
    assert plugged(*asked, CONVMEM_EMBEDDER="").objects == first.objects
    plugged("index", "--drop", "--semantic")
    assert vector_file(root) is None


def vector_file(root):
    found = [name for name in os.listdir(os.path.join(root, "default", ".index")) if "vec" in name]
    return found[0] if found else None


NO_NUMPY = (
    "from importlib import util; find = util.find_spec;"
    "util.find_spec = lambda name, *rest: None if name == 'numpy' else find(name, *rest)"
)


def test_without_the_extra_the_flag_is_an_error_and_the_setting_a_warning(cli, archive, root):
    """A setting is for all machines that share the archive, and not all have the extra."""
    record(archive, 3)
    with cli.running("search", "--semantic", "thing", patch=NO_NUMPY) as running:
        answer = running.end()
    assert answer.code == 2
    assert "pip install 'convmem[semantic]'" in answer.err
    with cli.running("index", "--semantic", patch=NO_NUMPY) as running:
        assert running.end().code == 2
    cli.environment["CONVMEM_SEMANTIC"] = "1"
    with cli.running("search", "thing", patch=NO_NUMPY) as running:
        answer = running.end()
    assert answer.code == 0
    assert answer.out.count(b"\n") == 3
    assert "going on by words" in answer.err
    assert "pip install 'convmem[semantic]'" in answer.err


def test_an_embedder_that_fails_is_an_error_by_flag_and_a_warning_by_setting(plugged, archive):
    """An endpoint that is down must not take the search by words with it."""
    record(archive, 3)
    plugged.environment["CONVMEM_EMBEDDER"] = "http://127.0.0.1:1/v1/embeddings?model=m"
    quick = "import time; time.sleep = lambda seconds: None"
    for flag, code in (["--semantic"], 4), ([], 0):
        plugged.environment["CONVMEM_SEMANTIC"] = "1"
        with plugged.running("search", "thing", *flag, patch=quick) as running:
            answer = running.end()
        assert answer.code == code, answer
        assert "did not answer" in answer.err
    assert answer.out.count(b"\n") == 3


LITTLE = """
import resource, sys, toy
import numpy as np
from datetime import UTC, datetime
from convmem import Archive

def ask(archive):
    found = []
    for filters in {}, {"roles": ["user"], "since": datetime(2024, 1, 1, tzinfo=UTC)}:
        page = archive.search("thing number 7", semantic=True, **filters)
        assert page.matched == "meaning" and "vector" not in str(page.notes), page.notes
        found.append([hit.turn.seq for hit in page])
    return found

with Archive.open(sys.argv[1], embedder=toy, namespace="few") as archive:
    ask(archive)
# What the products work in is there once, however many vectors there are.
square = np.ones((700, 700), np.float32)
square @ square, square @ square[0]
with open("/proc/self/statm") as file:
    now = int(file.read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (now + (int(sys.argv[2]) << 20),) * 2)
with Archive.open(sys.argv[1], embedder=toy) as archive:
    held = open(sys.argv[3], "rb").read() if len(sys.argv) > 3 else None
    print(*ask(archive))
"""


@pytest.mark.skipif(not os.path.exists("/proc/self/statm"), reason="needs /proc")
def test_forty_thousand_vectors_are_searched_in_little_memory(plugged, root, tmp_path):
    """O21: as objects of Python they would take 1 GB, as one table 60 MB, and their file is 16."""
    import toy

    toy.dimensions = 384
    (tmp_path / "plug" / "toy.py").write_text(PLUG.replace('"toy", 8', '"toy", 384'))
    words = [f"w{at}" for at in range(300)]
    kept = {word: toy.embed([word])[0] for word in ["thing", "number", *words]}

    class Quick:
        name, dimensions = "toy", 384

        @staticmethod
        def embed(texts):
            return [sum(kept[word] for word in text.split()) for text in texts]

    with Archive.open(root, embedder=Quick, durability="none") as archive:
        for namespace, count in ("few", 60), ("default", 40_000):
            archive.conversation("talk", namespace=namespace).record_many(
                {"role": "user", "content": f"thing number w{at % 300} w{at // 300 % 300}"}
                for at in range(count)
            )
            assert archive.index(namespace, semantic=True).missing == 0
    done = [
        subprocess.run(
            [sys.executable, "-c", LITTLE, root, "22", *held],
            capture_output=True,
            text=True,
            env={**plugged.environment, "OPENBLAS_NUM_THREADS": "1"},
        )
        for held in ([], [os.path.join(root, "default", ".index", vector_file(root))])
    ]
    assert done[0].returncode == 0, done[0].stderr
    # The limit is one: who holds all vectors, be it as their file has them, does not keep it.
    assert done[1].returncode != 0
    assert "memory" in done[1].stderr.lower()
