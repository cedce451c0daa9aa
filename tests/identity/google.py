"""Stands in for Google's accounts: signs ID tokens, and serves the keys to check them with."""

from __future__ import annotations

import base64
import json
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, TypeVar

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

if TYPE_CHECKING:
    from collections.abc import Iterator

AUDIENCE = "https://flashgate.example"
ACCOUNT = "search@a-project.iam.gserviceaccount.com"
SUBJECT = "103117966615020283234"
REMOVED = "SIGNATURE_REMOVED_BY_GOOGLE"
IAP_AUDIENCE = "/projects/1/global/backendServices/2"

G = TypeVar("G", bound="Google")


def base64url(data: bytes) -> str:
    """RFC 7515 section 2."""
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def part(members: dict[str, Any]) -> str:
    """A header or claims as they stand in a token."""
    return base64url(json.dumps(members).encode())


def claims(**changed: Any) -> dict[str, Any]:
    """What a good token says; with None a claim is left out."""
    now = int(time.time())
    said = {
        "iss": "https://accounts.google.com",
        "aud": AUDIENCE,
        "azp": SUBJECT,
        "sub": SUBJECT,
        "email": ACCOUNT,
        "email_verified": True,
        "iat": now,
        "exp": now + 3600,
        **changed,
    }
    return {name: value for name, value in said.items() if value is not None}


@dataclass
class Google:
    """One signing key, and the server of its public half.

    Attributes:
        answers: What the server says: a status, headers and a body. ``readings`` counts how often it did.
        gate: Closed, the server keeps whoever asks waiting.
    """

    key: rsa.RSAPrivateKey
    key_id: str = "first"
    url: str = ""
    readings: int = 0
    status: int = 200
    headers: dict[str, str] = field(default_factory=lambda: {"Cache-Control": "public, max-age=20000"})
    body: bytes = b""
    gate: threading.Event = field(default_factory=threading.Event)

    def __post_init__(self) -> None:
        self.gate.set()
        self.serve_own_key()

    def serve_own_key(self) -> None:
        """Serve the public half under the present key id."""
        numbers = self.key.public_key().public_numbers()
        width = (numbers.n.bit_length() + 7) // 8
        public = {
            "kty": "RSA",
            "use": "sig",
            "alg": "RS256",
            "kid": self.key_id,
            "n": base64url(numbers.n.to_bytes(width)),
            "e": base64url(numbers.e.to_bytes(3)),
        }
        self.body = json.dumps({"keys": [public, {"kty": "EC", "kid": "another kind"}]}).encode()

    def signed(self, header: dict[str, Any], said: dict[str, Any]) -> str:
        """A token with a true signature over whatever it says."""
        text = f"{part(header)}.{part(said)}"
        made = self.key.sign(text.encode(), padding.PKCS1v15(), hashes.SHA256())
        return f"{text}.{base64url(made)}"

    def token(self, **changed: Any) -> str:
        """A good token but for what is changed."""
        return self.signed({"alg": "RS256", "typ": "JWT", "kid": self.key_id}, claims(**changed))


class Iap(Google):
    """The same for Identity-Aware Proxy, which signs with ES256."""

    def __init__(self) -> None:
        self._own = ec.generate_private_key(ec.SECP256R1())
        super().__init__(rsa.generate_private_key(public_exponent=65537, key_size=2048))

    def serve_own_key(self) -> None:
        numbers = self._own.public_key().public_numbers()
        x, y = (base64url(number.to_bytes(32)) for number in (numbers.x, numbers.y))
        own = {"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": self.key_id, "x": x, "y": y}
        super().serve_own_key()
        # A key of the other kind lies beside it, under an id of its own.
        other = json.loads(self.body)["keys"][0] | {"kid": "of RSA"}
        self.body = json.dumps({"keys": [own, other]}).encode()

    def asserted(self, header: dict[str, Any], said: dict[str, Any]) -> str:
        """An assertion with a true signature over whatever it says."""
        text = f"{part(header)}.{part(said)}"
        r, s = decode_dss_signature(self._own.sign(text.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{text}.{base64url(r.to_bytes(32) + s.to_bytes(32))}"

    def assertion(self, **changed: Any) -> str:
        """A good assertion but for what is changed."""
        said = {"iss": "https://cloud.google.com/iap", "aud": IAP_AUDIENCE, "email_verified": None,
                "sub": f"accounts.google.com:{SUBJECT}"}  # fmt: skip
        return self.asserted(
            {"alg": "ES256", "typ": "JWT", "kid": self.key_id}, claims(**{**said, **changed})
        )


@contextmanager
def google(bits: int = 2048) -> Iterator[Google]:
    """The stand-in, on a port of its own."""
    with _served(Google(rsa.generate_private_key(public_exponent=65537, key_size=bits))) as stand_in:
        yield stand_in


@contextmanager
def iap() -> Iterator[Iap]:
    """The stand-in for the proxy's signer, on a port of its own."""
    with _served(Iap()) as stand_in:
        yield stand_in


@contextmanager
def _served(stand_in: G) -> Iterator[G]:

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            stand_in.readings += 1
            stand_in.gate.wait(20)
            self.send_response(stand_in.status)
            for name, value in stand_in.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(stand_in.body)))
            self.end_headers()
            self.wfile.write(stand_in.body)

        def log_message(self, *_arguments: object) -> None:
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        stand_in.url = f"http://127.0.0.1:{server.server_address[1]}/certs"
        serving = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        serving.start()
        try:
            yield stand_in
        finally:
            stand_in.gate.set()
            server.shutdown()
            serving.join()
