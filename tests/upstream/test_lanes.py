"""Settings to back ends: which back ends are opened, in which order, and how each is spared."""

from __future__ import annotations

import json
from contextlib import AsyncExitStack
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from app.backends import open_upstream
from app.cards import load_catalogue
from app.domain.errors import ConfigurationError
from app.observability.metrics import Metrics
from tests.changed_constants import environment_of, settings_of

if TYPE_CHECKING:
    from pathlib import Path

    from app.upstream.failover import FailoverImageModel

NOWHERE = "http://127.0.0.1:9"
BOTH = {
    "gemini_api_key": "k",
    "vertex_base_url": NOWHERE,
    "gemini_base_url": NOWHERE,
}


async def opened(stack: AsyncExitStack, **fields: Any) -> FailoverImageModel:
    settings = settings_of(environment_of({**BOTH, **fields}))
    return await open_upstream(settings, stack, Metrics(), load_catalogue(), lambda model, *_: model)


async def test_back_ends_are_opened_once_and_asked_in_the_order_of_each_model() -> None:
    async with AsyncExitStack() as stack:
        by_model = {"nano-banana-2": "gemini", "gemini-3-pro-image": "gemini,vertex"}
        model = await opened(stack, upstream="vertex,gemini,vertex", upstream_by_model=json.dumps(by_model))
        assert [back_end.name for back_end in model._back_ends] == ["vertex", "gemini"]
        orders = {
            card: [back_end.name for back_end in back_ends] for card, back_ends in model._orders.items()
        }
        assert orders == {"gemini-3.1-flash-image": ["gemini"], "gemini-3-pro-image": ["gemini", "vertex"]}
        assert len(model._all_back_ends) == 2


async def test_waiting_in_every_queue_ends_before_the_lease_does() -> None:
    async with AsyncExitStack() as stack:
        model = await opened(stack, upstream="vertex,gemini", lease_s="24", upstream_slots_queue_s="100")
        assert [back_end._config.slots.queue_s for back_end in model._back_ends] == [8, 8]


async def test_a_deployment_with_little_time_is_not_taken_for_an_impatient_caller() -> None:
    async with AsyncExitStack() as stack:
        [patient] = (await opened(stack, upstream="gemini"))._back_ends
        [hasty] = (await opened(stack, upstream="gemini", timeout_by_size="512=30"))._back_ends
        assert (patient._config.slow_s, hasty._config.slow_s) == (60, 15)


async def test_whoever_has_a_slot_finds_a_connection() -> None:
    async with AsyncExitStack() as stack:
        [back_end] = (await opened(stack, upstream="gemini", upstream_slots_max="150"))._back_ends
        model = back_end._model._model  # type: ignore[attr-defined]  # what the observer wraps
        assert model._limits.max_connections >= 150 * len(list(load_catalogue()))


async def test_an_order_for_a_model_without_a_card_is_told_with_the_cards_there_are() -> None:
    async with AsyncExitStack() as stack:
        with pytest.raises(ConfigurationError, match=r"unheard-of: there is no such card; .*nano-banana-2"):
            await opened(stack, upstream="gemini", upstream_by_model="unheard-of=vertex")


@pytest.mark.parametrize("order", ["vertex,", "auto,gemini", "azure"])
def test_an_order_is_made_of_the_three_back_ends(order: str) -> None:
    with pytest.raises(ConfigurationError, match="emulator, gemini and vertex, such as vertex,gemini"):
        settings_of(environment_of({"upstream": order}))


@pytest.mark.parametrize(
    ("fields", "order"),
    [
        ({}, ("emulator",)),
        ({"gemini_api_key": "k"}, ("gemini",)),
        ({"gemini_api_key": "k", "vertex_project": "p"}, ("vertex",)),
        ({"upstream": "gemini,vertex", "gemini_api_key": "k"}, ("gemini", "vertex")),
    ],
)
def test_the_order_follows_from_the_credentials_unless_it_is_said(
    fields: dict[str, Any], order: tuple[str, ...]
) -> None:
    assert settings_of(environment_of(fields)).back_ends == order


KEYS: list[dict[str, Any]] = [
    {"name": "a", "back_end": "vertex", "project": "p-a", "weight": 2},
    {"name": "b", "back_end": "gemini", "pool": "shop"},
]


def write_credentials(folder: Path) -> str:
    (folder / "b.key").write_text("key-of-b\n")
    entries = [KEYS[0], {**KEYS[1], "api_key_file": str(folder / "b.key")}]
    (folder / "credentials.yaml").write_text(yaml.safe_dump({"credentials": entries}))
    return str(folder / "credentials.yaml")


@pytest.mark.parametrize(
    ("fields", "names"),
    [
        ({"gemini_api_key": ""}, ["vertex/a", "gemini/b"]),
        ({"vertex_project": "p"}, ["vertex", "vertex/a", "gemini", "gemini/b"]),
        ({"upstream": "gemini,vertex"}, ["gemini", "gemini/b", "vertex/a"]),
    ],
)
async def test_credentials_of_the_file_stand_beside_the_one_of_the_settings(
    fields: dict[str, Any], names: list[str], tmp_path: Path
) -> None:
    async with AsyncExitStack() as stack:
        model = await opened(stack, credentials_file=write_credentials(tmp_path), **fields)
        assert [back_end.name for back_end in model._back_ends] == names
        members = {back_end.name: back_end for back_end in model._back_ends}
        assert (members["vertex/a"].weight, members["gemini/b"].weight) == (2, 1)
        assert members["vertex/a"].pools == {"default", "a"}
        assert members["gemini/b"].pools == {"shop", "b"}


def test_the_pools_that_tenants_may_name_are_those_with_credentials(tmp_path: Path) -> None:
    path = write_credentials(tmp_path)
    assert settings_of(environment_of({"credentials_file": path})).pools == {"default", "a", "shop", "b"}
    assert settings_of(environment_of({})).pools == {"default"}
    alone = tmp_path / "alone.yaml"
    alone.write_text(yaml.safe_dump({"credentials": [{**KEYS[0], "pool": "shop"}]}))
    assert settings_of(environment_of({"credentials_file": str(alone)})).pools == {"shop", "a"}


async def test_a_credential_that_no_order_names_is_refused(tmp_path: Path) -> None:
    async with AsyncExitStack() as stack:
        with pytest.raises(ConfigurationError, match=r"b: FLASHGATE_UPSTREAM does not name gemini"):
            await opened(stack, credentials_file=write_credentials(tmp_path), upstream="vertex")
