"""An endpoint that embeds: ``POST /v1/embeddings`` as OpenAI's does, and many servers after it.

Texts go there only because a setting names it. Redirections are not followed: neither the texts
nor the key go where the setting does not say.
"""

from __future__ import annotations

import http.client
import random
import time
import urllib.error
import urllib.parse
import urllib.request

import numpy as np

from convmem.errors import UsageError
from convmem.search.semantic.embedder import EmbedderError
from convmem.search.semantic.embeddings_json import NoVectors, portions, question, table_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

    from numpy.typing import NDArray

ANSWER_SECONDS = 60.0
ATTEMPTS = 5
_LONGEST_WAIT_SECONDS = 60.0
_RETRIED = frozenset((408, 425, 429, 500, 502, 503, 504))
# A vector of 8,192 numbers of 25 characters each.
_ANSWER_BYTES_A_TEXT = 8_192 * 25
_READ_BYTES = 1 << 16
_LOCAL_HOSTS = frozenset(("localhost", "127.0.0.1", "::1"))


class Endpoint:
    """The endpoint at one address, asked for one model.

    Attributes:
        name: Its address and model: what its vectors are known by.
        dimensions: How many numbers the setting asks of a vector; ``None`` leaves it to the model.
        attempts: How often a busy endpoint is asked in all.
        answer_seconds: How long one answer may take.
    """

    __slots__ = (
        "_key",
        "_model",
        "_open",
        "_sleep",
        "_url",
        "answer_seconds",
        "attempts",
        "dimensions",
        "name",
    )

    def __init__(
        self,
        url: str,
        model: str,
        *,
        key: str | None = None,
        dimensions: int | None = None,
        attempts: int = ATTEMPTS,
        answer_seconds: float = ANSWER_SECONDS,
        sleep: Callable[[float], object] = time.sleep,
    ) -> None:
        self._url = url
        self._model = model
        self._key = key
        self._sleep = sleep
        self._open = urllib.request.build_opener(_NoRedirection).open
        self.attempts = attempts
        self.answer_seconds = answer_seconds
        self.dimensions = dimensions
        self.name = f"{url} {model}" + ("" if dimensions is None else f" {dimensions}")

    @classmethod
    def parse(
        cls,
        setting: str,
        *,
        key: str | None = None,
        attempts: int = ATTEMPTS,
        answer_seconds: float = ANSWER_SECONDS,
    ) -> Endpoint:
        """Return the endpoint that ``https://host/v1/embeddings?model=NAME`` means.

        ``&dimensions=N`` asks for shorter vectors where the model can give them; other parameters
        stay in the address.

        Raises:
            UsageError: It means none, or would show the key to the whole network.
        """
        try:
            parts = urllib.parse.urlsplit(setting)
            host = parts.hostname
        except ValueError as error:
            raise UsageError(f"this is no address: {setting} ({error})", hint=_EXAMPLE) from error
        if parts.scheme not in ("http", "https") or not host:
            raise UsageError(f"this is no address of an endpoint: {setting}", hint=_EXAMPLE)
        if parts.username is not None or parts.password is not None:
            raise UsageError(
                "the endpoint's address holds a name or password, and would be shown in messages",
                hint="give the key apart from the address",
            )
        given = urllib.parse.parse_qsl(parts.query, keep_blank_values=True)
        model = next((value for each, value in given if each == "model"), "")
        if not model:
            raise UsageError(f"the endpoint's address names no model: {setting}", hint=_EXAMPLE)
        wanted = next((value for each, value in given if each == "dimensions"), None)
        if wanted is not None and not (wanted.isascii() and wanted.isdigit() and int(wanted)):
            raise UsageError(f"dimensions={wanted} is no number of dimensions", hint=_EXAMPLE)
        if key is not None and parts.scheme == "http" and host not in _LOCAL_HOSTS:
            raise UsageError(
                f"the key would cross the network to {host} for everybody to read",
                hint="use https, or give no key",
            )
        if key is not None and not (key.isascii() and key.isprintable()):
            raise UsageError("the endpoint's key has characters that no key has")
        rest = [pair for pair in given if pair[0] not in ("model", "dimensions")]
        url = urllib.parse.urlunsplit(
            (parts.scheme, parts.netloc, parts.path or "/", urllib.parse.urlencode(rest), "")
        )
        dimensions = None if wanted is None else int(wanted)
        return cls(
            url,
            model,
            key=key,
            dimensions=dimensions,
            attempts=attempts,
            answer_seconds=answer_seconds,
        )

    def embed(self, texts: list[str]) -> NDArray[np.float32]:
        """Return a row for each text, as the endpoint gave it.

        Of a long text the first 8,000 characters are sent. A busy endpoint is asked
        ``attempts`` times, with longer and longer waits between, or with those that it asks for.

        Raises:
            EmbedderError: It cannot be reached, refused, or did not answer with vectors.
        """
        tables = [self._answer(part) for part in portions(texts)]
        if not tables:
            return np.zeros((0, self.dimensions or 0), np.float32)
        widths = {table.shape[1] for table in tables}
        if len(widths) > 1:
            raise self._no_vectors(f"vectors of {' and '.join(map(str, sorted(widths)))} numbers")
        return np.concatenate(tables)

    def _answer(self, texts: list[str]) -> NDArray[np.float32]:
        said = self._post(question(texts, self._model, self.dimensions), len(texts))
        try:
            return table_of(said, len(texts))
        except NoVectors as error:
            raise self._no_vectors(str(error)) from error

    def _post(self, body: bytes, texts: int) -> bytes:
        """Send *body* and return the answer's bytes, patiently."""
        headers = {"Content-Type": "application/json", "User-Agent": "convmem"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        for attempt in range(1, self.attempts + 1):
            wanted_wait = None
            request = urllib.request.Request(self._url, body, headers)
            try:
                with self._open(request, timeout=self.answer_seconds) as answer:
                    return self._read(answer, _READ_BYTES + texts * _ANSWER_BYTES_A_TEXT)
            except urllib.error.HTTPError as error:
                with error:
                    said = self._masked(_excerpt(error))
                    wanted_wait = _seconds(error.headers.get("Retry-After"))
                    status = error.code
                failure = f"{status} {error.reason}" + (f": {said}" if said else "")
                if status not in _RETRIED:
                    raise self._refused(status, failure) from None
            except (OSError, http.client.HTTPException) as error:
                # An address that does not exist will not begin to within a minute, nor a
                # certificate that is not the host's become it.
                reason = error.reason if isinstance(error, urllib.error.URLError) else error
                failure = str(reason) or type(reason).__name__
                if not isinstance(reason, _PASSING):
                    raise self._unreached(failure, attempt) from error
            if attempt < self.attempts:
                wait = 0.5 * 2**attempt * random.uniform(0.5, 1)
                self._sleep(min(wanted_wait or wait, _LONGEST_WAIT_SECONDS))
        raise self._unreached(failure, self.attempts)

    def _read(self, answer: http.client.HTTPResponse, most: int) -> bytes:
        """Return what the endpoint says, if it comes to an end in time and measure."""
        parts = []
        length = 0
        until = time.monotonic() + self.answer_seconds
        # What there is, not so much in any case: a byte now and then would never come to an end.
        while data := answer.read1(_READ_BYTES):
            parts.append(data)
            length += len(data)
            if length > most:
                raise self._no_vectors(f"more than {most:,} bytes")
            if time.monotonic() > until:
                raise TimeoutError("the answer did not come to an end in time")
        if answer.length:
            raise http.client.IncompleteRead(b"", answer.length)
        return b"".join(parts)

    def _masked(self, text: str) -> str:
        return text if not self._key else text.replace(self._key, "…")

    def _refused(self, status: int, said: str) -> EmbedderError:
        hint = _WHAT_NEXT.get(status, "see the endpoint's documentation")
        return EmbedderError(f"the endpoint {self._url} refused: {said}", hint=hint)

    def _unreached(self, failure: str, attempts: int) -> EmbedderError:
        tried = "" if attempts == 1 else f", {attempts} times"
        return EmbedderError(
            f"the endpoint {self._url} did not answer{tried}: {failure}",
            hint="nothing was stored of these texts, and what was is kept; try again once it is up",
        )

    def _no_vectors(self, what: str) -> EmbedderError:
        return EmbedderError(
            f"the endpoint {self._url} answered with {what}",
            hint=f"is it an embeddings endpoint, and {self._model} an embedding model? nothing was"
            " stored of these texts",
        )


_EXAMPLE = "such as https://api.example.com/v1/embeddings?model=NAME"
_WHAT_NEXT = {
    400: "the model may not be one that embeds, or takes no dimensions",
    401: "the key is missing or wrong",
    403: "the key is not allowed this model",
    404: "see whether the path and the model are right: most paths end in /v1/embeddings",
    413: "the endpoint takes less at once than convmem sends",
}
# What may be otherwise a moment later.
_PASSING = (TimeoutError, ConnectionError, http.client.IncompleteRead, http.client.BadStatusLine)


class _NoRedirection(urllib.request.HTTPRedirectHandler):
    """Takes a redirection for the refusal that it is."""

    def redirect_request(self, *_: Any) -> None:
        return None


def _excerpt(answer: urllib.error.HTTPError) -> str:
    """Return how a refusal begins, on one line."""
    try:
        said = answer.read(2000).decode("utf-8", "replace")
    except (OSError, http.client.HTTPException):
        return ""
    plain = "".join(each if each.isprintable() else " " for each in said)
    return " ".join(plain.split())[:200]


def _seconds(text: str | None) -> float | None:
    """Return what Retry-After asks for; ``None`` where it is a date, or nothing."""
    if text is None or not (text.strip().isascii() and text.strip().isdigit()):
        return None
    return float(text.strip()[:9])
