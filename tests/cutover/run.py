"""Sends recorded requests through a gateway while an operator moves them to another model and back.

python -m tests.cutover.run --requests 10000
"""

from __future__ import annotations

import argparse
import random
import sys
import tempfile
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tests.bill.run import Site, running_site
from tests.processes import HTTP
from tests.server.conftest import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    import httpx2

OLD: Final = "gemini-3.1-flash-image"
NEW: Final = "gemini-nano-banana-2.1"
PHASES: Final = ((0.1, 0.05), (0.3, 0.5), (0.5, 1.0), (0.7, 0.0), (0.85, 1.0))
"""Part of the sessions that have begun, and the share that is moved from then on."""

GEMINI: Final = f"/gemini/v1beta/models/{OLD}:generateContent"
OPENAI: Final = "/openai/v1/images/generations"
NATIVE: Final = "/v1/images:generate"
RETRIES: Final = 5


class Lost(AssertionError):
    """A request was not answered as it would have been without a migration."""


@dataclass
class Replay:
    """One run: what was sent, and what came of it.

    Attributes:
        answers: How many requests of each kind were answered, by the model that served them.
        pictures: How many pictures have to have been drawn and paid.
        lost: What went wrong, one sentence each.
        retries: Requests that were refused with 503 and sent again.
    """

    site: Site
    key: str
    dice: random.Random
    answers: Counter[tuple[str, str]] = field(default_factory=Counter)
    pictures: int = 0
    lost: list[str] = field(default_factory=list)
    retries: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def post(self, path: str, body: dict[str, Any], **headers: str) -> httpx2.Response:
        """Send a request as clients do: what a busy machine refuses for a moment is sent again."""
        named = {"X-API-Key": self.key, **{name.replace("_", "-"): value for name, value in headers.items()}}
        for _ in range(RETRIES):
            answer = HTTP.post(f"{self.site.gateway.url}{path}", json=body, headers=named, timeout=120)
            if answer.status_code != 503:
                break
            with self.lock:
                self.retries += 1
            threading.Event().wait(int(answer.headers.get("retry-after", "1")))
        return answer

    def count(self, kind: str, model: str, pictures: int) -> None:
        """Note an answer, and the pictures that were made for it."""
        with self.lock:
            self.answers[kind, model] += 1
            self.pictures += pictures


@dataclass(frozen=True)
class Recorded:
    """What a caller sent: a kind of session, its prompt, and the fields beside it."""

    kind: str
    prompt: str
    fields: dict[str, Any]


def record_sessions(dice: random.Random, count: int) -> Iterator[Recorded]:
    """Sessions of every kind, with what both models take; some with a seed, which only the old one takes."""
    for number in range(count):
        kind = dice.choice(list(SESSIONS))
        fields: dict[str, Any] = {"image_size": dice.choice(("1K", "1K", "1K", "2K"))}
        if dice.random() < 0.3:
            fields["aspect_ratio"] = dice.choice(("16:9", "1:8", "4:5"))
        yield Recorded(kind, f"Recorded {number}", fields)


def expect(answer: httpx2.Response, status: int, what: str) -> dict[str, Any]:
    """The body of an answer with this status."""
    if answer.status_code != status:
        raise Lost(f"{what}: {answer.status_code} {answer.text[:300]}")
    return dict(answer.json())


def require(condition: object, what: str) -> None:
    """Raise Lost unless something holds."""
    if not condition:
        raise Lost(what)


def _send_plain(replay: Replay, recorded: Recorded) -> Iterator[None]:
    pictures = 2 if recorded.prompt.endswith("0") else 1
    body = {"prompt": recorded.prompt, "delivery": "uri", "n": pictures, **recorded.fields}
    answer = expect(replay.post(NATIVE, body), 200, "native")
    require(len(answer["images"]) == pictures, f"{pictures} pictures were asked for")
    replay.count("plain", answer["effective"]["model"], pictures)
    yield
    again = expect(replay.post(NATIVE, body), 200, "the same once more")
    same = again["effective"]["model"] == answer["effective"]["model"]
    # Without a key it is served from the cache of the model that serves it now, or drawn by that model.
    require(same or again["cache"]["status"] in {"miss", "hit"}, f"a cache mixes models: {again['cache']}")
    replay.count(
        "plain again", again["effective"]["model"], 0 if again["cache"]["status"] == "hit" else pictures
    )


def _send_under_a_key(replay: Replay, recorded: Recorded) -> Iterator[None]:
    key = f'"key-{recorded.prompt}"'
    body = {"prompt": recorded.prompt, "delivery": "uri", "model": OLD, **recorded.fields}
    first = expect(replay.post(NATIVE, body, Idempotency_Key=key), 200, "under a key")
    replay.count("key", first["effective"]["model"], 1)
    for _ in range(2):
        yield
        again = expect(replay.post(NATIVE, body, Idempotency_Key=key), 200, "a repetition under its key")
        require(again["id"] == first["id"], "a repetition got another picture")
        require(again["images"] == first["images"], "a repetition got other pictures")
        replay.count("key again", again["effective"]["model"], 0)


def _send_conversation(replay: Replay, recorded: Recorded) -> Iterator[None]:
    body = {"prompt": recorded.prompt, "delivery": "uri", **recorded.fields}
    turn = expect(replay.post(NATIVE, body), 200, "a first turn")
    model = turn["effective"]["model"]
    replay.count("conversation", model, 1)
    for word in ("red", "blue"):
        yield
        more = {**body, "prompt": f"{recorded.prompt} in {word}", "continue_from": turn["id"]}
        turn = expect(replay.post(NATIVE, more), 200, "a later turn")
        require(turn["effective"]["model"] == model, "a conversation changed its model")
        replay.count("conversation again", model, 1)


def _send_google_conversation(replay: Replay, recorded: Recorded) -> Iterator[None]:
    turns: list[dict[str, Any]] = [{"role": "user", "parts": [{"text": recorded.prompt}]}]
    config = {"imageConfig": {"imageSize": recorded.fields["image_size"]}}
    model = ""
    for word in ("red", "blue", "green"):
        body = {"contents": turns, "generationConfig": config}
        answer = expect(replay.post(GEMINI, body), 200, f"a turn in Google's dialect, {word}")
        require(model in {"", answer["modelVersion"]}, "a conversation in Google's dialect changed its model")
        model = answer["modelVersion"]
        replay.count("google", model, 1)
        turns = [*turns, answer["candidates"][0]["content"], {"role": "user", "parts": [{"text": word}]}]
        yield


def _send_operation(replay: Replay, recorded: Recorded) -> Iterator[None]:
    key = f'"operation-{recorded.prompt}"'
    body = {"prompt": recorded.prompt, "delivery": "uri", **recorded.fields}

    def begin() -> str:
        answer = replay.post(NATIVE, body, Idempotency_Key=key, Prefer="respond-async")
        require(answer.status_code in {200, 202}, f"an operation: {answer.status_code} {answer.text[:300]}")
        return str(answer.headers["location"])

    location = begin()
    yield
    require(begin() == location, "a repetition began another operation")
    document: dict[str, Any] = {}

    def is_over() -> bool:
        headers = {"X-API-Key": replay.key}
        document.update(HTTP.get(f"{replay.site.gateway.url}{location}", headers=headers).json())
        return document["state"] not in {"waiting", "running"}

    wait_for(is_over, "an operation ends", 60)
    require(document["state"] == "done", f"an operation: {document}")
    replay.count("operation", document["result"]["effective"]["model"], 1)


def _send_in_openais_dialect(replay: Replay, recorded: Recorded) -> Iterator[None]:
    body = {"prompt": recorded.prompt, "model": OLD, "size": "1024x1024"}
    answer = expect(replay.post(OPENAI, body), 200, "in OpenAI's dialect")
    require(len(answer["data"]) == 1, "one picture was asked for")
    replay.count("openai", "", 1)
    yield


def _send_with_a_seed(replay: Replay, recorded: Recorded) -> Iterator[None]:
    body = {"prompt": recorded.prompt, "delivery": "uri", "seed": 7, **recorded.fields}
    answer = replay.post(NATIVE, body)
    if answer.status_code == 422:
        codes = [fault["code"] for fault in answer.json()["violations"]]
        require(codes == ["unsupported_seed"], f"a seed: {codes}")
        replay.count("seed refused", NEW, 0)
    else:
        model = expect(answer, 200, "a seed")["effective"]["model"]
        require(model == OLD, "a seed was dropped")
        replay.count("seed", model, 1)
    yield


SESSIONS: dict[str, Callable[[Replay, Recorded], Iterator[None]]] = {
    "plain": _send_plain,
    "key": _send_under_a_key,
    "conversation": _send_conversation,
    "google": _send_google_conversation,
    "operation": _send_operation,
    "openai": _send_in_openais_dialect,
    "seed": _send_with_a_seed,
}


def move(site: Site, tenant: str, share: float) -> None:
    """What an operator writes."""
    etag = site.admin.get(f"/tenants/{tenant}").headers["etag"]
    aliases = {OLD: {"to": NEW, "share": share}}
    changed = site.admin.call("PATCH", f"/tenants/{tenant}", {"aliases": aliases}, If_Match=etag)
    assert changed.status_code == 200, changed.text


def replay_sessions(site: Site, requests: int, seed: int, at_once: int = 8) -> Replay:
    """Send sessions with so many requests or a little more, and move them meanwhile.

    The sessions of a window run side by side, step by step, so that most of them see one change at least.
    """
    tenant = "press"
    replay = Replay(site, site.keys[2], random.Random(seed))
    sessions = list(record_sessions(replay.dice, requests // 2))
    window = max(20, len(sessions) // 8)
    open_sessions: list[Iterator[None]] = []
    waiting = iter(sessions)
    phases = list(PHASES)
    begun = 0

    def advance(session: Iterator[None]) -> Iterator[None] | None:
        try:
            next(session)
        except StopIteration:
            return None
        except Lost as lost:
            with replay.lock:
                replay.lost.append(str(lost))
            return None
        return session

    with ThreadPoolExecutor(at_once) as threads:
        while True:
            while len(open_sessions) < window and (recorded := next(waiting, None)) is not None:
                open_sessions.append(SESSIONS[recorded.kind](replay, recorded))
                begun += 1
            if not open_sessions:
                return replay
            chosen = [
                open_sessions.pop(replay.dice.randrange(len(open_sessions)))
                for _ in range(min(40, len(open_sessions)))
            ]
            moving = None
            if phases and begun >= phases[0][0] * len(sessions):
                moving = threads.submit(move, site, tenant, phases.pop(0)[1])
            open_sessions += [session for session in threads.map(advance, chosen) if session is not None]
            if moving is not None:
                moving.result()


def count_billed(site: Site) -> int:
    """Pictures that the emulator has drawn."""
    return int(HTTP.get(f"{site.emulator.url}/emulator/calls").json()["billed"]["pictures"])


def main() -> int:
    """Replay, print what came of it, and return 1 if a request was lost or paid twice."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--requests", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="fg") as folder, running_site(Path(folder)) as site:
        replay = replay_sessions(site, arguments.requests, arguments.seed)
        billed = count_billed(site)
    for (kind, model), count in sorted(replay.answers.items()):
        sys.stdout.write(f"{kind:20} {model:24} {count}\n")
    sent = sum(replay.answers.values())
    sys.stdout.write(
        f"{sent} requests, {len(replay.lost)} lost, {replay.retries} sent again, "
        f"{replay.pictures} pictures paid, {billed} billed\n"
    )
    for sentence in replay.lost[:20]:
        sys.stdout.write(f"  {sentence}\n")
    return int(bool(replay.lost) or billed != replay.pictures)


if __name__ == "__main__":
    sys.exit(main())
