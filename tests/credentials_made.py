"""Credentials that are none: made up at run time, so that no scanner finds one in this repository.

Each has the shape of a real one and the randomness of one, and opens nothing.
"""

from __future__ import annotations

import base64
import json
import string
import uuid
from collections.abc import Callable
from random import Random

_DIGITS = string.digits
_LETTERS = string.ascii_letters
_MIXED = _LETTERS + _DIGITS
_HEX = "0123456789abcdef"
_BASE32 = string.ascii_uppercase + "234567"
_BASE64 = _MIXED + "+/"


def _some(chance: Random, count: int, letters: str = _MIXED) -> str:
    # With a digit and letters of both cases, as nearly all random ones have.
    while True:
        made = "".join(chance.choices(letters, k=count))
        if all(
            any(each in made for each in kind)
            for kind in (_DIGITS, string.ascii_lowercase, string.ascii_uppercase)
            if set(kind) <= set(letters)
        ):
            return made


def _pem(chance: Random, kind: str, rows: int) -> str:
    body = "\n".join(_some(chance, 64, _BASE64) for _ in range(rows))
    return f"-----BEGIN {kind}-----\n{body}\n{_some(chance, 30, _BASE64)}==\n-----END {kind}-----"


def _jwt(chance: Random) -> str:
    def part(value: dict[str, object]) -> str:
        return base64.urlsafe_b64encode(json.dumps(value).encode()).decode().rstrip("=")

    head = part({"alg": "HS256", "typ": "JWT"})
    said = part({"sub": _some(chance, 12), "name": "Jo Doe", "iat": chance.randrange(10**9)})
    return f"{head}.{said}.{_some(chance, 43, _MIXED + '-_')}"


# By kind: the credential itself.
KINDS: dict[str, Callable[[Random], str]] = {
    "aws key id": lambda it: "AKIA" + _some(it, 16, _BASE32),
    "github": lambda it: "ghp" + "_" + _some(it, 36),
    "github fine-grained": lambda it: "github" + f"_pat_{_some(it, 22)}_{_some(it, 59)}",
    "gitlab": lambda it: "glpat" + "-" + _some(it, 20),
    "slack bot": lambda it: (
        "xoxb" + f"-{_some(it, 12, '123456789')}-{_some(it, 13, '123456789')}-{_some(it, 24)}"
    ),
    "openai": lambda it: "sk" + f"-proj-{_some(it, 74)}T3Blbk" + f"FJ{_some(it, 74)}",
    "anthropic": lambda it: "sk" + f"-ant-api03-{_some(it, 93)}AA",
    "stripe": lambda it: "sk" + f"_live_{_some(it, 24)}",
    "google": lambda it: "AIza" + _some(it, 35),
    "hugging face": lambda it: "hf" + "_" + _some(it, 34, _LETTERS),
    "npm": lambda it: "npm" + "_" + _some(it, 36),
    "pypi": lambda it: "pypi" + f"-AgEIcHlwaS5vcmc{_some(it, 150)}",
    "telegram": lambda it: f"{_some(it, 10, '123456789')}:A" + f"A{_some(it, 33)}",
    "jwt": _jwt,
    "rsa key": lambda it: _pem(it, "RSA PRIVATE" + " KEY", 24),
    "private key": lambda it: _pem(it, "PRIVATE" + " KEY", 26),
    "openssh key": lambda it: _pem(it, "OPENSSH PRIVATE" + " KEY", 6),
    "ec key": lambda it: _pem(it, "EC PRIVATE" + " KEY", 3),
}
# By kind: what gives it away, and itself.
NAMED: dict[str, Callable[[Random], tuple[str, str, str]]] = {
    "https address": lambda it: ("https://deploy:", _some(it, 14), "@git.corp.net/app.git"),
    "postgres": lambda it: ("postgresql://app:", _some(it, 16), "@10.0.0.5:5432/prod"),
    "mysql": lambda it: ("mysql://root:", _some(it, 12), "@db:3306/x"),
    "amqp": lambda it: ("amqp://worker:", _some(it, 12), "@mq:5672/"),
    "ado": lambda it: ("Server=tcp:db.x.net,1433;User ID=sa;Password=", _some(it, 14), ";"),
    "azure": lambda it: (
        "DefaultEndpointsProtocol=https;AccountName=abcdefg;AccountKey=",
        _some(it, 86, _BASE64) + "==",
        ";EndpointSuffix=core.windows.net",
    ),
    "aws secret": lambda it: ("AWS_SECRET_ACCESS_KEY=", _some(it, 40, _BASE64), "\n"),
    "environment": lambda it: ("export DB_PASSWORD=", _some(it, 14), "\n"),
    "password in code": lambda it: ('password = "', _some(it, 14), '"'),
    "password in yaml": lambda it: ("  password: ", _some(it, 14), "\n"),
    "key in code": lambda it: ('api_key="', _some(it, 32), '"'),
    "bearer": lambda it: ("Authorization: Bearer ", _some(it, 40), "\n"),
    "basic": lambda it: (
        "Authorization: Basic ",
        base64.b64encode(f"jo:{_some(it, 14)}".encode()).decode(),
        "\n",
    ),
    "key header": lambda it: ("x-api-key: ", _some(it, 40), "\n"),
    "query": lambda it: ("https://api.corp.net/v1?api_key=", _some(it, 32), "&page=2"),
    "curl": lambda it: ("curl -u ", f"jo:{_some(it, 14)}", " https://x.corp.net/"),
}

# How a credential comes into a conversation; %s is where it stands.
AROUND = (
    "%s",
    "My key is %s, can you see why it fails?",
    "$ cat .env\n%s\nPORT=8080\n",
    "Traceback:\n  401 for url with `%s`\n",
    "- old\n+ %s\n",
    "é → ü: %s – done ✅",
)


def harmless(chance: Random) -> dict[str, str]:
    """Return texts without a credential that look like one in some way, by kind."""
    noise = bytes(chance.randrange(256) for _ in range(3000))
    return {
        "prose": "The password is changed every 90 days; ask Jo for the token. My secret: tea.",
        "uuid": f"session {uuid.UUID(int=chance.getrandbits(128))} key {chance.getrandbits(60)}",
        "commit": f"commit {_some(chance, 40, _HEX)}\nAuthor: Jo <jo@example.org>",
        "sha256": f"sha256:{_some(chance, 64, _HEX)}",
        "integrity": f'"integrity": "sha512-{_some(chance, 86, _BASE64)}=="',
        "image": f"data:image/png;base64,{base64.b64encode(noise).decode()}",
        "public key": f"ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAI{_some(chance, 43)} jo@box",
        "certificate": _pem(chance, "CERTIFICATE", 12),
        "code": (
            "def login(user: str, password: str, token: str | None = None) -> Session:\n"
            '    api_key = os.environ["API_KEY"]\n'
            "    password = getpass.getpass()\n"
            '    return Session(user, password=password, token=token or load("token.json"))\n'
        ),
        "settings": "MAX_TOKENS=4096\nTOKEN_LIMIT=100000\nPASSWORD=$DB_PASSWORD\nSECRET=${VAULT}\n",
        "placeholders": (
            "export OPENAI_API_KEY=sk-...your-key...\npassword: <your password>\n"
            "AKIAIOSFODNN7EXAMPLE ghp_xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx\n"
        ),
        "tool ids": f"toolu_01{_some(chance, 22)} call_{_some(chance, 24)} msg_{_some(chance, 24)}",
        "signature": json.dumps({"signature": _some(chance, 300, _BASE64) + "=="}),
        "minified": "function a(b,c){return b.key===c.key?b.token:c.secret}" * 20,
        "csv": "\n".join(f"{chance.random()},{chance.randrange(10**9)}" for _ in range(50)),
        "type hints": "interface Login { password: string; apiKey: string; token?: AuthToken2 }",
        "talk of keys": (
            "A PEM file begins with -----BEGIN PRIVATE" + " KEY----- and then has lines of Base64; "
            "it ends with -----END PRIVATE" + " KEY-----. Never paste one here."
        ),
        "address": "https://example.org/login?next=/a&token_type=bearer#access_token",
        "lines": "\n".join(f"{each:6}→    x = {each}" for each in range(60)),
    }
