"""Pools of credentials through the whole service: the emulator plays projects with quotas of their own."""

from __future__ import annotations

import json
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from tests.processes import HTTP, Running, running_emulator, running_gateway
from tests.server.conftest import PEPPER, Client, tokens_a_day, wait_for, write_tenants
from tests.server.operators import ADMIN_KEY, Admin

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    import httpx2

TENANTS = ("plain", "other", "search", "one")
POOLS = {"search": {"pool": "search"}, "one": {"pool": "second"}}


@pytest.fixture(scope="module")
def google(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Running]:
    with running_emulator(tmp_path_factory.mktemp("google"), ["--pace", "0"]) as process:
        yield process


def plays(google: Running, **projects: dict[str, Any]) -> None:
    """The emulator has these projects from now on, each with the key ``key-of-NAME``, and counts anew."""
    HTTP.delete(f"{google.url}/emulator/projects").raise_for_status()
    HTTP.delete(f"{google.url}/emulator/calls").raise_for_status()
    changes_to(google, **projects)


def changes_to(google: Running, **projects: dict[str, Any]) -> None:
    """As ``plays``, but what was counted stays counted."""
    document = [{"id": name, "keys": [f"key-of-{name}"], **more} for name, more in projects.items()]
    HTTP.put(f"{google.url}/emulator/projects", json={"projects": document}).raise_for_status()


def served(google: Running) -> dict[str, int]:
    """Generations by project."""
    projects = HTTP.get(f"{google.url}/emulator/projects").json()["projects"]
    return {name: counts["served"] for name, counts in projects.items() if "served" in counts}


def refused(google: Running) -> Counter[str]:
    """Refused calls by project."""
    projects = HTTP.get(f"{google.url}/emulator/projects").json()["projects"]
    return Counter({name: counts.get("refused", 0) for name, counts in projects.items()})


def write_credentials(folder: Path, *credentials: dict[str, Any]) -> Path:
    """A file of keys for the Gemini Developer API, each in a file of its own."""
    folder.mkdir(parents=True, exist_ok=True)
    entries = []
    for each in credentials:
        key_file = folder / f"{each['name']}.key"
        key_file.write_text(f"key-of-{each['name']}\n")
        entries.append({"back_end": "gemini", "api_key_file": str(key_file), **each})
    path = folder / "credentials.yaml"
    path.write_text(yaml.safe_dump({"credentials": entries}))
    return path


@contextmanager
def serving(
    folder: Path, google: Running, *credentials: dict[str, Any], **settings: str
) -> Iterator[tuple[Running, dict[str, Client]]]:
    """A gateway with these credentials, and a client of each tenant."""
    folder.mkdir(exist_ok=True)
    known = write_tenants(folder / "t.yaml", dict.fromkeys(TENANTS, tokens_a_day(10**7)), POOLS)
    settings = {
        "tenants_file": str(known.path),
        "key_pepper": PEPPER,
        "gemini_base_url": google.url,
        "credentials_file": str(write_credentials(folder / "c", *credentials)),
        **settings,
    }
    with running_gateway(folder / "g", **settings) as gateway:
        yield gateway, {name: Client(gateway.url, known.keys[name]) for name in TENANTS}


FIRST, SECOND = {"name": "first"}, {"name": "second"}
SEARCH = {"name": "search-1", "pool": "search"}


def draw(client: Client, prompt: str, **fields: Any) -> httpx2.Response:
    return client.post({"prompt": prompt, "image_size": "512", "delivery": "uri", **fields})


def draw_many(client: Client, prompt: str, count: int) -> list[httpx2.Response]:
    with ThreadPoolExecutor(8) as threads:
        return list(threads.map(lambda at: draw(client, f"{prompt} {at}"), range(count)))


def show_metrics(gateway: Running) -> str:
    return HTTP.get(gateway.metrics_url).text


def test_calls_are_spread_by_weight(tmp_path: Path, google: Running) -> None:
    plays(google, first={}, second={}, **{"search-1": {}})
    with serving(tmp_path, google, FIRST, {**SECOND, "weight": 3}, SEARCH) as (gateway, clients):
        for at in range(8):
            answer = draw(clients["plain"], f"In turn {at}")
            assert (answer.status_code, answer.headers["x-flashgate-back-end"]) == (200, "gemini")
        assert served(google) == {"first": 2, "second": 6}
        assert 'flashgate_upstream_calls_total{back_end="gemini/second"' in show_metrics(gateway)


def test_a_projects_used_up_quota_moves_its_calls_to_the_next_and_pays_nothing_twice(
    tmp_path: Path, google: Running
) -> None:
    plays(google, first={"requests_per_minute": 3}, second={"requests_per_minute": 40}, **{"search-1": {}})
    with serving(tmp_path, google, FIRST, SECOND, SEARCH) as (_, clients):
        answers = [draw(clients["plain"], f"Quota {at}") for at in range(12)]
        assert [answer.status_code for answer in answers] == [200] * 12
        assert served(google) == {"first": 3, "second": 9}
        assert refused(google)["first"] == 1, "a project without a quota is left alone for as long as it says"
        window = clients["plain"].budget()
        assert (window["settled"], window["held"]) == (12 * 747, 0)


def test_who_floods_its_own_pool_takes_nothing_from_others(tmp_path: Path, google: Running) -> None:
    plays(google, first={"requests_per_minute": 20}, second={}, **{"search-1": {"requests_per_minute": 5}})
    settings = {"upstream_retry_attempts": "1"}
    with serving(tmp_path, google, FIRST, SECOND, SEARCH, **settings) as (_, clients):
        flood = draw_many(clients["search"], "Flood", 30)
        statuses = Counter(answer.status_code for answer in flood)
        assert statuses == {200: 5, 429: 25}
        refusals = [answer for answer in flood if answer.status_code == 429]
        assert {answer.json()["code"] for answer in refusals} == {"upstream_quota"}
        assert all(int(answer.headers["retry-after"]) > 1 for answer in refusals)
        assert [draw(clients["plain"], f"Calm {at}").status_code for at in range(5)] == [200] * 5
        served_now = served(google)
        assert served_now.pop("search-1") == 5
        assert sum(served_now.values()) == 5, "no pool falls back to another"
        assert refused(google)["first"] == 0
        budgets = {name: clients[name].budget() for name in ("search", "plain")}
        assert {name: (each["settled"], each["held"]) for name, each in budgets.items()} == {
            "search": (5 * 747, 0),
            "plain": (5 * 747, 0),
        }


def test_a_tenant_of_one_project_is_served_by_it_alone(tmp_path: Path, google: Running) -> None:
    plays(google, first={}, second={"requests_per_minute": 2}, **{"search-1": {}})
    with serving(tmp_path, google, FIRST, SECOND, SEARCH, upstream_retry_attempts="1") as (_, clients):
        statuses = [draw(clients["one"], f"Alone {at}").status_code for at in range(3)]
        assert statuses == [200, 200, 429]
        assert served(google) == {"second": 2}


@pytest.mark.parametrize("state", ["revoked", "suspended", "capped"])
def test_a_credential_lost_under_load_costs_no_request_and_nothing_twice(
    state: str, tmp_path: Path, google: Running
) -> None:
    plays(google, first={}, second={}, **{"search-1": {}})
    with serving(tmp_path, google, FIRST, SECOND, SEARCH, admin_key=ADMIN_KEY) as (gateway, clients):
        with ThreadPoolExecutor(8) as threads:
            running = [threads.submit(draw, clients["plain"], f"Under load {at}") for at in range(60)]
            for each in running[:10]:
                each.result()
            more: dict[str, Any] = {"keys": []} if state == "revoked" else {"state": state}
            changes_to(google, first=more, second={})
            answers = [each.result() for each in running]
        assert [answer.status_code for answer in answers] == [200] * 60
        assert sum(served(google).values()) == 60
        window = clients["plain"].budget()
        assert (window["settled"], window["held"]) == (60 * 747, 0)
        before = served(google)
        assert draw(clients["plain"], "Afterwards").status_code == 200
        assert served(google) == {**before, "second": before["second"] + 1}
        name = "spending_cap" if state == "capped" else "refused"
        assert f'flashgate_upstream_{name}{{back_end="gemini/first"}} 1.0' in show_metrics(gateway)
        assert f'flashgate_upstream_{name}{{back_end="gemini/second"}} 1.0' not in show_metrics(gateway)
        listed = {each["name"]: each for each in Admin(gateway.url).get("/credentials").json()["credentials"]}
        assert list(listed) == ["gemini/first", "gemini/second", "gemini/search-1"]
        assert listed["gemini/first"]["state"] == ("spending_cap" if state == "capped" else "refused")
        assert 500 < listed["gemini/first"]["rests_s"]["*"] <= 600
        assert listed["gemini/first"]["detail"]
        assert listed["gemini/search-1"] == {
            "name": "gemini/search-1",
            "pools": ["search", "search-1"],
            "weight": 1,
            "state": "serving",
            "detail": None,
            "rests_s": {},
            "running": 0,
            "waiting": 0,
        }
        conditions = HTTP.get(f"{gateway.url}/readyz").json()
        assert f"gemini/first_{name}" in json.dumps(conditions)
        log = "".join(path.read_text() for path in (tmp_path / "g").glob("*.log"))
        assert "gemini/first" in log
        assert "key-of-" not in log


def test_the_caps_of_a_credential_are_its_own(tmp_path: Path, google: Running) -> None:
    plays(google, first={}, second={}, **{"search-1": {}})
    capped = {**FIRST, "images_per_minute": 2}
    with serving(tmp_path, google, capped, {**SECOND, "requests_per_minute": 600}, SEARCH) as (_, clients):
        wait_for(lambda: time.time() % 60 < 45, "a minute that does not end meanwhile", 60)
        assert [draw(clients["plain"], f"Capped {at}").status_code for at in range(6)] == [200] * 6
        assert served(google) == {"first": 2, "second": 4}


def test_conversations_stay_with_the_credential_that_signed_them(tmp_path: Path, google: Running) -> None:
    plays(google, first={}, second={}, **{"search-1": {}})
    with serving(tmp_path, google, FIRST, SECOND, SEARCH) as (_, clients):
        for at in range(4):
            answer = draw(clients["plain"], f"A fox {at}")
            before = served(google)
            for word in ("blue", "red", "green"):
                answer = draw(clients["plain"], f"Make it {word}", continue_from=answer.json()["id"])
                assert answer.status_code == 200, answer.text
            after = served(google)
            assert sorted(after.get(name, 0) - before.get(name, 0) for name in ("first", "second")) == [0, 3]


def test_a_conversation_in_googles_dialect_is_found_by_another_replica(
    tmp_path: Path, google: Running
) -> None:
    plays(google, first={}, second={}, **{"search-1": {}})
    with (
        serving(tmp_path / "a", google, FIRST, SECOND, SEARCH) as (one, clients),
        serving(tmp_path / "b", google, FIRST, SECOND, SEARCH) as (other, _),
    ):
        headers = {"x-goog-api-key": clients["plain"].key}
        path = "/gemini/v1beta/models/gemini-3.1-flash-image:generateContent"
        for at in range(6):
            turns = [{"role": "user", "parts": [{"text": f"A hen {at}"}]}]
            config = {"imageConfig": {"imageSize": "512"}, "responseModalities": ["IMAGE"]}
            for gateway in (one, other, one):
                body = {"contents": turns, "generationConfig": config}
                answer = HTTP.post(f"{gateway.url}{path}", json=body, headers=headers)
                assert answer.status_code == 200, answer.text
                drawn = answer.json()["candidates"][0]["content"]
                turns = [*turns, drawn, {"role": "user", "parts": [{"text": "Make it blue"}]}]
        assert set(served(google)) == {"first", "second"}, "first turns choose among both"


def test_a_tenant_cannot_have_a_pool_that_is_not_configured(tmp_path: Path, google: Running) -> None:
    plays(google, first={}, second={}, **{"search-1": {}})
    with (
        pytest.raises(AssertionError, match=r"tenants\[3\]\.pool: there is no pool or credential second"),
        serving(tmp_path / "refused", google, FIRST, SEARCH),
    ):
        pass
    with serving(tmp_path, google, FIRST, SECOND, SEARCH, admin_key=ADMIN_KEY) as (gateway, _):
        operator = Admin(gateway.url)
        answer = operator.post("/tenants", {"id": "new", "pool": "unheard-of"})
        assert answer.status_code == 422, answer.text
        [fault] = answer.json()["violations"]
        assert (fault["pointer"], "first, search" in fault["detail"]) == ("/pool", True)
        assert operator.post("/tenants", {"id": "new", "pool": "search"}).json()["pool"] == "search"
