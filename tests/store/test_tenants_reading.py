"""Reading a tenants' file again and again: what it costs grows with what changed, and nobody waits for it."""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from zoneinfo import available_timezones

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from app.cards import load_catalogue
from app.domain.errors import ConfigurationError
from app.tenants import schema, yaml_text
from app.tenants.directory import FileDirectory
from app.tenants.file import TenantsReader
from app.tenants.schema import TenantsFile

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from app.domain.tenancy import Tenant

CATALOGUE = load_catalogue()
PEPPER = b"a pepper of the tests"
HASH = "hmac-sha256:" + "a" * 64
COUNT = 200


def entry(number: int, limit: int = 41_440) -> dict[str, Any]:
    return {
        "id": f"tenant-{number}",
        "time_zone": "Europe/Berlin",
        "budgets": [
            {"unit": "image_tokens", "window": "day", "limit": limit},
            {"unit": "usd", "window": "month", "limit": 0.5, "mode": "shadow"},
        ],
        "keys": [{"id": f"k{number}", "hash": HASH, "scopes": ["images"]}],
    }


def block(entries: list[dict[str, Any]]) -> str:
    return str(yaml.safe_dump({"tenants": entries}, sort_keys=False))


def indented(entries: list[dict[str, Any]]) -> str:
    """As people write it: dashes below the key, comments and empty lines between."""
    lines = block(entries).splitlines()[1:]
    return "# all of them\n\ntenants:  # by id\n" + "".join(
        ("\n  # the next\n" if line.startswith("- ") else "") + f"  {line}\n" for line in lines
    )


def flow(entries: list[dict[str, Any]]) -> str:
    return "tenants:\n" + "".join(f"  - {json.dumps(each)}\n" for each in entries)


def in_json(entries: list[dict[str, Any]]) -> str:
    return json.dumps({"tenants": entries})


def anchored(entries: list[dict[str, Any]]) -> str:
    return block(entries).replace("  id: tenant-0", "  id: &first tenant-0", 1) + "\n"


FORMS: list[Callable[[list[dict[str, Any]]], str]] = [block, indented, flow, in_json, anchored]
ids_of = lambda form: form.__name__  # noqa: E731


def reader() -> TenantsReader:
    return TenantsReader("tenants.yaml", CATALOGUE)


@pytest.mark.parametrize("form", FORMS, ids=ids_of)
def test_reading_again_judges_only_what_changed(form: Callable[[list[dict[str, Any]]], str]) -> None:
    entries = [entry(number) for number in range(COUNT)]
    one = reader()
    before = one.read(form(entries))
    assert (len(before), one.validated_count) == (COUNT, COUNT)
    assert one.read(form(entries)) == before
    assert one.validated_count == 0
    entries[7] = entry(7, 1)
    after = one.read(form(entries))
    assert one.validated_count == 1
    assert after[7].budgets[0].limit == 1
    assert after[:7] + after[8:] == before[:7] + before[8:]
    assert [tenant.id for tenant in one.read(form([*entries[9:], entry(COUNT)]))][-1] == f"tenant-{COUNT}"
    assert one.validated_count <= 2, "the new one, and what stands differently, such as the former last one"


@pytest.mark.parametrize("form", FORMS, ids=ids_of)
def test_a_fault_is_told_with_its_place_and_costs_no_further_judging(
    form: Callable[[list[dict[str, Any]]], str],
) -> None:
    entries = [entry(number) for number in range(COUNT)]
    one = reader()
    one.read(form(entries))
    entries[7]["budgets"][0]["limit"] = -1
    entries[9]["id"] = "tenant-3"
    with pytest.raises(ConfigurationError) as caught:
        one.read(form(entries))
    assert caught.value.faults == (
        "tenants[7].budgets[0].limit: must be 0 or more",
        "tenants[9].id: the tenant id 'tenant-3' is taken by tenants[3]",
    )
    assert one.validated_count == 2
    one.read(form([entry(number) for number in range(COUNT)]))
    assert one.validated_count == 0, "a faulty file takes nothing away"


async def test_while_a_file_is_read_again_everything_else_goes_on(tmp_path: Path) -> None:
    path = tmp_path / "tenants.yaml"
    await asyncio.to_thread(path.write_text, block([entry(number) for number in range(COUNT)]))
    directory = FileDirectory(path, PEPPER, CATALOGUE)
    await asyncio.to_thread(path.write_text, block([entry(number, 1) for number in range(COUNT)]))
    reading = asyncio.create_task(directory.reload())
    turns = 0
    while not reading.done():
        await asyncio.sleep(0)
        turns += 1
    assert await reading == COUNT
    assert turns > COUNT, "the loop turned more often than once an entry"


def test_the_time_zones_of_the_machine_are_listed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    listed = []

    def counted() -> set[str]:
        listed.append(1)
        return available_timezones()

    monkeypatch.setattr(schema, "available_timezones", counted)
    schema._list_time_zones.cache_clear()
    reader().read(block([entry(number) for number in range(COUNT)]))
    assert listed == [1]


def test_the_c_library_is_there_and_is_used(monkeypatch: pytest.MonkeyPatch) -> None:
    assert issubclass(yaml_text._FastLoader, yaml.CSafeLoader)
    monkeypatch.setattr(yaml_text, "_Loader", None)
    for form in FORMS:
        assert len(reader().read(form([entry(1), entry(2)]))) == 2


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("tenants: " + "[" * 100_000, "nested"),
        ("tenants:\n  - " + "[" * 100_000, "nested"),
        ("tenants:\n" + "- " * 100_000 + "a", "nested"),
        ("tenants: [{id: a, keys: [{expires_at: 2026-13-01}]}]", "month"),
        ("tenants:\n- id: a\n  time_zone: 2026-13-01\n", "month"),
        ("tenants: [{id: a, ? [x]: 1}]", "unhashable"),
        ("tenants: [{id: a, [x]: 1, [x]: 2}]", "unhashable"),
        ("tenants: []\n---\ntenants: []", "expected"),
        ("tenants:\n- id: a\n  id: b\n", "line 3, column 3: duplicate key 'id'"),
        ("tenants:\n- {id: a, id: a}\n", "line 2, column 11: duplicate key 'id'"),
        ("tenants:\n- id: *gone\n", "alias"),
        ("tenants:\n- id: &x a\n- id: &x b\n", "anchor"),
        ("tenants: &all\n- *all\n", "tenants[0]"),
        (
            "x: &d {unit: images, window: day, limit: 1}\ntenants: [{id: a, budgets: [*d]}]",
            "x: is not a known field",
        ),
        ("tenants: !!set {a}", "tenants"),
        ("tenants:\n  # none\n", "tenants: must be a list"),
    ],
)
def test_whatever_a_file_says_it_is_refused_in_words(text: str, fault: str) -> None:
    with pytest.raises(ConfigurationError) as caught:
        reader().read(text)
    assert fault in " ".join(caught.value.faults)


@pytest.mark.parametrize(
    "text",
    [
        "tenants:\n- id: a\n  time_zone: >-\n    UTC\n- id: b\n",
        'tenants:\n- id: a\n  time_zone: "UT\\\n  C"\n- id: b\n',
        "tenants:\n  - id: a\n    models:\n    - nano-banana-2\n  - id: b\n",
        "tenants:\n- id: a\n\n  budgets: [\n  {unit: images,\n  window: day, limit: 1}]\n-  id: b\n",
        "tenants:\n- {id: a, budgets: &b [{unit: images, window: day, limit: 1}]}\n- {id: b, budgets: *b}\n",
        "tenants:\n-\n  id: a\n- id: b\n",
        "tenants:\r\n- id: a\r\n- id: b\r\n",
        "\ufefftenants:\n- id: a\n- id: b\n",
        "tenants:\n- id: a # &x\n- id: b # *x\n",
        "tenants:\n- id: a\n- ! {id: b}\n",
        "---\ntenants:\n- id: a\n- id: b\n...\n",
        "? tenants\n: - id: a\n  - id: b\n",
        "tenants:\n- <<: {id: a}\n- id: b\n",
        "tenants: [id: a, id: b]\n",
    ],
)
def test_the_same_is_read_in_every_spelling(text: str) -> None:
    assert [tenant.id for tenant in reader().read(text)] == ["a", "b"]
    assert reader().read(text) == as_one_document(text)


def as_one_document(text: str) -> tuple[Tenant, ...] | None:
    """What a text says when it is parsed and judged as a whole; None where it is refused."""
    try:
        found = yaml_text.load(text)
        entries = TenantsFile.model_validate(found, context={"catalogue": CATALOGUE}).tenants
    except (yaml_text.InvalidYaml, ValidationError):
        return None
    tenants = tuple(each.build_tenant() for each in entries)
    names = [tenant.id for tenant in tenants] + [key.id for tenant in tenants for key in tenant.keys]
    return tenants if len(set(names)) == len(names) else None


snippets = st.sampled_from(
    ["\n", " ", "  ", "- ", ":", ": ", "#", " #", '"', "'", "[", "]", "{", "}", "|", ">-\n", "&a ", "*a", ",",
     "\t", "---\n", "? ", "!!str ", "id: x", "- id: y\n", "  - id: z\n", "<<: ", "%", "\\", "\u2028", "0",
     "\r\n"]
)  # fmt: skip


@given(
    form=st.sampled_from(FORMS),
    count=st.integers(0, 4),
    changes=st.lists(st.tuples(st.floats(0, 1), st.integers(0, 3), snippets), max_size=3),
)
def test_entry_by_entry_is_the_same_as_the_whole(
    form: Callable[[list[dict[str, Any]]], str], count: int, changes: list[tuple[float, int, str]]
) -> None:
    text = form([entry(number) for number in range(count)])
    for where, gone, come in changes:
        at = int(where * len(text))
        text = text[:at] + come + text[at + gone :]
    found: tuple[Tenant, ...] | None = None
    with suppress(ConfigurationError):
        found = reader().read(text)
    assert found == as_one_document(text)


def test_a_key_may_be_called_as_its_tenant_is() -> None:
    text = f"tenants: [{{id: a, keys: [{{id: a, hash: '{HASH}', scopes: [images]}}]}}]"
    assert len(reader().read(text)) == 1
