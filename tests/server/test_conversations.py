"""Turn after turn through the whole service: continue_from, and generations under their own addresses."""

from __future__ import annotations

import base64
import json
import secrets
from typing import TYPE_CHECKING, Any

import pytest
import redis

from app.store.embedded import EmbeddedStore
from tests.fixtures import image_bytes
from tests.processes import HTTP, running_gateway
from tests.server.conftest import Client, calls_of, tokens_a_day, write_tenants
from tests.server.recorder import recording

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx2

    from tests.processes import Running
    from tests.server.conftest import Tenants
    from tests.server.recorder import Exchanged, Recorder

OTHER_MODEL = "gemini-3-pro-image"


@pytest.fixture(scope="module")
def recorder(emulator: Running) -> Iterator[Recorder]:
    with recording(emulator.url) as found:
        yield found


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Tenants:
    folder = tmp_path_factory.mktemp("conversations")
    ample = tokens_a_day(10_000_000)
    tight = [{"unit": "total_tokens", "window": "day", "limit": 3500}]
    return write_tenants(folder / "tenants.yaml", {"talking": ample, "foreign": ample, "tight": tight})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("talking")


@pytest.fixture(scope="module")
def service(folder: Path, settings: dict[str, str], own: Tenants, recorder: Recorder) -> Iterator[Running]:
    given = {
        **settings,
        "tenants_file": str(own.path),
        "emulator_base_url": recorder.url,
        "conversation.turns_max": "3",
        "conversation_mb": "1",
    }
    with running_gateway(folder, **given) as process:
        yield process


@pytest.fixture
def client(service: Running, own: Tenants) -> Client:
    return Client(service.url, own.keys["talking"])


def fresh(words: str = "A cat", **fields: Any) -> dict[str, Any]:
    """A cheap request that nobody made before."""
    return {"prompt": f"{words} {secrets.token_hex(4)}", "image_size": "512", "delivery": "uri", **fields}


def made(answer: httpx2.Response) -> dict[str, Any]:
    """A good answer."""
    assert answer.status_code == 200, answer.text
    return dict(answer.json())


def violations(answer: httpx2.Response) -> dict[str, str]:
    """Codes by pointer."""
    assert answer.status_code == 422, answer.text
    return {item["pointer"]: item["code"] for item in answer.json()["violations"]}


def contents(exchanged: Exchanged) -> list[dict[str, Any]]:
    """The turns of a request as the upstream got it."""
    return list(json.loads(exchanged.asked)["contents"])


def edited(client: Client, files: list[bytes], **fields: str) -> httpx2.Response:
    parts = [("image", ("a", data, "image/png")) for data in files]
    headers = {"X-API-Key": client.key}
    text = {"image_size": "512", "delivery": "uri", **fields}
    if not parts:
        plain = [(name, (None, value)) for name, value in text.items()]
        return HTTP.post(f"{client.url}/v1/images:edit", files=plain, headers=headers)
    return HTTP.post(f"{client.url}/v1/images:edit", data=text, files=parts, headers=headers)


def test_the_third_turn_sends_the_first_two_with_signatures_and_bytes_as_they_were(
    client: Client, recorder: Recorder
) -> None:
    before = len(recorder.passed)
    reference = image_bytes("harbour.png")
    first = made(client.post(fresh(images=[{"data": base64.b64encode(reference).decode()}])))
    second = made(client.post(fresh("Make it blue", continue_from=first["id"])))
    third = made(client.post(fresh("Give it a hat", continue_from=second["id"])))
    assert len({each["images"][0]["id"] for each in (first, second, third)}) == 3
    assert third["effective"]["continue_from"] == second["id"]
    assert first["effective"]["continue_from"] is None
    one, two, three = recorder.passed[before:]
    assert [turn["role"] for turn in contents(three)] == ["user", "model"] * 2 + ["user"]
    for number, exchanged in ((1, one), (3, two)):
        said = json.loads(exchanged.answered)["candidates"][0]["content"]
        (drawn,) = [part for part in said["parts"] if "inlineData" in part]
        assert len(drawn["thoughtSignature"]) > 100
        signature = json.dumps(drawn["thoughtSignature"]).encode()
        assert signature in exchanged.answered
        assert signature in three.asked, "byte by byte as it was given"
        assert contents(three)[number]["parts"] == said["parts"]
    (asked, words) = contents(three)[0]["parts"]
    assert base64.b64decode(asked["inlineData"]["data"]) == reference
    assert words["text"].startswith("A cat")


def test_all_turns_are_counted_and_reserved_as_input(client: Client) -> None:
    first = made(client.post(fresh(images=[{"data": base64.b64encode(image_bytes("harbour.png")).decode()}])))
    body = fresh("Make it blue", continue_from=first["id"])
    headers = {"X-API-Key": client.key}
    quote = HTTP.post(f"{client.url}/v1/images:estimate", json=body, headers=headers).json()
    assert quote["estimate"]["image_input"] == 2 * 1120, "the reference and the picture that was drawn"
    second = made(client.post(body))
    assert second["usage"]["image_input"] == 2 * 1120
    third = fresh("And a hat", continue_from=second["id"])
    quote = HTTP.post(f"{client.url}/v1/images:estimate", json=third, headers=headers).json()
    assert quote["estimate"]["image_input"] == 3 * 1120
    assert quote["estimate"]["text_input"] > len("A cat 12345678 Make it blue 12345678") // 3


def test_a_budget_that_the_earlier_turns_exceed_refuses_the_next(service: Running, own: Tenants) -> None:
    client = Client(service.url, own.keys["tight"])
    first = made(client.post(fresh()))
    refused = client.post(fresh("Make it blue", continue_from=first["id"]))
    assert (refused.status_code, refused.json()["code"]) == (429, "budget_exceeded")


def test_the_same_turn_is_made_once_and_from_another_generation_anew(
    client: Client, emulator: Running
) -> None:
    first, other = made(client.post(fresh())), made(client.post(fresh()))
    calls = calls_of(emulator)
    body = fresh("Make it blue", continue_from=first["id"])
    turns = [made(client.post(body)) for _ in range(2)]
    assert [turn["cache"]["status"] for turn in turns] == ["miss", "hit"]
    assert made(client.post({**body, "continue_from": other["id"]}))["cache"]["status"] == "miss"
    without = {name: value for name, value in body.items() if name != "continue_from"}
    assert made(client.post(without))["cache"]["status"] == "miss"
    assert calls_of(emulator) - calls == 3


def test_a_form_goes_on_with_and_without_files(client: Client, recorder: Recorder) -> None:
    first = made(client.post(fresh()))
    second = made(edited(client, [image_bytes("harbour.png")], prompt="With this", continue_from=first["id"]))
    made(edited(client, [], prompt="Brighter", continue_from=second["id"]))
    parts = contents(recorder.passed[-1])[2]["parts"]
    assert base64.b64decode(parts[0]["inlineData"]["data"]) == image_bytes("harbour.png")
    assert violations(edited(client, [], prompt="Brighter")) == {"/image": "required"}


@pytest.mark.parametrize("asked", ["gen_" + "0" * 24, "gen_1", "", "gen_ü", "img_" + "0" * 64])
def test_an_unknown_generation_is_a_violation_that_spends_nothing(
    client: Client, emulator: Running, asked: str
) -> None:
    calls = calls_of(emulator)
    assert violations(client.post(fresh(continue_from=asked))) == {"/continue_from": "unknown_generation"}
    assert calls_of(emulator) == calls


def test_another_tenants_generation_is_as_unknown(service: Running, client: Client, own: Tenants) -> None:
    first = made(client.post(fresh()))
    foreign = Client(service.url, own.keys["foreign"])
    answer = foreign.post(fresh(continue_from=first["id"]))
    assert violations(answer) == {"/continue_from": "unknown_generation"}
    assert foreign.get(f"/v1/generations/{first['id']}").status_code == 404


def test_what_cannot_go_on_is_said_with_the_reason(client: Client, emulator: Running) -> None:
    calls = calls_of(emulator)
    several = made(client.post(fresh(n=2)))
    big = made(edited(client, [image_bytes("harbour.png") + bytes(1 << 20)], prompt=fresh()["prompt"]))
    first = made(client.post(fresh()))
    turns = [first]
    for words in ("Blue", "Green"):
        turns.append(made(client.post(fresh(words, continue_from=turns[-1]["id"]))))
    made_here = calls_of(emulator) - calls
    for found, reason in ((several, "n above 1"), (big, "more than the gateway keeps"), (turns[-1], "turns")):
        answer = client.post(fresh(continue_from=found["id"]))
        assert violations(answer) == {"/continue_from": "not_continuable"}
        assert reason in answer.json()["violations"][0]["detail"]
    other = client.post(fresh(continue_from=first["id"], model=OTHER_MODEL, image_size="1K"))
    assert violations(other) == {"/continue_from": "other_model"}
    assert calls_of(emulator) - calls == made_here


def test_a_conversation_whose_picture_has_expired_cannot_go_on(client: Client, folder: Path) -> None:
    first = made(client.post(fresh()))
    with redis.Redis(unix_socket_path=str(EmbeddedStore(folder / "state").socket)) as store:
        store.zrem("fg:{talking}:index", first["images"][0]["id"])
    answer = client.post(fresh(continue_from=first["id"]))
    assert violations(answer) == {"/continue_from": "unknown_generation"}
    assert "expired" in answer.json()["violations"][0]["detail"]


def test_a_conversation_stays_with_its_model_where_none_is_named(client: Client) -> None:
    first = made(client.post(fresh(model=OTHER_MODEL, image_size="1K")))
    second = made(client.post(fresh("Bluer", continue_from=first["id"], image_size="1K")))
    assert second["model"] == first["model"] == OTHER_MODEL


def test_a_generation_is_found_under_its_address_as_it_was_answered(client: Client) -> None:
    first = made(client.post(fresh()))
    found = client.get(f"/v1/generations/{first['id']}")
    kept = made(found)
    for name in ("id", "model", "images", "text", "finish_reason", "effective", "usage", "warnings"):
        assert kept[name] == first[name], name
    assert (kept["cache"]["status"], kept["cache"]["key"]) == ("hit", first["cache"]["key"])
    assert "RateLimit" in found.headers
    inline = made(client.get(f"/v1/generations/{first['id']}?delivery=inline"))
    (image,) = inline["images"]
    data = base64.b64decode(image["data"])
    assert data == client.get(f"/v1/images/{image['id']}").content
    assert client.get(f"/v1/generations/{first['id']}?delivery=fax").status_code == 422


def test_only_a_finished_generation_is_found_and_the_answer_says_where_to_ask_for_others(
    client: Client,
) -> None:
    for odd in ("gen_" + "f" * 24, "gen_", "gen_" + "F" * 24, "x"):
        missing = client.get(f"/v1/generations/{odd}")
        assert missing.status_code == 404
        assert "/v1/operations" in missing.json()["detail"]
