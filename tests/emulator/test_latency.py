"""How long pictures take: the model's own times, at the pace that was chosen."""

from __future__ import annotations

import subprocess
import sys

import pytest

from app.cards import load_catalogue
from app.emulator.latency import PACE_REALISTIC, Latency, draw_number

SECONDS = {
    name: size.seconds
    for card in load_catalogue()
    if card.id == "gemini-3.1-flash-image"
    for name, size in card.image_sizes.items()
}


@pytest.mark.parametrize("size", SECONDS)
def test_a_realistic_picture_takes_as_long_as_users_report(size: str) -> None:
    least, most = SECONDS[size]
    taken = [Latency(PACE_REALISTIC).draw_seconds(SECONDS[size], f"{number}", 1) for number in range(200)]
    assert least <= min(taken) < least + (most - least) / 10
    assert most - (most - least) / 10 < max(taken) < most


def test_larger_pictures_take_longer_and_a_pace_scales_them_all() -> None:
    means = [sum(bounds) for bounds in SECONDS.values()]
    assert means == sorted(means)
    for seconds in SECONDS.values():
        realistic = Latency(PACE_REALISTIC).draw_seconds(seconds, "d", 1)
        assert Latency().draw_seconds(seconds, "d", 1) == pytest.approx(realistic / 1000)
    assert Latency(0).draw_seconds(SECONDS["4K"], "d", 1) == 0


def test_the_same_call_takes_the_same_time_again_and_another_seed_another() -> None:
    assert Latency(1, 5).draw_seconds(SECONDS["1K"], "d", 2) == Latency(1, 5).draw_seconds(
        SECONDS["1K"], "d", 2
    )
    assert (
        len(
            {
                Latency(1, seed).draw_seconds(SECONDS["1K"], "d", attempt)
                for seed in (1, 2)
                for attempt in (1, 2)
            }
        )
        == 4
    )


def test_what_is_drawn_is_spread_evenly() -> None:
    numbers = [draw_number("a subject", number) for number in range(2000)]
    assert 0 <= min(numbers) < 0.01
    assert 0.99 < max(numbers) < 1
    assert sum(numbers) / len(numbers) == pytest.approx(0.5, abs=0.03)


@pytest.mark.parametrize("arguments", [("--pace", "-1"), ("--pace", "x"), ("--pace", "1", "--realistic")])
def test_a_pace_that_cannot_be_is_said(arguments: tuple[str, ...]) -> None:
    ended = subprocess.run(
        [sys.executable, "-m", "app.emulator", *arguments], capture_output=True, check=False
    )
    assert ended.returncode == 2
    assert b"--pace" in ended.stderr
