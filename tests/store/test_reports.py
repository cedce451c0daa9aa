"""What is reported of usage: each booking once, under its heading, and nothing without bounds."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

from app.domain.budget import Amounts, Budget
from app.domain.generation import Usage
from app.domain.report import Attribution, Row, Spent, UsagePart, report, select_dearest, sum_rows
from app.generation.ports import Hit, Settlement
from app.ledger.policy import LedgerConfig
from app.ledger.redis import RedisLedger
from app.ledger.reports import RedisReports
from app.ledger.restoring import Restorer
from app.ledger.verifying import read_snapshot
from tests.store.books import ONE, Books, generation

if TYPE_CHECKING:
    from app.store.client import StoreClients

ALWAYS = (
    Budget("image_tokens", "lifetime", 10**9),
    Budget("usd", "lifetime", 10**15),
    Budget("all_output_tokens", "lifetime", 10**9),
)
CELLS = [("flash", "1K"), ("flash", "2K")]
WEB = Attribution("k1", "flash", "1K", (("team", "web"),))
USAGE = Usage(text_input=11, image_input=1120, image_output=1120, text_output=90, thinking=40, tool_use=7)


def today() -> Any:
    return datetime.now(UTC).date()


async def rows_of(books: Books) -> tuple[Row, ...]:
    return await RedisReports(books.client, CELLS).read_tenant(books.tenant, today(), today())


async def settle(books: Books, hold: str, attribution: Attribution | None = WEB, **more: Any) -> None:
    settlement = Settlement(
        books.tenant,
        hold,
        books.fingerprints[hold],
        "settle",
        ONE,
        usage=USAGE,
        attribution=attribution,
        **more,
    )
    await books.ledger.settle(settlement, books.windows)


async def found_by(books: Books, hold: str, work: str, attribution: Attribution) -> None:
    request = replace(books.request(hold, work), attribution=attribution)
    assert isinstance(await books.ledger.admit(request), Hit)


def by(rows: tuple[Row, ...], *dimensions: Any) -> dict[tuple[str | None, ...], Spent]:
    return dict(report(rows, dimensions))


async def test_a_settlement_is_reported_once_under_its_key_model_size_and_labels(books: Books) -> None:
    await books.admit("a")
    for _ in range(3):
        await settle(books, "a")
    spent = Spent(1, *ONE[:4], text_input=18, image_input=1120, text_output=90, thinking=40)
    rows = await rows_of(books)
    assert by(rows, "key", "model", "size") == {("k1", "flash", "1K"): spent}
    assert by(rows, "label", "day") == {("team=web", today().isoformat()): spent}
    read_key = RedisReports(books.client, CELLS).read_key
    assert sum_rows(await read_key(books.tenant, "k1", today(), today())) == spent
    assert await read_key(books.tenant, "k2", today(), today()) == ()


async def test_what_other_tiers_billed_is_reported_apart_and_counted_once(books: Books) -> None:
    flex = Spent(0, 100, 300, 1, 7, 10, 0, 50, 5, cached_input=4, search_queries=2)
    whole = Spent(1, *ONE[:4], text_input=18, text_output=90, cached_input=6, search_queries=3)
    for hold in ("a", "b"):
        await books.admit(hold)
    await settle(books, "a", spent=whole, parts=(UsagePart("flex", flex),))
    await settle(books, "b", spent=whole)
    rows = await rows_of(books)
    assert by(rows, "tier")["flex",] == flex
    assert by(rows, "tier")["standard",] == whole.add(whole).subtract(flex)
    assert by(rows, "key") == {("k1",): whole.add(whole)}
    assert by(rows, "label") == {("team=web",): whole.add(whole)}
    read_key = RedisReports(books.client, CELLS).read_key
    assert sum_rows(await read_key(books.tenant, "k1", today(), today())) == whole.add(whole)


async def test_what_the_cache_serves_is_reported_as_saved_at_what_it_had_cost(books: Books) -> None:
    await books.admit("a", "work")
    await settle(books, "a", publish=generation("a"), ttl_s=60)
    for number in range(3):
        await found_by(books, f"b{number}", "work", replace(WEB, key_id="k2"))
    saved = Spent(0, 0, 0, 0, 0, 0, 0, 0, 0, 3, *(3 * amount for amount in ONE[:4]))
    assert by(await rows_of(books), "key")["k2",] == saved
    assert await books.totals() == [(1120, 0)], "and nothing is booked"


async def test_looking_is_no_hit(books: Books) -> None:
    await books.admit("a", "work")
    await settle(books, "a", publish=generation("a"), ttl_s=60)
    before = await rows_of(books)
    assert isinstance(await books.ledger.peek(replace(books.request("b", "work"), attribution=WEB)), Hit)
    assert await rows_of(books) == before


async def test_reports_add_up_to_the_budgets_whatever_became_of_the_holds(books: Books) -> None:
    """Charged by a sweep or by its owner, corrected to more or to nothing, and put back after a loss."""
    own = replace(books, budgets=ALWAYS)

    async def agree() -> None:
        booked = await own.totals()
        spent = sum_rows([row for row in await rows_of(own) if row.kind == "all"])
        assert [(spent.image_tokens, 0), (spent.usd, 0), (spent.output_tokens, 0)] == booked

    for hold in ("settled", "voided", "swept", "corrected", "taken-back", "charged", "made-good"):
        await own.admit(hold)
        await own.dispatch(hold)
    await settle(own, "settled")
    await own.settle("voided", outcome="void")
    await own.expire("swept", "corrected", "taken-back")
    await own.settle("charged", outcome="charge")
    await own.settle("made-good", outcome="charge")
    await agree()
    await settle(own, "corrected")
    await own.settle("taken-back", outcome="void")
    await own.settle("made-good", Amounts(5000, 6000, 2, 7, 5500))
    await agree()
    spent = by(await rows_of(own), "key")
    assert (spent["k1",].requests, spent[None,].requests) == (2, 3)
    holds = (await read_snapshot(own.client, own.tenant)).holds
    await own.client.delete(*[own.key(name) for name in ("res", "win", "exp", "gc", "log", "use")])
    ledger = RedisLedger(own.client, LedgerConfig())
    restorer = Restorer(own.client, ledger.scripts, LedgerConfig())
    for _ in range(2):
        await restorer.rebuild(own.tenant, holds, "epoch", 0)
    await agree()
    spent_in_all = sum_rows(await rows_of(own))
    assert spent_in_all.image_tokens == 4 * 1120 + 5000
    assert spent_in_all.output_tokens == 4 * 1250 + 5500


async def test_labels_beyond_the_days_limit_are_added_up_together(clients: StoreClients, tenant: str) -> None:
    async with RedisLedger(clients.ledger, LedgerConfig(usage_labels_max=3)) as ledger:
        books = Books(ledger, clients.ledger, tenant, ALWAYS)
        for number in range(10):
            await books.admit(f"h{number}")
            labels = (("n", str(number)), ("all", 'x;=|\n"ä'))
            await settle(books, f"h{number}", replace(WEB, labels=labels))
        rows = by(await rows_of(books), "label")
    assert {label[0]: spent.requests for label, spent in rows.items()} == {
        "n=0": 1, 'all=x;=|\n"ä': 10, "n=1": 1, None: 8,
    }  # fmt: skip
    assert await books.client.hlen(books.key("use")) == 1 + 4 + 1 + 1, (
        "the key, the labels, their number, last use"
    )


async def test_users_are_reported_one_by_one_up_to_the_days_limit(clients: StoreClients, tenant: str) -> None:
    async with RedisLedger(clients.ledger, LedgerConfig(usage_users_max=2)) as ledger:
        books = Books(ledger, clients.ledger, tenant, ALWAYS)
        for number, user in enumerate(("ann", "bob", "ann", "cyd", "dan")):
            await books.admit(f"h{number}", f"work{number}")
            attribution = replace(WEB, user_id=f"usr_{user}")
            await settle(books, f"h{number}", attribution, publish=generation(f"h{number}"), ttl_s=60)
        await found_by(books, "hit", "work0", replace(WEB, user_id="usr_bob"))
        rows = await rows_of(books)
    requests = {heading: (spent.requests, spent.hits) for heading, spent in by(rows, "user").items()}
    assert requests == {("usr_ann",): (2, 0), ("usr_bob",): (1, 1), (None,): (2, 0)}
    assert by(rows, "key")["k1",].requests == by(rows, "label")["team=web",].requests == 5, "counted once"
    (dearest,) = select_dearest(report(rows, ("user",)), 1)
    assert dearest.spent.usd == 2 * ONE.usd
    read_user = RedisReports(books.client, CELLS).read_user
    assert sum_rows(await read_user(books.tenant, "usr_ann", today(), today())).requests == 2
    assert await read_user(books.tenant, "usr_cyd", today(), today()) == ()


async def test_parameters_are_reported_one_by_one_and_as_they_were_combined(
    clients: StoreClients, tenant: str
) -> None:
    plain, grounded = ("image_size=1K",), ("image_size=1K", "grounding=web_search", "seed")
    async with RedisLedger(clients.ledger, LedgerConfig(usage_parameters_max=2)) as ledger:
        books = Books(ledger, clients.ledger, tenant, ALWAYS)
        kinds = (plain, grounded, plain, ("image_size=2K", "seed"), ("image_size=4K",))
        for number, parameters in enumerate(kinds):
            await books.admit(f"h{number}", f"work{number}")
            attribution = replace(WEB, parameters=parameters)
            await settle(books, f"h{number}", attribution, publish=generation(f"h{number}"), ttl_s=60)
        await found_by(books, "hit", "work0", replace(WEB, parameters=plain))
        rows = await rows_of(books)
    requests = {heading: (spent.requests, spent.hits) for heading, spent in by(rows, "parameter").items()}
    assert requests == {
        ("image_size=1K",): (3, 1), ("grounding=web_search",): (1, 0), ("seed",): (1, 0), (None,): (2, 0),
    }  # fmt: skip
    combined = by(rows, "model", "parameters")
    assert combined["flash", ";".join(grounded)].image_tokens == ONE.image_tokens
    assert combined[None, None].requests == 2, "what is beyond the day's limit is added up"
    assert by(rows, "key")["k1",].requests == by(rows, "label")["team=web",].requests == 5, "counted once"


async def test_the_longest_labels_that_there_are_do_not_keep_a_settlement_from_being_booked(
    books: Books,
) -> None:
    longest = tuple(
        (f"{number}" + "\U0001f5fc" * 62, '"' * 63 if number % 2 else "\U0001f5fc" * 63)
        for number in range(8)
    )
    await books.admit("a")
    await settle(books, "a", replace(WEB, labels=longest))
    assert await books.totals() == [(1120, 0)]
    assert by(await rows_of(books), "label").keys() == {("=".join(label),) for label in longest}


async def test_days_are_forgotten_when_their_time_is_over(books: Books) -> None:
    await books.admit("a")
    await settle(books, "a")
    gc = await books.client.zrange(books.key("gc"), 0, -1, withscores=True)
    rows = {name: due for name, due in gc if name.startswith("u;")}
    assert {name[2:] for name in rows} == set(await books.client.hkeys(books.key("use")))
    day = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0).timestamp() * 1000
    assert rows[f"u;{(today() - date(1970, 1, 1)).days}|k1|flash|1K"] == day + (1 + 92) * 86_400_000
    await books.client.zadd(books.key("gc"), dict.fromkeys(rows, 1))
    await books.admit("b")
    assert await books.client.exists(books.key("use")) == 0


async def test_a_keys_last_use_is_known(books: Books) -> None:
    await books.admit("a", "work")
    reports = RedisReports(books.client, CELLS)
    assert await reports.read_last_used(books.tenant, ("k1", "k2")) == {}
    await settle(books, "a", publish=generation("a"), ttl_s=60)
    first = (await reports.read_last_used(books.tenant, ("k1", "k2")))["k1"]
    await found_by(books, "b", "work", replace(WEB, key_id="k2"))
    seen = await reports.read_last_used(books.tenant, ("k1", "k2"))
    assert seen["k1"] == first <= seen["k2"]


async def test_a_row_of_a_tier_takes_at_most_three_hundred_and_fifty_bytes(books: Books) -> None:
    """The rows of a day are bounded by keys, models, sizes and tiers, whatever is asked how often."""
    part = Spent(0, 10**9, 10**10, 10**6, 10**14, 10**9, 10**9, 10**9, 10**9, 0, 0, 0, 0, 0, 10**9, 10**6)
    keys, own = 200, replace(books, budgets=ALWAYS)
    for number in range(keys):
        await own.admit(f"h{number}")
        web = replace(WEB, key_id=f"k{number:011}", model="gemini-3.1-flash-image", labels=())
        parts = (UsagePart("flex", part), UsagePart("estimated", part))
        await settle(own, f"h{number}", web, spent=part._replace(requests=9**9), parts=parts)
    names = (books.key("use"), books.key("gc"))
    used = [await books.client.memory_usage(name, samples=0) for name in names]
    assert await books.client.hlen(books.key("use")) == keys * 4, (
        "three rows, and when the key was last served"
    )
    assert sum(used) / (keys * 4) <= 350
