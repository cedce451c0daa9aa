"""The local journal: what it survives, what it takes over, what it forgets."""

from __future__ import annotations

import errno
import json
import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.domain.budget import AMOUNT_MAX, UNITS, Amounts
from app.ledger.checkpoints import Adjustment, Checkpoint, CounterState
from app.ledger.hold_records import LETTERS, Counter, HoldRecord, UnreadableHold
from app.ledger.journal import Journal, JournalUnavailable

if TYPE_CHECKING:
    from io import FileIO

    from app.ledger.hold_records import State
    from tests.store.smalldisk import SmallDisk

whole = st.integers(0, AMOUNT_MAX)
amounts = st.builds(Amounts, *[whole] * len(UNITS))
counters = st.builds(
    lambda unit, start, lasts, field: Counter(unit, start, start + lasts, field),
    st.sampled_from(UNITS),
    whole,
    whole,
    st.sampled_from(["t|images|day", "k:k1|usd|month"]),
)
records = st.builds(
    HoldRecord,
    hold_id=st.from_regex(r"[a-z0-9]{1,24}", fullmatch=True),
    state=st.sampled_from(list(LETTERS.values())),
    flags=st.sampled_from(["", "f", "fl", "flp", "fu"]),
    began_ms=st.integers(0, 2**45),
    fingerprint=st.from_regex(r"[a-f0-9]{64}", fullmatch=True),
    est=amounts,
    act=st.none() | amounts,
    counters=st.lists(counters, max_size=3).map(tuple),
    number=st.integers(0, 2**53),
    first=st.sampled_from(["", "7~1,0,0,0~0,0,0,0"]),
)


def record(hold: str, state: State = "settled", tokens: int = 1120) -> HoldRecord:
    found = HoldRecord.decode(hold, f"s;f;1;work;{tokens},0,0,0;{tokens},0,0,0;1@0@9@t|output_tokens|day")
    return found if state == "settled" else found.end(state, found.est)


@given(records, st.integers(0, 2**45))
def test_a_hold_is_the_same_after_the_store_and_after_the_journal(held: HoldRecord, at_ms: int) -> None:
    assert HoldRecord.decode(held.hold_id, held.encode()) == held
    assert HoldRecord.from_event(held.build_event("acme", at_ms, "here")) == ("acme", held)


@pytest.mark.parametrize("text", ["", "s;f;1", "z;f;1;w;1,1,1,1;;", "credit;t|usd|lifetime;1;5"])
def test_what_is_no_hold_is_refused(text: str) -> None:
    with pytest.raises(UnreadableHold):
        HoldRecord.decode("a", text)


def test_a_torn_line_costs_itself_alone(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.note("acme", record("a"), 1)
    path = tmp_path / "settled-0.jsonl"
    path.write_bytes(path.read_bytes()[:-30])
    with Journal(tmp_path) as journal:
        journal.note("acme", record("b"), 1)
        assert list(journal.read_settled_of("acme")) == ["b"]


def checkpoint(tenant: str, number: int, journal: str = "j") -> Checkpoint:
    counters = (CounterState("t|output_tokens|day|1", number, 0, 0, 2**45),)
    return Checkpoint(tenant, "epoch", number, number, journal, counters)


def test_the_oldest_goes_when_checkpoints_say_what_it_had(tmp_path: Path) -> None:
    with Journal(tmp_path, bytes_max=20_000) as journal:
        for number in range(200):
            journal.note("acme", record(f"h{number}"), number)
            journal.note("other", record(f"o{number}"), number)
            for tenant in journal.due:
                journal.note_checkpoint(checkpoint(tenant, number))
        kept = journal.read_settled_of("acme")
        assert len(kept) < 20
        assert "h0" not in kept
        assert journal.read_checkpoints()["acme"].number > 150
    assert sum(path.stat().st_size for path in tmp_path.glob("settled-*")) <= 21_000


def test_nothing_goes_for_which_there_is_no_checkpoint(tmp_path: Path) -> None:
    with Journal(tmp_path, bytes_max=4_000) as journal:
        for number in range(50):
            journal.note("acme", record(f"h{number}"), number)
            journal.note("other", record(f"o{number}"), number)
        journal.note_checkpoint(checkpoint("other", 1))
        assert journal.due == ["acme"]
    with Journal(tmp_path, bytes_max=4_000) as again:
        assert len(again.read_settled_of("acme")) == 50
        assert again.due == ["acme"], "the next holder still needs it"
        assert (tmp_path / "settled-0.old.jsonl").exists()
        again.note_checkpoint(checkpoint("acme", 2))
        assert again.due == []
        assert not (tmp_path / "settled-0.old.jsonl").exists()


def test_a_checkpoint_and_a_change_are_the_same_after_the_journal(tmp_path: Path) -> None:
    whole = replace(
        checkpoint("acme", 7),
        credit={"t|usd|lifetime": 5},
        limits={"t|usd|day": ("5;9", 3), "t|images|day": ("", 4)},
        open_holds=("a", "b"),
    )
    credit = Adjustment("credit", 3, "credit.x", "t|usd|lifetime", "add;5")
    with Journal(tmp_path) as journal:
        journal.note_checkpoint(whole)
        journal.note_checkpoint(checkpoint("acme", 6))
        journal.note_adjustment("acme", credit, 1)
        assert journal.read_checkpoints() == {"acme": whole}, "the latest"
        assert [part["acme"].adjustments for part in journal.read(9)] == [[credit]]


def test_replicas_of_one_folder_have_numbers_of_their_own_and_a_dead_ones_is_taken_again(
    tmp_path: Path,
) -> None:
    with Journal(tmp_path) as zero:
        zero.note("acme", record("a"), 1)
        with Journal(tmp_path) as one:
            one.append_pending("acme", record("b"), 1)
            assert list(one.read_settled_of("acme")) == ["a"], "one that is being started says nothing itself"
        assert zero.take_over_pending() == [("acme", record("b"))]
    with Journal(tmp_path) as again:
        assert again.take_over_pending() == [("acme", record("b"))], "taken over, and not yet settled"
        assert list(again.read_settled_of("acme")) == ["a"]
        again.clear_pending()
    with Journal(tmp_path) as last:
        assert last.take_over_pending() == []


def test_a_tenants_holds_are_its_own_and_the_last_state_counts(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        journal.note("acme", record("a", "dispatched"), 1)
        journal.note("acme", record("a", "charged"), 2)
        journal.note("other", record("b"), 3)
        assert {name: held.state for name, held in journal.read_settled_of("acme").items()} == {
            "a": "charged"
        }


def test_all_tenants_are_told_in_parts_of_a_bounded_size(tmp_path: Path) -> None:
    with Journal(tmp_path) as journal:
        for number in range(25):
            journal.note(f"tenant-{number % 3}", record(f"h{number}", "dispatched"), number)
            journal.note(f"tenant-{number % 3}", record(f"h{number}"), number)
        parts = list(journal.read(10))
        told = [
            (tenant, hold)
            for part in parts
            for tenant, found in part.items()
            for hold in found.holds.values()
        ]
    assert max(sum(len(found.holds) for found in part.values()) for part in parts) <= 10
    assert {(tenant, hold.hold_id) for tenant, hold in told} == {
        (f"tenant-{number % 3}", f"h{number}") for number in range(25)
    }
    assert {hold.state for _, hold in told} == {"settled"}


def test_who_read_last_does_not_matter_when_a_dead_ones_hold_was_settled_by_another(tmp_path: Path) -> None:
    with Journal(tmp_path) as zero, Journal(tmp_path) as one:
        zero.note("acme", record("a"), 2)
        one.note("acme", record("a", "dispatched"), 1)
        one.note("acme", record("b"), 1)
        zero.note("acme", record("b", "dispatched"), 0)
    for _ in range(2):
        with Journal(tmp_path) as again:
            told = again.read_settled_of("acme")
            assert {name: held.state for name, held in told.items()} == {"a": "settled", "b": "settled"}


def test_a_folder_that_cannot_be_written_is_told_by_name(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(JournalUnavailable, match="file"), Journal(tmp_path / "file"):
        pass


def open_files() -> list[str]:
    """What this process has open; a file that was deleted ends in ``(deleted)``."""
    links = Path("/proc/self/fd").iterdir()
    return sorted(str(link.readlink()) for link in links if link.is_symlink())


def test_rotating_keeps_no_file_open_and_no_deleted_one_on_the_disk(tmp_path: Path) -> None:
    with Journal(tmp_path, bytes_max=4000) as journal:
        journal.note("acme", record("first"), 0)
        before = len(open_files())
        for _ in range(4):
            note_many(journal, 100)
            journal.note_checkpoint(checkpoint("acme", 1))
        assert "first" not in journal.read_settled_of("acme"), "it has rotated"
        assert len(open_files()) == before
        assert [name for name in open_files() if "(deleted)" in name and str(tmp_path) in name] == []
    assert [name for name in open_files() if str(tmp_path) in name] == []


def test_a_disk_that_fills_up_costs_the_lines_that_it_refuses_alone(
    tmp_path: Path, small_disk: type[SmallDisk]
) -> None:
    with Journal(tmp_path) as journal:
        journal.append_pending("acme", record("a"), 1)
        small_disk.room = 100
        with pytest.raises(OSError, match="No space"):
            journal.append_pending("acme", record("torn"), 1)
        small_disk.room = 1 << 30
        journal.append_pending("acme", record("b"), 1)
        assert [held.hold_id for _, held in journal.take_over_pending()] == ["a", "b"]


def test_settlements_of_a_dead_replica_stay_where_they_are_while_the_disk_is_full(
    tmp_path: Path, small_disk: type[SmallDisk]
) -> None:
    with Journal(tmp_path) as zero:
        with Journal(tmp_path) as one:
            one.append_pending("acme", record("a"), 1)
        small_disk.room = 0
        assert zero.take_over_pending() == [("acme", record("a"))]
        small_disk.room = 1 << 30
        assert zero.take_over_pending() == [("acme", record("a"))], "nobody else has told of it"
        assert zero.take_over_pending() == [("acme", record("a"))], "now it is this one's own"
        assert (tmp_path / "waiting-1.jsonl").read_bytes() == b""


def note_many(journal: Journal, count: int) -> None:
    for number in range(count):
        journal.note("acme", record(f"h{number}"), number)


def test_a_rotation_that_fails_half_way_is_finished_by_the_next(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(self: Journal, kind: str) -> FileIO:
        raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))

    with Journal(tmp_path, bytes_max=4000) as journal:
        with monkeypatch.context() as patch:
            patch.setattr(Journal, "_open_file", refused)
            with pytest.raises(OSError, match="open files"):
                note_many(journal, 20)
        journal.note("acme", record("last"), 99)
        assert (tmp_path / "settled-0.jsonl").read_bytes().count(b"specversion") == 1
        assert list(journal.read_settled_of("acme"))[-1] == "last"


def test_each_tenants_epoch_is_one_line_however_many_tenants_there_are(tmp_path: Path) -> None:
    former = {"old": "e0", "acme": "e0"}
    (tmp_path / "epochs-0.json").write_text(json.dumps(former))  # as every version writes it
    with Journal(tmp_path) as journal:
        assert journal.read_epochs() == former
        lines = tmp_path / "epochs-0.jsonl"
        for number in range(1000):
            journal.keep_epoch(f"tenant-{number}", "e1")
        before = lines.stat().st_size
        journal.keep_epoch("acme", "e1")
        journal.keep_epoch("acme", "e1")
        assert lines.stat().st_size - before == len('\n["acme","e1"]')
    lines.write_bytes(lines.read_bytes()[:-3])  # torn by a crash
    with Journal(tmp_path) as again:
        epochs = again.read_epochs()
        assert (epochs["old"], epochs["tenant-999"], epochs["acme"]) == ("e0", "e1", "e0")
        assert lines.read_bytes() == b"", "the lines are in the other file now"
        assert again.read_epochs() == epochs


@pytest.mark.parametrize("name", ["settled-0.jsonl", "waiting-0.jsonl", "epochs-0.jsonl", "replica-0.lock"])
def test_a_file_that_somebody_deletes_or_replaces_is_missed(tmp_path: Path, name: str) -> None:
    with Journal(tmp_path) as journal:
        assert not journal.is_gone()
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).unlink()
        assert journal.is_gone()
        (tmp_path / name).write_bytes(content)
        assert journal.is_gone(), "another file of the same name is not the one that is written"
        journal.open_again()
        assert not journal.is_gone()
        journal.note("acme", record("a"), 1)
        assert list(journal.read_settled_of("acme")) == ["a"]
    assert [opened for opened in open_files() if str(tmp_path) in opened] == []
