"""Which keys there are, which of them may vanish, and how many commands a request costs."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from app.domain.attempt import Attempt
from app.domain.budget import WINDOWS, Budget
from app.domain.failure import Failure
from app.domain.fingerprint import compute_digest
from app.domain.generation import Picture
from app.domain.operation import OperationResult
from app.domain.report import Attribution
from app.generation.ports import AdmissionRequest, Answered, Claim, Hit, Lead, Refused, Settlement
from app.ledger import scripting
from app.ledger.operations import RedisOperations
from app.ledger.scripting import NAMES, Scripts, load_script
from app.results.redis import RedisResults
from app.store import keys
from tests.store.books import DAY, ONE, Books, generation, windows
from tests.store.test_finished import KEPT as FINISHED

if TYPE_CHECKING:
    from collections.abc import Awaitable

    from app.store.client import StoreClients


def picture(data: bytes) -> Picture:
    return Picture(f"img_{compute_digest(data)}", "image/png", 1, 1, data)


async def commands(clients: StoreClients, work: Awaitable[object]) -> tuple[list[str], list[str]]:
    """What the server was sent while the work ran, and what scripts called inside, by MONITOR."""
    sent: list[str] = []
    inside: list[str] = []
    async with clients.ledger.monitor() as monitor:
        await work
        await clients.ledger.echo("the end")
        while (command := await monitor.next_command())["command"] != "ECHO the end":
            found = inside if command["client_type"] == "lua" else sent
            found.append(command["command"].split()[0].upper())
    return sent, inside


async def test_ledger_keys_never_have_a_ttl_and_all_others_always_have_one(
    books: Books, clients: StoreClients
) -> None:
    await books.admit("a", "one")
    await books.dispatch("a")
    await books.publish("a")
    await books.admit("b", "two")
    await books.settle("b", outcome="void", failure=None)
    await books.admit("c", "three")
    await books.admit("d", "four")
    await books.expire("d")
    await books.totals()
    await RedisResults(clients.blobs).put_pictures(books.tenant, (picture(b"x"),), 60)
    await RedisResults(clients.blobs).put_generation(books.tenant, FINISHED, 60)
    operations = RedisOperations(clients.ledger, lease_s=60)
    for number, state in enumerate(("waiting", "running", "done", "cancelled")):
        operation_id = f"op_{number:024x}"
        await operations.begin(books.tenant, operation_id, "me", "work")
        if state == "running":
            await operations.step(books.tenant, operation_id, "me", "running")
        if state == "done":
            await operations.finish(
                books.tenant, operation_id, "me", "done", "{}", OperationResult("gen_1", None)
            )
        if state == "cancelled":
            await operations.cancel(books.tenant, operation_id)
    said = Failure("model_refused", "No.", final=True, verbatim="words")
    claim = Claim("d" * 64, "me", 86_400)
    await books.ledger.admit(replace(books.request("e", "five"), claim=claim))
    answered = Answered(claim, "failed", said)
    await books.ledger.settle(
        Settlement(books.tenant, "e", "five", "settle", ONE, failure=said, answered=answered), books.windows
    )
    attempt = Attempt("origin", "g", repeats=False, keep_s=60)
    await books.ledger.admit(replace(books.request("g", "six", mode="bypass"), attempt=attempt))
    await books.ledger.admit(replace(books.request("u", "seven"), windows=windows(DAY, owner="u:ann")))
    ledger = {f"fg:{{{books.tenant}}}:{name}" for name in keys.LEDGER_NAMES}
    seen = set()
    async for name in clients.ledger.scan_iter(f"fg:{{{books.tenant}}}:*"):
        lives = await clients.ledger.pttl(name)
        assert (lives == -1) == (name in ledger), name
        seen.add(name)
    assert seen >= {name for name in ledger if not name.endswith(":log")}, "that was of earlier versions"
    assert {name.split(":")[2] for name in seen - ledger} == {"gen", "fail", "img", "made", "op", "index"}


async def test_all_keys_of_a_tenant_lie_in_one_slot(books: Books, clients: StoreClients) -> None:
    await books.admit("a", "work")
    await books.publish("a")
    names = [name async for name in clients.ledger.scan_iter(f"*{books.tenant}*")]
    assert len(names) == 5, "the open hold is over, so there is no exp"
    assert all(re.fullmatch(rf"fg:\{{{books.tenant}\}}:.*", name) for name in names)


@pytest.mark.parametrize("name", NAMES)
def test_no_script_names_a_key_that_was_not_declared(name: Any) -> None:
    """A cluster refuses others; here every redis.call is seen to take one of those from KEYS."""
    text = load_script(name).text
    commands = re.findall(r"redis\.call\('(\w+)'(?:,\s*([\w]+))?", text)
    assert commands
    taken = re.findall(r"local ([A-Z, ]+) = (?:unpack\()?KEYS\b", text)
    declared = {key for names in taken for key in names.split(", ")}
    assert {key for command, key in commands if command not in {"TIME", "PUBLISH"}} <= declared


@pytest.mark.parametrize("tenant_id", ["", "A", "a}b", "a{b", "a:b", "a b", "ä", "a" * 64, "-a", "a\n"])
def test_a_tenant_id_that_would_leave_its_slot_is_refused(tenant_id: str) -> None:
    with pytest.raises(ValueError, match="tenant id"):
        keys.ledger_keys(tenant_id)


async def test_a_refusal_costs_one_command(books: Books, clients: StoreClients) -> None:
    await books.ledger.notifications.listening.wait()

    async def refused() -> None:
        assert isinstance(await books.limited(1).admit("a"), Refused)

    sent, _inside = await commands(clients, refused())
    assert sent == ["EVALSHA"]


async def test_a_hit_costs_one_command_and_one_for_its_picture(books: Books, clients: StoreClients) -> None:
    results = RedisResults(clients.blobs)
    await results.put_pictures(books.tenant, (picture(b"x"),), 60)
    await books.admit("a", "work")
    await books.publish("a")

    async def hit() -> None:
        assert isinstance(await books.admit("b", "work"), Hit)
        assert await results.get_picture(books.tenant, picture(b"x").id) is not None

    sent, inside = await commands(clients, hit())
    assert sent == ["EVALSHA", "GET"]
    assert inside == ["TIME", "HGET", "GET", "HMGET", "HMGET"], "and nothing is written"


async def test_a_miss_costs_four_commands(books: Books, clients: StoreClients) -> None:
    results = RedisResults(clients.blobs)
    await results.get_picture(books.tenant, picture(b"x").id)

    async def miss() -> None:
        assert isinstance(await books.admit("a", "work"), Lead)
        assert await books.dispatch("a")
        assert await results.put_pictures(books.tenant, (picture(b"x"),), 60)
        assert (await books.settle("a", publish=generation("a"))).published

    sent, _inside = await commands(clients, miss())
    assert sent == ["EVALSHA", "EVALSHA", "SET", "EVALSHA"]


def wide(books: Books, hold: str) -> AdmissionRequest:
    """Counted in four windows each of a tenant, a project and a key."""
    budgets = tuple(Budget("image_tokens", window, 10**12) for window in WINDOWS[1:5])
    found = tuple(each for owner in ("t", "p:web", "k:k1") for each in windows(*budgets, owner=owner))
    return replace(books.request(hold), windows=found)


async def test_an_admission_in_twelve_windows_of_three_scopes_is_one_command(
    books: Books, clients: StoreClients
) -> None:
    async def admitted(request: AdmissionRequest) -> None:
        admission = await books.ledger.admit(request)
        assert isinstance(admission, Lead)
        assert len(admission.windows) == len(request.windows)

    await books.admit("first")
    _sent, one = await commands(clients, admitted(books.request("one")))
    sent, twelve = await commands(clients, admitted(wide(books, "twelve")))
    assert sent == ["EVALSHA"]
    assert Counter(twelve) - Counter(one) == {"HINCRBY": 11}, "one more for each window"


async def test_what_is_reported_costs_the_same_whatever_the_reports_hold(
    books: Books, clients: StoreClients
) -> None:
    labels = (("team", "web"), ("stage", "test"))
    web = Attribution("k1", "flash", "1K", labels, "usr_ann", ("image_size=1K", "seed"))

    async def spend(hold: str) -> None:
        await books.ledger.admit(replace(books.request(hold, "work"), attribution=web))
        settlement = Settlement(
            books.tenant, hold, "work", "settle", ONE, generation(hold), 60, attribution=web
        )
        await books.ledger.settle(settlement, books.windows)

    async def found(hold: str) -> None:
        assert isinstance(
            await books.ledger.admit(replace(books.request(hold, "work"), attribution=web)), Hit
        )

    await spend("first")
    sent, before = await commands(clients, found("few"))
    assert sent == ["EVALSHA"]
    assert Counter(before)["HSET"] == 2, "the rows, and when the key was last served"
    rows: Any = {f"20000|k{number}|flash|1K": "1" for number in range(5000)}
    await clients.ledger.hset(books.key("use"), mapping=rows)
    sent, after = await commands(clients, found("many"))
    assert (sent, after) == (["EVALSHA"], before)


async def test_the_work_of_an_admission_does_not_grow_with_open_holds(
    books: Books, clients: StoreClients
) -> None:
    many = books.limited(10**9)
    await many.admit("first")
    _sent, before = await commands(clients, many.admit("few"))
    for number in range(300):
        await many.admit(f"h{number}")
    _sent, after = await commands(clients, many.admit("many"))
    assert after == before


TAKEN = re.compile(
    r"take(?:_(keep|claim|attempt|windows|rates|usage|bounds|row|parts)\(\)"
    r"|(?:_\w+)?\((?:take_\w+, )?'([^']+)')"
)


@pytest.mark.parametrize("name", ["admit", "settle"])
async def test_arguments_are_given_by_the_names_and_in_the_order_of_the_script(
    books: Books, monkeypatch: pytest.MonkeyPatch, name: Any
) -> None:
    named: dict[str, list[str]] = {}
    run = Scripts.run

    async def recording(scripts: Scripts, script: Any, names: Any, arguments: Any) -> Any:
        if isinstance(arguments, Mapping):
            named[script] = list(arguments)
        return await run(scripts, script, names, arguments)

    monkeypatch.setattr(Scripts, "run", recording)
    await books.admit("a", "work")
    await books.settle("a")
    text = (Path(scripting.__file__).parent / "scripts" / f"{name}.lua").read_text()
    lines = [line for line in text.split("take_nothing_more()")[0].splitlines() if line.startswith("local ")]
    taken = [group or word for line in lines for group, word in TAKEN.findall(line)]
    assert named[name] == list(dict.fromkeys(taken))
