"""Credentials: what their file may say, and which of a pool is asked next."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from app.domain.errors import (
    ConfigurationError,
    UpstreamQuota,
    UpstreamRejected,
    UpstreamSpendingCap,
    UpstreamUnavailable,
)
from app.domain.generation import ModelAnswer, Usage
from app.domain.request import Input
from app.upstream.back_end import GuardConfig, GuardedBackEnd, Membership
from app.upstream.credentials import read_credentials
from app.upstream.failover import FailoverImageModel
from app.upstream.metrics import NullMetrics
from app.upstream.pools import arrange_pool, rank_by_opening
from app.upstream.slots import SlotConfig
from tests.upstream.conftest import asked, lasting
from tests.upstream.test_resilience import Clock

if TYPE_CHECKING:
    from pathlib import Path

    from app.domain.errors import GatewayError
    from app.domain.request import GenerationRequest
    from app.generation.ports import Call

BURST = UpstreamQuota("a minute's", upstream_status=429, retry_after_s=30)
DAILY = UpstreamQuota("a day's", upstream_status=429, retry_after_s=7200).with_attributes(daily=True)
CAPPED = UpstreamSpendingCap("The cap is reached.", upstream_status=429)
REVOKED = UpstreamRejected("API key not valid.", upstream_status=400, reason="API_KEY_INVALID", billed="no")
GONE = UpstreamRejected("No such model.", upstream_status=404, billed="no")


class Project:
    """Answers, or fails as long as there is an error."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.calls = 0
        self.error: GatewayError | None = None

    async def generate(self, request: GenerationRequest, seed: int | None, call: Call) -> ModelAnswer:
        self.calls += 1
        if self.error is not None:
            raise self.error
        return ModelAnswer((), "", "STOP", Usage(), "m", back_end=self.name)

    async def find_fault(self) -> str | None:
        return None


class Refusals(NullMetrics):
    """Which credentials are shown as refused."""

    def __init__(self) -> None:
        self.shown: dict[str, bool] = {}

    def set_refused(self, back_end: str, *, refused: bool) -> None:
        self.shown[back_end] = refused


class Pool:
    """Credentials of one back end, by name and weight."""

    def __init__(self, slots: SlotConfig | None = None, **weights: int) -> None:
        self.clock = Clock()
        self.metrics = Refusals()
        self.projects = {name: Project(f"gemini/{name}") for name in weights}
        config = GuardConfig(slots=slots or SlotConfig())
        self.members = [
            GuardedBackEnd(
                f"gemini/{name}",
                self.projects[name],
                membership=Membership(frozenset({"default", name}), weight),
                config=config,
                metrics=self.metrics,
                clock=self.clock,
            )
            for name, weight in weights.items()
        ]
        self.model = FailoverImageModel(
            self.members, clock=self.clock, sleep=self.clock.sleep, jitter=lambda: 0.0
        )

    async def draw(self, count: int = 1, **fields: Any) -> Counter[str]:
        """Who answered so many requests."""
        answers = [await self.model.generate(asked(**fields), None, lasting(60)) for _ in range(count)]
        return Counter(answer.back_end.partition("/")[2] for answer in answers)

    @property
    def calls(self) -> dict[str, int]:
        return {name: project.calls for name, project in self.projects.items()}


async def test_turns_are_taken_by_weight_and_interleaved() -> None:
    pool = Pool(a=1, b=2, c=5)
    assert await pool.draw(16) == {"a": 2, "b": 4, "c": 10}
    order = [next(iter(await pool.draw())) for _ in range(8)]
    assert max(len(run) for run in "".join(order).replace("a", " ").replace("b", " ").split()) <= 3


@pytest.mark.parametrize(
    ("error", "rest_s"), [(BURST, 30), (DAILY, 600), (CAPPED, 600), (REVOKED, 600), (GONE, 600)]
)
async def test_one_that_cannot_serve_is_left_alone_until_it_may_be_able_to(
    error: GatewayError, rest_s: float
) -> None:
    pool = Pool(a=1, b=1)
    pool.projects["a"].error = error
    assert await pool.draw(10) == {"b": 10}
    assert pool.calls == {"a": 1, "b": 10}, "asked once, and the call went on at once"
    pool.clock.now += rest_s - 1
    await pool.draw(2)
    assert pool.calls["a"] == 1
    pool.clock.now += 2
    pool.projects["a"].error = None
    assert await pool.draw(4) == {"a": 2, "b": 2}, "it does not catch up on what it has missed"


async def test_where_all_rest_the_one_is_asked_whose_rest_ends_first() -> None:
    pool = Pool(a=1, b=1, c=1)
    pool.projects["a"].error = REVOKED
    pool.projects["b"].error = BURST
    pool.projects["c"].error = UpstreamQuota("a minute's", upstream_status=429, retry_after_s=20)
    with pytest.raises(UpstreamQuota) as raised:
        await pool.draw()
    assert raised.value.retry_after_s == 20
    assert pool.calls == {"a": 1, "b": 1, "c": 1}
    with pytest.raises(UpstreamQuota):
        await pool.draw()
    assert pool.calls == {"a": 1, "b": 1, "c": 2}, "a pool without a quota is not asked by all of its members"


async def test_a_refused_credential_is_shown_until_it_is_taken_again() -> None:
    pool = Pool(a=1, b=1)
    pool.projects["a"].error = REVOKED
    await pool.draw(2)
    assert pool.metrics.shown == {"gemini/a": True}
    assert pool.model.conditions() == {"gemini/a_refused": "API key not valid."}
    pool.clock.now += 601
    pool.projects["a"].error = None
    await pool.draw(2)
    assert pool.metrics.shown == {"gemini/a": False}
    assert pool.model.conditions() == {}


async def test_who_names_a_file_that_google_may_not_read_takes_no_credential_away() -> None:
    pool = Pool(a=1, b=1)
    pool.projects["a"].error = pool.projects["b"].error = REVOKED
    named = Input(kind="image", pointer="/images/0", uri="gs://private/a.png", declared_mime_type="image/png")
    with pytest.raises(UpstreamRejected):
        await pool.model._run_round(pool.members, replace(asked(), images=(named,)), None, lasting(60), 60.0)
    assert pool.metrics.shown == {}
    assert not any(each.compute_rest_s(asked()) for each in pool.members)


async def test_a_tenants_credential_is_its_only_one() -> None:
    pool = Pool(a=1, b=1)
    call = replace(lasting(60), pool="b")
    for _ in range(3):
        await pool.model.generate(asked(), None, call)
    assert pool.calls == {"a": 0, "b": 3}
    pool.projects["b"].error = UpstreamUnavailable("down", upstream_status=503)
    with pytest.raises(UpstreamUnavailable):
        await pool.model.generate(asked(), None, call)
    assert pool.calls["a"] == 0
    with pytest.raises(UpstreamRejected, match="no credential") as raised:
        await pool.model.generate(asked(), None, replace(call, pool="of-nobody"))
    assert raised.value.billed == "no"


async def test_one_with_a_free_slot_comes_before_one_with_a_queue() -> None:
    slots = SlotConfig(min=1, max=1, reserved_for_critical=0, reserved_for_interactive=0)
    pool = Pool(slots, a=1, b=1, c=1)

    def arrange() -> list[str]:
        return [each.name for each in arrange_pool(pool.members, asked())]

    a, b, c = (each._get_slots(asked().model) for each in pool.members)
    async with a.acquire(lasting(60)):
        orders = [arrange() for _ in range(3)]
        assert [sorted(order[:2]) for order in orders] == [["gemini/b", "gemini/c"]] * 3
        assert {order[2] for order in orders} == {"gemini/a"}, "it is the last resort"
        async with b.acquire(lasting(60)):
            for _ in range(3):
                assert len(arrange()) == 2, "a call waits in one queue at most"
            async with c.acquire(lasting(60)):
                assert len(arrange()) == 1


def test_a_conversations_first_turn_chooses_by_weight_and_moves_little() -> None:
    members = Pool(a=1, b=3).members
    more = Pool(a=1, b=3, c=4).members
    openings = [f"Opening {at}" for at in range(2000)]
    chosen = {opening: rank_by_opening(members, opening)[0].name for opening in openings}
    assert 0.2 < Counter(chosen.values())["gemini/a"] / len(openings) < 0.3
    assert chosen == {opening: rank_by_opening(members[::-1], opening)[0].name for opening in openings}
    then = {opening: rank_by_opening(more, opening)[0].name for opening in openings}
    moved = {opening for opening in openings if then[opening] != chosen[opening]}
    assert {then[opening] for opening in moved} == {"gemini/c"}


VALID = {"name": "a", "back_end": "vertex", "project": "p"}


@pytest.mark.parametrize(
    ("credentials", "fault"),
    [
        ([], "credentials: must have at least 1 item"),
        ([{**VALID, "name": "Big"}], "credentials.0.name: must have 1 to 40 of a-z"),
        ([{**VALID, "name": "vertex"}], "credentials.0.name: vertex is the name of a back end"),
        ([{**VALID, "back_end": "azure"}], "credentials.0.back_end: must be emulator, gemini or vertex"),
        ([{**VALID, "weight": 0}], "credentials.0.weight: must be 1 or more"),
        ([{**VALID, "secret": "hush"}], "credentials.0.secret: is not a known field"),
        ([{**VALID, "project": None}], "credentials.0: project is required for the back end vertex"),
        ([{**VALID, "api_key_file": "k"}], "credentials.0: api_key_file is not for the back end vertex"),
        ([{"name": "a", "back_end": "gemini"}], "credentials.0: api_key_file is required for the back end"),
        ([VALID, VALID], "several credentials are called a"),
        ([VALID, {**VALID, "name": "b", "pool": "a"}], "a cannot be the name of a credential and of a pool"),
    ],
)
def test_a_file_with_a_fault_is_refused_with_its_place(
    credentials: list[dict[str, Any]], fault: str, tmp_path: Path
) -> None:
    path = tmp_path / "credentials.yaml"
    path.write_text(yaml.safe_dump({"credentials": credentials}))
    with pytest.raises(ConfigurationError) as raised:
        read_credentials(path)
    assert fault in str(raised.value)
    assert "hush" not in str(raised.value)


def test_a_file_that_is_not_there_or_no_yaml_is_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError, match="cannot be read"):
        read_credentials(tmp_path / "missing.yaml")
    (tmp_path / "bad.yaml").write_text("credentials: [")
    with pytest.raises(ConfigurationError, match="line 1"):
        read_credentials(tmp_path / "bad.yaml")


@pytest.mark.parametrize("text", ["", " \n", "two keys\nin two lines"])
def test_a_file_of_a_key_holds_one_key(text: str, tmp_path: Path) -> None:
    path, key_file = tmp_path / "credentials.yaml", tmp_path / "key"
    key_file.write_text(text)
    path.write_text(
        yaml.safe_dump({"credentials": [{"name": "a", "back_end": "gemini", "api_key_file": str(key_file)}]})
    )
    with pytest.raises(ConfigurationError, match="must hold one API key"):
        read_credentials(path)[0].read_api_key()
    key_file.write_text(" AIza-1 \n")
    assert read_credentials(path)[0].read_api_key() == "AIza-1"
