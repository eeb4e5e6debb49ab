"""An endpoint that embeds: asked patiently, believed only after a look, and nobody else asked."""

from __future__ import annotations

import json
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from convmem.errors import UsageError

pytest.importorskip("numpy", reason="needs the extra semantic: numpy")

import numpy as np

from convmem.search.semantic.embedder import EmbedderError, open_embedder
from convmem.search.semantic.remote import Endpoint

KEY = "sk-made-up-0123456789"


def _vectors(asked):
    """Answer as an endpoint does: a vector that tells which text it is of."""
    return {
        "object": "list",
        "data": [
            {"object": "embedding", "index": at, "embedding": [3.0, 4.0, len(text)]}
            for at, text in enumerate(asked["input"])
        ],
        "model": asked["model"],
    }


class Server:
    """An endpoint on this machine that follows a script, and then behaves.

    Attributes:
        script: What to answer next: a status with headers, bytes, or a function of the question.
        asked: Path, headers and body of each question.
    """

    def __init__(self):
        self.script = []
        self.asked = []
        self.waited = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self):
                body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
                outer.asked.append((self.path, dict(self.headers), body))
                step = outer.script.pop(0) if outer.script else _vectors
                outer.answer(self, step, body)

            def log_message(self, *_):
                pass

        self.http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        # Who has given an answer up does not read it: that is what some tests are about.
        self.http.handle_error = lambda *_: None
        self.url = f"http://127.0.0.1:{self.http.server_port}/v1/embeddings"
        threading.Thread(target=self.http.serve_forever, args=[0.01], daemon=True).start()

    @staticmethod
    def answer(handler, step, body):
        status, headers = 200, {}
        if callable(step):
            step = step(body)
        if isinstance(step, tuple):
            status, headers, step = step
        data = step if isinstance(step, bytes) else json.dumps(step).encode()
        handler.send_response(status)
        for name, value in headers.items():
            handler.send_header(name, value)
        if "Content-Length" not in headers:
            handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        handler.wfile.write(data)

    def endpoint(self, parameters="", **more):
        """Return the endpoint as a setting names it, without the waits."""
        found = Endpoint.parse(f"{self.url}?model=tiny{parameters}", **more)
        found._sleep = self.waited.append
        return found


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    found = Server()
    yield found
    found.http.shutdown()
    found.http.server_close()


def test_texts_go_to_the_endpoint_and_vectors_come_back(server):
    """Any server that speaks as OpenAI's can be used, by its address alone."""
    found = open_embedder(f"{server.url}?model=tiny&api-version=7", key=KEY)
    assert server.asked == [], "opening asks nobody"
    rows = found.embed(["one", "three"])
    np.testing.assert_allclose(rows[1], np.array([3, 4, 5]) / 50**0.5, rtol=1e-6)
    assert found.dimensions == 3
    ((path, headers, body),) = server.asked
    assert path == "/v1/embeddings?api-version=7"
    assert headers["Authorization"] == f"Bearer {KEY}"
    assert body == {"model": "tiny", "input": ["one", "three"], "encoding_format": "float"}
    assert KEY not in found.name


def test_shorter_vectors_can_be_asked_for(server):
    """And are another embedder's: they meet no others."""
    found = server.endpoint("&dimensions=3")
    assert found.name != server.endpoint().name
    found.embed(["one"])
    assert server.asked[0][2]["dimensions"] == 3
    with pytest.raises(EmbedderError, match="vectors of 3 numbers, not of 7"):
        open_embedder(f"{server.url}?model=tiny&dimensions=7").embed(["one"])


def test_many_texts_go_in_portions_and_come_back_in_order(server):
    """Endpoints refuse what is too much at once, and answer in any order."""

    def shuffled(asked):
        answer = _vectors(asked)
        answer["data"].reverse()
        return answer

    server.script = [shuffled] * 9
    texts = ["x" * (at % 50) for at in range(150)] + ["y" * 100_000] * 20
    rows = server.endpoint().embed(texts)
    sent = [len(text) for _, _, body in server.asked for text in body["input"]]
    assert rows[:, 2].tolist() == sent
    assert sent == [min(max(len(text), 1), 8000) for text in texts]
    assert all(len(body["input"]) <= 64 for _, _, body in server.asked)
    assert all(sum(map(len, body["input"])) <= 128_000 for _, _, body in server.asked)
    assert server.endpoint().embed([]).shape[0] == 0


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_a_busy_endpoint_is_asked_again_and_waited_for(server, status):
    """A run of hours must not end because of one full minute."""
    server.script = [(status, {}, {}), (status, {"Retry-After": "7"}, {}), (status, {}, {})]
    assert len(server.endpoint().embed(["one"])) == 1
    assert len(server.asked) == 4
    assert 0.5 <= server.waited[0] <= 1
    assert server.waited[1] == 7
    assert 2 <= server.waited[2] <= 4


def test_an_endpoint_that_stays_busy_is_told(server):
    """With what it says of itself, and how often it was asked."""
    said = {"error": {"message": "quota exceeded\n\x1b[31m"}}
    server.script = [(429, {"Retry-After": "86400"}, said)] * 9
    with pytest.raises(EmbedderError, match="did not answer, 5 times: 429") as raised:
        server.endpoint().embed(["one"])
    assert "quota exceeded" in str(raised.value)
    assert str(raised.value).isprintable()
    assert len(server.asked) == 5
    assert server.waited == [60.0] * 4, "nobody is waited for the whole day"


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
def test_a_refusal_is_not_tried_again(server, status):
    """A wrong key stays wrong; and it is not shown to who reads the log, even if it is echoed."""
    server.script = [(status, {}, {"error": f"not with {KEY}"})]
    with pytest.raises(EmbedderError, match=f"refused: {status}") as raised:
        server.endpoint(key=KEY).embed(["one"])
    assert len(server.asked) == 1
    assert KEY not in str(raised.value)
    assert raised.value.hint


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirection_is_not_followed(server, status):
    """Neither the texts nor the key go where the setting does not say."""
    other = Server()
    server.script = [(status, {"Location": other.url}, {})]
    with pytest.raises(EmbedderError, match=f"refused: {status}"):
        server.endpoint(key=KEY).embed(["one"])
    assert other.asked == []
    other.http.shutdown()
    other.http.server_close()


def _row(**more):
    return {"index": 0, "embedding": [1.0, 2.0], **more}


GARBAGE = {
    "no JSON": (b"<html>Welcome</html>", "with no JSON"),
    "cut JSON": (b'{"data": [', "with no JSON"),
    "nothing": (b"", "with no JSON"),
    "not UTF-8": (b'{"data": "\xff"}', "with no JSON"),
    "a list": ([], "without a list of vectors"),
    "an error": ({"error": "x"}, "without a list of vectors"),
    "numbers": ({"data": [1, 2]}, "without a list of vectors"),
    "too few": ({"data": [_row()]}, "1 vectors for 2 texts"),
    "too many": ({"data": [_row(), _row(index=1), _row(index=2)]}, "3 vectors for 2 texts"),
    "twice one": ({"data": [_row(), _row()]}, "index"),
    "wrong index": ({"data": [_row(), _row(index=2)]}, "index"),
    "odd index": ({"data": [_row(), _row(index=[1])]}, "index"),
    "true index": ({"data": [_row(), _row(index=True)]}, "index"),
    "no vector": ({"data": [_row(), {"index": 1}]}, "embedding"),
    "base64": ({"data": [_row(), _row(index=1, embedding="AAAA")]}, "embedding"),
    "empty": ({"data": [_row(embedding=[]), _row(index=1, embedding=[])]}, "embedding"),
    "ragged": ({"data": [_row(), _row(index=1, embedding=[1.0])]}, "different lengths"),
    "words": ({"data": [_row(), _row(index=1, embedding=["a", "b"])]}, "other things than"),
    "null": ({"data": [_row(), _row(index=1, embedding=[None, 1.0])]}, "no number|other things"),
    "deep": ({"data": [_row(), _row(index=1, embedding=[[1], [2]])]}, "other things than"),
}


@pytest.mark.parametrize("case", GARBAGE)
def test_an_answer_that_is_no_vectors_is_an_error(server, case):
    """O22: a page of welcome, a proxy's excuse, a chat model's idea of an embedding."""
    answer, said = GARBAGE[case]
    server.script = [answer]
    found = open_embedder(f"{server.url}?model=tiny")
    with pytest.raises(EmbedderError, match=said) as raised:
        found.embed(["one", "two"])
    assert "nothing was stored" in raised.value.hint
    assert len(server.asked) == 1


def test_another_width_in_the_next_portion_is_an_error(server):
    """O22: some servers balance between models."""
    wide = [lambda asked: {"data": [_row(index=at) for at in range(len(asked["input"]))]}]
    server.script = [_vectors, *wide]
    with pytest.raises(EmbedderError, match="vectors of 2 and 3 numbers"):
        server.endpoint().embed(["x"] * 100)


def test_an_answer_without_an_end_is_given_up(server):
    """By its length, whatever is sent: memory is not the endpoint's to fill."""
    server.script = [b'{"data": [' + b" " * 2_000_000]
    with pytest.raises(EmbedderError, match="more than 270,336 bytes"):
        server.endpoint().embed(["one"])


def test_a_slow_endpoint_is_given_up_and_asked_again(server):
    """Both that says nothing, and that says a byte now and then."""
    may_end = threading.Event()

    def silent(asked):
        may_end.wait(20)
        return _vectors(asked)

    server.script = [silent, silent]
    begun = time.monotonic()
    with pytest.raises(EmbedderError, match="did not answer, 2 times") as raised:
        server.endpoint(attempts=2, answer_seconds=0.2).embed(["one"])
    assert time.monotonic() - begun < 15
    assert "timed out" in str(raised.value)
    may_end.set()


def test_an_answer_that_drips_is_given_up(server):
    """Each byte comes in time, and the answer never does."""
    may_end = threading.Event()

    def drip(handler, step, body):
        handler.send_response(200)
        handler.send_header("Content-Length", "1000000")
        handler.end_headers()
        try:
            while not may_end.wait(0.02):
                handler.wfile.write(b" ")
        except OSError:
            pass  # it was given up, as it should be

    server.answer = drip
    with pytest.raises(EmbedderError, match="did not come to an end in time"):
        server.endpoint(attempts=1, answer_seconds=0.3).embed(["one"])
    may_end.set()


def test_an_answer_that_breaks_off_is_asked_for_again(server):
    """A proxy that restarts in the middle."""
    server.script = [(200, {"Content-Length": "5000"}, b'{"data": [')]
    assert len(server.endpoint().embed(["one"])) == 1
    assert len(server.asked) == 2


def test_an_endpoint_that_is_not_up_is_told():
    """The most common failure with a model server on one's own machine."""
    server = Server()
    found = server.endpoint()
    server.http.shutdown()
    server.http.server_close()
    with pytest.raises(EmbedderError, match=r"did not answer, 5 times: .*refused") as raised:
        found.embed(["one"])
    assert "try again once it is up" in raised.value.hint


NO_ADDRESSES = {
    "ftp://host/x?model=m": "no address of an endpoint",
    "http://?model=m": "no address of an endpoint",
    "http://[::1/v1?model=m": "no address",
    "https://host/v1/embeddings": "names no model",
    "https://host/v1/embeddings?model=": "names no model",
    "https://host/v1?model=m&dimensions=0": "no number of dimensions",
    "https://host/v1?model=m&dimensions=many": "no number of dimensions",
    "https://me:secret@host/v1?model=m": "name or password",
}


@pytest.mark.parametrize("setting", NO_ADDRESSES)
def test_a_setting_that_means_no_endpoint_is_refused(setting):
    """Before anything is sent, with an example; a password in it is not repeated."""
    with pytest.raises(UsageError, match=NO_ADDRESSES[setting]) as raised:
        open_embedder(setting)
    assert "secret" not in str(raised.value)


def test_a_key_never_crosses_a_network_in_the_clear():
    """A typing error in an address must not publish it; on one's own machine it is no secret."""
    with pytest.raises(UsageError, match="for everybody to read"):
        Endpoint.parse("http://models.example/v1/embeddings?model=m", key=KEY)
    for host in ("localhost:11434", "127.0.0.1", "[::1]:80"):
        Endpoint.parse(f"http://{host}/v1/embeddings?model=m", key=KEY)
    Endpoint.parse("http://models.example/v1/embeddings?model=m")
    with pytest.raises(UsageError, match="characters that no key has"):
        Endpoint.parse("https://models.example/v1?model=m", key="a\r\nHost: other")
