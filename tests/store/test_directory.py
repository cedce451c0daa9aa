"""The directory: who is let in, what a tenants' file may say, and the demo's first start."""

from __future__ import annotations

import secrets
import stat
import subprocess
import sys
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest

from app.cards import load_catalogue
from app.domain.budget import NANO_PER_USD, Budget, Override
from app.domain.errors import ConfigurationError
from app.domain.keys import ENTROPY_BYTES, MintedKey, hash_secret, mint
from app.domain.rate import Rate
from app.domain.tenancy import CachePolicy, Caller, Identity, Project, list_budget_windows
from app.tenants import directory as directory_module
from app.tenants.directory import FileDirectory, MemoryDirectory, load_pepper, open_demo_directory
from app.tenants.file import read_tenants

PEPPER = b"a pepper of the tests"
CATALOGUE = load_catalogue()
HASH = "hmac-sha256:" + "a" * 64

AS_PRINTED = """
tenants:
  - id: search
    time_zone: Europe/Berlin
    models: [gemini-3.1-flash-image]
    max_image_size: 4K
    preview: [4K, video]
    budgets:
      - {unit: image_tokens, window: day, limit: 41440}
      - {unit: usd, window: month, limit: 500, mode: shadow}
    rate: {requests_per_minute: 600, concurrent: 50}
    cache: {mode: use, ttl_s: 86400}
    keys:
      - {id: k1, hash: "HASH", scopes: [images]}
""".replace("HASH", HASH)

SAMPLE = """
tenants:
  - id: search
    time_zone: Europe/Berlin
    models: [nano-banana-2]
    max_image_size: 2k
    preview: [video]
    budgets:
      - {unit: image_tokens, window: day, limit: 41440}
      - {unit: usd, window: month, limit: 500.10, mode: shadow}
    cache: {mode: refresh, ttl_s: 60}
    keys:
      - {id: k1, hash: "HASH", scopes: [images], budgets: [{unit: images, window: day, limit: 7}]}
  - id: plain
    keys:
      - {id: k2, hash: "HASH", scopes: [images, admin]}
      - {id: k3, hash: "HASH", scopes: [images], models: [nano-banana-2], max_image_size: 512px, preview: []}
""".replace("HASH", HASH)


def minted(key_id: str | None = None) -> MintedKey:
    return mint("test", secrets.token_bytes(ENTROPY_BYTES), key_id)


def hashed(key: MintedKey) -> str:
    return f"hmac-sha256:{hash_secret(PEPPER, key.secret)}"


def faults_of(text: str) -> tuple[str, ...]:
    with pytest.raises(ConfigurationError) as caught:
        read_tenants("tenants.yaml", text, CATALOGUE)
    assert caught.value.source == "tenants.yaml"
    return caught.value.faults


def budget_faults(budget: str) -> tuple[str, ...]:
    return faults_of(f"tenants: [{{id: a, budgets: [{budget}]}}]")


def test_a_file_becomes_tenants() -> None:
    search, plain = read_tenants("tenants.yaml", SAMPLE, CATALOGUE)
    assert search.time_zone == ZoneInfo("Europe/Berlin")
    assert search.models == {"gemini-3.1-flash-image"}  # an alias in the file, the card's id in the domain
    assert search.max_image_size == "2K"
    assert search.preview == frozenset({"video"})
    assert search.cache == CachePolicy("refresh", 60)
    assert search.budgets == (
        Budget("image_tokens", "day", 41_440),
        Budget("usd", "month", 500_100_000_000, mode="shadow"),
    )
    assert search.keys[0].budgets == (Budget("images", "day", 7, scope="key"),)
    assert plain.time_zone == ZoneInfo("UTC")
    assert (plain.models, plain.max_image_size, plain.budgets) == (frozenset(), None, ())
    assert plain.preview is None
    assert plain.cache == CachePolicy("use", 86_400)
    assert plain.keys[0].scopes == {"images", "admin"}
    assert plain.keys[0].preview is None
    narrow = plain.keys[1]
    assert narrow.models == {"gemini-3.1-flash-image"}
    assert narrow.max_image_size == "512"
    assert narrow.preview == frozenset()


def test_the_documented_sample_is_taken_as_it_is_printed() -> None:
    (search,) = read_tenants("tenants.yaml", AS_PRINTED, CATALOGUE)
    assert search.rate == Rate(600, None, 50)
    assert [budget.window for budget in search.budgets] == ["day", "month"]


def test_projects_rates_overrides_and_prepaid_budgets_can_be_given() -> None:
    text = """
tenants:
  - id: a
    strict: true
    projects: [{id: web, budgets: [{unit: usd, window: week, limit: 9}]}]
    budgets:
      - {unit: usd, window: lifetime, limit: 0}
      - {unit: images, window: hour, limit: 5, override: {limit: 7, until: "2026-12-01T00:00:00+01:00"}}
    keys: [{id: k1, hash: "HASH", scopes: [images], project: web, rate: {requests_per_minute: 6, burst: 2}}]
""".replace("HASH", HASH)
    (tenant,) = read_tenants("f", text, CATALOGUE)
    assert tenant.strict
    assert tenant.budgets == (
        Budget("usd", "lifetime", 0),
        Budget("images", "hour", 5, override=Override(7, 1_796_079_600_000)),
    )
    caller = Caller(tenant, tenant.keys[0])
    assert caller.project == Project("web", (Budget("usd", "week", 9 * NANO_PER_USD, scope="project"),))
    assert caller.key.rate == Rate(6, 2, None)
    fields = [window.field for window in list_budget_windows(caller, 1_796_000_000_000)]
    assert fields == ["t|usd|lifetime", "t|images|hour", "p:web|usd|week"]


@pytest.mark.parametrize(
    ("written", "billionths"),
    [
        ("0", 0),
        ("0.1", NANO_PER_USD // 10),
        ("0.000000001", 1),
        ("1.5e1", 15 * NANO_PER_USD),
        ("9007199.254740991", 2**53 - 1),  # a double would keep this one too, the next it would not
        ("4503599.627370497", 2**52 + 1),
        ("'2.50'", 2_500_000_000),
    ],
)
def test_dollars_become_billionths_exactly(written: str, billionths: int) -> None:
    text = f"tenants: [{{id: a, budgets: [{{unit: usd, window: day, limit: {written}}}]}}]"
    assert read_tenants("f", text, CATALOGUE)[0].budgets[0].limit == billionths


@pytest.mark.parametrize(
    ("budget", "fault"),
    [
        (
            "{unit: tokens, window: day, limit: 1}",
            "unit: must be image_tokens, total_tokens, images, usd or all_output_tokens",
        ),
        (
            "{unit: output_tokens, window: day, limit: 1}",
            "unit: output_tokens is no unit; image_tokens counts the tokens of pictures by the model card,",
        ),
        ("{unit: [usd], window: day, limit: 1}", "unit: must be image_tokens, total_tokens"),
        ("{unit: usd, window: weekly, limit: 1}", "window: must be one of minute, hour, day, week, month"),
        ("{unit: usd, window: [day], limit: 1}", "window: must be one of minute, hour, day, week"),
        ("{unit: usd, window: day, limit: -1}", "limit: must be 0 or more"),
        ("{unit: usd, window: day, limit: true}", "limit: a number is required"),
        ("{unit: usd, window: day, limit: .inf}", "'.inf' is not a decimal number"),
        ("{unit: usd, window: day, limit: .nan}", "'.nan' is not a decimal number"),
        ("{unit: usd, window: day, limit: much}", "limit: must be a number"),
        ("{unit: usd, window: day, limit: 0.0000000001}", "a multiple of a billionth of a dollar"),
        ("{unit: images, window: day, limit: 0.5}", "a multiple of one"),
        ("{unit: usd, window: day, limit: 9007199.254740992}", "must not exceed 9007199254740991"),
        ("{unit: images, window: day, limit: 9007199254740992}", "must not exceed 9007199254740991"),
        ("{unit: usd, window: day}", "limit: is required"),
        ("{unit: usd, window: day, limit: 1, mode: off}", "mode: must be enforce or shadow"),
        ("{unit: usd, window: day, limit: 1, scope: project}", "budgets: the scope of a budget that stands"),
        ("{unit: usd, window: day, limit: 1, scope: key}", "is tenant or user, not key"),
        (
            "{unit: usd, window: day, limit: 1}, {unit: usd, window: day, limit: 2, mode: shadow}",
            "two budgets of usd for the day",
        ),
    ],
)
def test_a_budget_that_cannot_be_kept_is_refused(budget: str, fault: str) -> None:
    (found,) = budget_faults(budget)
    assert fault in found


@pytest.mark.parametrize(
    ("tenant", "fault"),
    [
        ("id: Search", "tenants[0].id: a tenant id has"),
        ("id: -a", "tenants[0].id: a tenant id has"),
        ("id: 'a\n'", "tenants[0].id: a tenant id has"),
        ("{id: a, time_zone: Mars/Olympus}", "tenants[0].time_zone: 'Mars/Olympus' is not an IANA time zone"),
        ("{id: a, time_zone: ../etc/passwd}", "is not an IANA time zone"),
        ("{id: a, models: [dall-e]}", "tenants[0].models: unknown models: dall-e; known are gemini-3"),
        ("{id: a, max_image_size: 9K}", "tenants[0].max_image_size: no model supports the size '9K'"),
        ("{id: a, preview: [5K]}", "tenants[0].preview: 5K: the preview features are 4K, video"),
        ("{id: a, rate: {burst: 6}}", "tenants[0].rate: requests_per_minute is required"),
        ("{id: a, rate: {}}", "tenants[0].rate: requests_per_minute is required"),
        ("{id: a, rate: {concurrent: 0}}", "tenants[0].rate.concurrent: "),
        ("{id: a, rate: {concurrent: true}}", "tenants[0].rate.concurrent: a number is required"),
        ("{id: a, projects: [{id: p}, {id: p}]}", "tenants[0]: duplicate projects: p"),
        ("{id: a, projects: [{id: P}]}", "tenants[0].projects[0].id: a project id has"),
        (
            "{id: a, keys: [{id: k1, hash: HASH, scopes: [images], project: p}]}",
            "a key names unknown projects: p",
        ),
        (
            "{id: a, keys: [{id: k1, hash: HASH, scopes: [images], models: [x]}]}",
            "keys[0].models: unknown models",
        ),
        (
            """{id: a, models: [nano-banana-2.1], keys: [
              {id: k1, hash: HASH, scopes: [images], models: [nano-banana-2]}
            ]}""",
            "tenants[0]: the key k1 allows models that its tenant does not: gemini-3.1-flash-image",
        ),
        (
            "{id: a, budgets: [{unit: usd, window: day, limit: 1, override: {limit: 1, until: now}}]}",
            "tenants[0].budgets[0].override.until: ",
        ),
        ("{id: a, cache: {mode: only_if_cached}}", "tenants[0].cache.mode: must be use, refresh or bypass"),
        ("{id: a, cache: {ttl_s: 0}}", "tenants[0].cache.ttl_s: "),
        ("{id: a, colour: red}", "tenants[0].colour: is not a known field"),
        ("{id: a, keys: [{id: k-1, hash: HASH, scopes: [images]}]}", "keys[0].id: a key id is"),
        ("{id: a, keys: [{id: k1, hash: abc, scopes: [images]}]}", "keys[0].hash: a hash is"),
        ("{id: a, keys: [{id: k1, hash: HASH, scopes: []}]}", "keys[0].scopes: "),
        (
            "{id: a, keys: [{id: k1, hash: HASH, scopes: [all]}]}",
            "all: the scopes of a key are admin, images",
        ),
        (
            "{id: a, keys: [{id: k1, hash: HASH, scopes: [images], hats: 1}]}",
            "keys[0].hats: is not a known field",
        ),
    ],
)
def test_every_other_fault_is_named_with_its_path(tenant: str, fault: str) -> None:
    (found,) = faults_of(f"tenants: [{tenant}]".replace("HASH", HASH))
    assert fault in found


def test_ids_are_unique_and_key_ids_over_all_tenants() -> None:
    key = f"{{id: k1, hash: {HASH}, scopes: [images]}}"
    found = faults_of(f"tenants: [{{id: a, keys: [{key}]}}, {{id: b, keys: [{key}]}}, {{id: a}}]")
    assert found == (
        "tenants[1].keys[0].id: the key id 'k1' is taken by tenants[0].keys[0]",
        "tenants[2].id: the tenant id 'a' is taken by tenants[0]",
    )


def test_all_faults_are_told_at_once() -> None:
    text = """
tenants:
  - id: A
    time_zone: Nowhere
    budgets: [{unit: usd, window: weekly, limit: 1}]
    keys: [{id: k1}]
  - id: b
    keys: [{id: k1, hash: x, scopes: [images]}]
"""
    assert [fault.partition(":")[0] for fault in faults_of(text)] == [
        "tenants[0].time_zone",
        "tenants[0].budgets[0].window",
        "tenants[0].id",
        "tenants[0].keys[0].scopes",
        "tenants[0].keys[0].hash",
        "tenants[1].keys[0].hash",
        "tenants[1].keys[0].id",
    ]


RETIRING = "retiring: {hash: 'hmac-sha256:" + "0" * 64 + "', not_after: 2027-01-01T00:00:00Z}"


@pytest.mark.parametrize(
    ("keys", "fault"),
    [
        (["email: a@b.example, subject: '1'"], "exactly one of hash, email and subject is required"),
        (["email: nobody"], "keys[0].email: an e-mail address is like"),
        (["subject: 'a b'"], "keys[0].subject: a subject is"),
        (["email: a@b.example", "email: A@B.example"], "keys[1].email: the e-mail address 'A@B.example' is"),
        (["subject: '1'", "subject: '1'"], "keys[1].subject: the subject '1' is taken by tenants[0].keys[0]"),
        ([f"subject: '1', {RETIRING}"], "keys[0].retiring: only a key with a hash has a previous secret"),
    ],
)
def test_an_account_is_named_one_way_and_once(keys: list[str], fault: str) -> None:
    entries = ", ".join(f"{{id: k{at}, scopes: [images], {key}}}" for at, key in enumerate(keys))
    assert fault in "\n".join(faults_of(f"tenants: [{{id: a, keys: [{entries}]}}]"))


def test_an_account_opens_its_key_and_a_hash_of_nothing_opens_none() -> None:
    text = "tenants: [{id: a, keys: [{id: k, email: A@b.example, scopes: [images]}]}]"
    directory = MemoryDirectory(read_tenants("f", text, CATALOGUE), PEPPER)
    opened = directory.find_by_identity((Identity("subject", "1"), Identity("email", "a@b.example")))
    assert opened is not None
    assert opened.key.id == "k"
    assert directory.find_by_identity((Identity("subject", "a@b.example"),)) is None
    assert directory.find_by_identity(()) is None
    assert directory.authenticate(minted("k").text) is None


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("", "the file: "),
        ("[]", "the file: "),
        ("tenants: 5", "tenants: "),
        ("tenants: [", "line 1, column 11: "),
        ("tenants: []\ntenants: []", "line 2, column 1: duplicate key 'tenants'"),
        ("tenants: !!python/object/apply:os.system [true]", "line 1, column 10: could not determine a con"),
        ("tenants: [{id: a, budgets: [{unit: usd, window: day, limit: 1:30.5}]}]", "not a decimal number"),
    ],
)
def test_a_text_that_is_no_such_file_is_refused_with_its_place(text: str, fault: str) -> None:
    (found,) = faults_of(text)
    assert fault in found


def test_a_secret_pasted_in_place_of_its_hash_is_not_repeated_in_the_fault() -> None:
    key = minted("k1")
    text = f"tenants: [{{id: a, keys: [{{id: k1, hash: {key.text}, scopes: [images]}}]}}]"
    with pytest.raises(ConfigurationError) as caught:
        read_tenants("f", text, CATALOGUE)
    assert key.secret not in str(caught.value)


def file_of(tmp_path: Path, *keys: MintedKey, pepper: bytes = PEPPER) -> FileDirectory:
    path = tmp_path / "tenants.yaml"
    path.write_text(list_ledger_tenants(*keys))
    return FileDirectory(path, pepper, CATALOGUE)


def list_ledger_tenants(*keys: MintedKey) -> str:
    return "tenants:\n" + "".join(
        f"  - {{id: t{at}, keys: [{{id: {key.key_id}, hash: '{hashed(key)}', scopes: [images]}}]}}\n"
        for at, key in enumerate(keys)
    )


def test_a_key_finds_its_tenant_and_no_other(tmp_path: Path) -> None:
    keys = [minted() for _ in range(5)]
    directory = file_of(tmp_path, *keys)
    for at, key in enumerate(keys):
        caller = directory.authenticate(key.text)
        assert caller is not None
        assert (caller.tenant.id, caller.key.id) == (f"t{at}", key.key_id)
    assert [tenant.id for tenant in directory.list_tenants()] == ["t0", "t1", "t2", "t3", "t4"]


def test_a_well_formed_key_of_somebody_else_is_refused(tmp_path: Path) -> None:
    key = minted("k1")
    directory = file_of(tmp_path, key)
    assert directory.authenticate(minted("k1").text) is None  # right id, wrong secret
    assert directory.authenticate(minted("k2").text) is None  # unknown id
    assert directory.authenticate(key.text) is not None


def test_another_pepper_makes_every_key_wrong(tmp_path: Path) -> None:
    key = minted()
    assert file_of(tmp_path, key, pepper=b"another").authenticate(key.text) is None


def test_an_unknown_id_costs_the_same_hash_as_a_wrong_secret_and_a_wrong_checksum_costs_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    hashes: list[str] = []

    def counted(pepper: bytes, secret: str) -> str:
        hashes.append(secret)
        return hash_secret(pepper, secret)

    directory = file_of(tmp_path, minted("k1"))
    monkeypatch.setattr(directory_module, "hash_secret", counted)
    costs = []
    for presented in (minted("k1").text, minted("k2").text, minted("k1").text[:-1], "nonsense", ""):
        hashes.clear()
        assert directory.authenticate(presented) is None
        costs.append(len(hashes))
    assert costs == [1, 1, 0, 0, 0]


async def test_a_reload_takes_keys_away_and_lets_new_ones_in(tmp_path: Path) -> None:
    old, new = minted(), minted()
    directory = file_of(tmp_path, old)
    (tmp_path / "tenants.yaml").write_text(list_ledger_tenants(new))
    assert directory.authenticate(new.text) is None
    await directory.reload()
    assert directory.authenticate(old.text) is None
    assert directory.authenticate(new.text) is not None


@pytest.mark.parametrize("contents", ["tenants: [", "tenants: [{id: A}]", None])
async def test_a_bad_file_at_a_reload_is_told_and_changes_nothing(
    tmp_path: Path, contents: str | None
) -> None:
    key = minted()
    directory = file_of(tmp_path, key)
    before = directory.list_tenants()
    if contents is None:
        (tmp_path / "tenants.yaml").unlink()
    else:
        (tmp_path / "tenants.yaml").write_text(contents)
    with pytest.raises(ConfigurationError):
        await directory.reload()
    assert directory.list_tenants() is before
    assert directory.authenticate(key.text) is not None


@pytest.mark.parametrize("contents", [None, b"\xff\xfe"])
def test_a_file_that_cannot_be_read_fails_the_start(tmp_path: Path, contents: bytes | None) -> None:
    path = tmp_path / "tenants.yaml"
    if contents is not None:
        path.write_bytes(contents)
    with pytest.raises(ConfigurationError, match=r"tenants\.yaml.*\n.*cannot be read"):
        FileDirectory(path, PEPPER, CATALOGUE)


def mode_of(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_the_demo_makes_its_key_once_for_its_owner_alone(tmp_path: Path) -> None:
    state = tmp_path / "state"
    first = open_demo_directory(state)
    key = (state / "demo-key").read_text().strip()
    caller = first.authenticate(key)
    assert caller is not None
    assert caller.tenant.id == "demo"
    assert caller.tenant.budgets == (
        Budget("image_tokens", "day", 112_000),
        Budget("image_tokens", "month", 1_120_000),
    )
    assert caller.may("images")
    assert not caller.may("admin")
    assert (mode_of(state), mode_of(state / "demo-key"), mode_of(state / "pepper")) == (0o700, 0o600, 0o600)
    assert sorted(path.name for path in state.iterdir()) == ["demo-key", "pepper"]
    again = open_demo_directory(state)
    assert again.authenticate(key) == caller
    assert (state / "demo-key").read_text().strip() == key


def test_a_configured_pepper_is_used_and_none_is_kept(tmp_path: Path) -> None:
    directory = open_demo_directory(tmp_path, PEPPER)
    assert directory.authenticate((tmp_path / "demo-key").read_text().strip()) is not None
    assert not (tmp_path / "pepper").exists()


@pytest.mark.parametrize("name", ["demo-key", "pepper"])
@pytest.mark.parametrize("contents", ["", "damaged", "fg_demo_x"])
def test_a_damaged_state_file_fails_the_start_and_says_what_to_do(
    tmp_path: Path, name: str, contents: str
) -> None:
    (tmp_path / name).write_text(contents)
    with pytest.raises(ConfigurationError, match="remove it"):
        open_demo_directory(tmp_path)
    assert (tmp_path / name).read_text() == contents


def test_processes_that_start_at_once_agree_on_one_key_and_one_pepper(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path\n"
        "from app.tenants.directory import load_pepper, open_demo_directory\n"
        "print('ready', flush=True); sys.stdin.readline()\n"
        "state = Path(sys.argv[1]); directory = open_demo_directory(state)\n"
        "key = (state / 'demo-key').read_text().strip()\n"
        "assert directory.authenticate(key)\n"
        "print(key, load_pepper(state).hex(), flush=True)\n"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            cwd=Path(__file__).parents[2],
        )
        for _ in range(6)
    ]
    for process in processes:  # all have imported everything before any of them may begin
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    found = {process.communicate(timeout=30)[0] for process in processes}
    assert [process.returncode for process in processes] == [0] * 6
    assert len(found) == 1
    assert found == {f"{(tmp_path / 'demo-key').read_text().strip()} {load_pepper(tmp_path).hex()}\n"}
    assert sorted(path.name for path in tmp_path.iterdir()) == ["demo-key", "pepper"]
