"""``flashgate cards check`` against the emulator: right cards are right, and each wrong fact is noticed."""

from __future__ import annotations

import csv
import json
import shutil
import subprocess
import sys
import threading
from decimal import Decimal
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any

import pytest
import yaml

from app.__main__ import main
from app.cards import load_catalogue
from app.commands.price_files import read_prices
from app.domain.card import Card
from app.domain.card_check import list_prices
from tests.domain.test_facts import facts_of
from tests.environments import ROOT
from tests.processes import free_port, running
from tests.upstream.test_credentials import workload_identity

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

FLASH, NEXT = "gemini-3.1-flash-image", "gemini-nano-banana-2.1"
PRICES = ROOT / "examples" / "prices.csv"


@pytest.fixture(scope="module")
def google(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """An emulator that draws pictures of one colour."""
    port, log = free_port(), tmp_path_factory.mktemp("emulator") / "log"
    url = f"http://127.0.0.1:{port}"
    options = ["--port", str(port), "--pace", "0"]
    with running(options, {}, url, "/emulator/calls", log, "tests.bill.emulator"):
        yield url


@pytest.fixture(autouse=True)
def configured(monkeypatch: pytest.MonkeyPatch, google: str) -> None:
    """Both back ends, each in its own form."""
    monkeypatch.setenv("FLASHGATE_EMULATOR_BASE_URL", google)
    monkeypatch.setenv("FLASHGATE_GEMINI_BASE_URL", google)
    monkeypatch.setenv("FLASHGATE_GEMINI_API_KEY", "a-key")
    monkeypatch.setenv("FLASHGATE_UPSTREAM", "emulator,gemini")


def check(
    capsys: pytest.CaptureFixture[str], *options: str
) -> tuple[int, list[dict[str, str]], dict[str, str]]:
    """The status, the findings and what was not checked."""
    status = main(["cards", "check", "--json", *options])
    document = json.loads(capsys.readouterr().out)
    return status, document["findings"], document["unchecked"]


def test_the_cards_are_what_the_back_ends_say(capsys: pytest.CaptureFixture[str]) -> None:
    status, findings, unchecked = check(capsys, "--may-spend", "40", "--prices", str(PRICES))
    assert [each for each in findings if each["verdict"] not in {"same", "cautious"}] == []
    assert status == 0
    assert {each["source"] for each in findings} == {"emulator", "gemini", "prices"}
    seen = {(each["source"], each["fact"]): each for each in findings if each["model"] == FLASH}
    assert seen["gemini", "images.tokens_each"]["verdict"] == "cautious"
    assert seen["gemini", "images.tokens_each"]["found"] == "258"
    assert seen["emulator", "images.tokens_each"]["verdict"] == "same"
    named = {each["fact"] for each in findings} | set(unchecked)
    for fact in facts_of(Card):
        steps = fact.split(".")
        above = {".".join(steps[:count]) for count in range(1, len(steps) + 1)}
        known = above & named or any(name.startswith(f"{fact}.") for name in named)
        parts = steps[0] == "image_sizes" and any(
            name.startswith("image_sizes.") and name.endswith(f".{steps[-1]}") for name in named
        )
        assert known or parts, f"{fact} is neither checked nor listed as not checked"


def set_fact(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    """An edit of one fact, by its path."""

    def edit(card: dict[str, Any]) -> None:
        *above, last = path.split(".")
        for step in above:
            card = card[step]
        assert card[last] != value
        card[last] = value

    return edit


def add_size(card: dict[str, Any]) -> None:
    card["image_sizes"]["512"] = {"tokens": 747, "megapixels": 0.25, "seconds": [1, 2], "timeout_s": 60}
    for row in card["pixels"].values():
        row["512"] = [side // 2 for side in row["1K"]]


def add_level(card: dict[str, Any]) -> None:
    card["parameters"]["thinking_levels"].append("medium")
    card["text_allowance"]["per_image"]["medium"] = 600


def remove_ratio(card: dict[str, Any]) -> None:
    card["aspect_ratios"].remove("16:9")
    del card["pixels"]["16:9"]


RETIRES = {"vertex": {"day": "2027-05-28", "source": "lifecycle"}}
FALSE_FACTS: list[tuple[str, str, Callable[[dict[str, Any]], None]]] = [
    ("tokens.input_max", FLASH, set_fact("tokens.input_max", 65_536)),
    ("tokens.output_max", FLASH, set_fact("tokens.output_max", 65_536)),
    ("lifecycle.stage", FLASH, set_fact("lifecycle.stage", "preview")),
    ("lifecycle.retires.gemini", FLASH, set_fact("lifecycle.retires.gemini.status", "announced")),
    ("lifecycle.retires", FLASH, set_fact("id", "gemini-3.1-flash-picture")),
    ("parameters.temperature.max", FLASH, set_fact("parameters.temperature.max", 1.0)),
    ("parameters.top_p.default", FLASH, set_fact("parameters.top_p.default", 0.9)),
    ("images.tokens_each", FLASH, set_fact("images.tokens_each", 560)),
    ("images.tokens_each", NEXT, set_fact("images.tokens_each", 1290)),
    ("images.tokens_by_resolution.low", FLASH, set_fact("images.tokens_by_resolution.low", 140)),
    ("documents.tokens_per_page", FLASH, set_fact("documents.tokens_per_page", 258)),
    ("documents.tokens_per_page_min", FLASH, set_fact("documents.tokens_per_page_min", 600)),
    (
        "prices_usd_per_million.image_output",
        FLASH,
        set_fact("prices_usd_per_million.image_output", 30.0),
    ),
    (
        "tier_prices_usd_per_million.priority.input",
        NEXT,
        set_fact("tier_prices_usd_per_million.priority.input", 1.5),
    ),
    ("searches.usd_per_thousand_queries", FLASH, set_fact("searches.usd_per_thousand_queries", 35.0)),
]
FALSE_FACTS_BY_CALLS: list[tuple[str, str, Callable[[dict[str, Any]], None]]] = [
    ("image_sizes.4K.tokens", NEXT, set_fact("image_sizes.4K.tokens", 2520)),
    ("image_sizes.512.tokens", NEXT, add_size),
    ("pixels.16:9.1K", FLASH, set_fact("pixels.16:9.1K", [1920, 1080])),
    ("aspect_ratios.16:9", NEXT, remove_ratio),
    ("parameters.seed", NEXT, set_fact("parameters.seed", {"min": 0, "max": 100})),
    ("parameters.temperature", FLASH, set_fact("parameters.temperature", None)),
    ("parameters.thinking_levels.medium", FLASH, add_level),
    ("images.count_max", FLASH, set_fact("images.count_max", 10)),
]


@pytest.mark.parametrize(
    ("fact", "model", "falsify", "may_spend"),
    [(*each, False) for each in FALSE_FACTS] + [(*each, True) for each in FALSE_FACTS_BY_CALLS],
    ids=[f"{model}:{fact}" for fact, model, _ in (*FALSE_FACTS, *FALSE_FACTS_BY_CALLS)],
)
def test_a_false_fact_is_noticed(
    fact: str,
    model: str,
    falsify: Callable[[dict[str, Any]], None],
    may_spend: bool,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for file in (ROOT / "app" / "cards").glob("*.yaml"):
        shutil.copy(file, tmp_path)
    path = tmp_path / f"{model}.yaml"
    card = yaml.safe_load(path.read_text())
    falsify(card)
    path.write_text(yaml.safe_dump(card))
    options = ["--may-spend", "20"] if may_spend else ["--prices", str(PRICES)]
    status, findings, _ = check(capsys, card["id"], "--cards", str(tmp_path), *options)
    different = {each["fact"] for each in findings if each["verdict"] == "different"}
    assert status == 1
    assert different
    assert {name for name in different if not name.startswith(fact)} == set()


class TokenService(BaseHTTPRequestHandler):
    """Gives everybody a token."""

    def do_POST(self) -> None:
        granted = {
            "access_token": "a-token",
            "expires_in": 3600,
            "token_type": "Bearer",
            "issued_token_type": "urn:ietf:params:oauth:token-type:access_token",
        }
        body = json.dumps(granted).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def token_url() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), TokenService) as service:
        serving = threading.Thread(target=service.serve_forever)
        serving.start()
        yield f"http://127.0.0.1:{service.server_port}/token"
        service.shutdown()
        serving.join()


def test_vertex_ai_is_asked_with_the_default_credentials(
    google: str,
    token_url: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    path = tmp_path / "credentials.json"
    path.write_text(json.dumps(workload_identity(token_url, tmp_path)))
    monkeypatch.setenv("GOOGLE_APPLICATION_CREDENTIALS", str(path))
    monkeypatch.setenv("FLASHGATE_UPSTREAM", "vertex")
    monkeypatch.setenv("FLASHGATE_VERTEX_PROJECT", "a-project")
    monkeypatch.setenv("FLASHGATE_VERTEX_BASE_URL", google)
    status, findings, _ = check(capsys, NEXT, "--may-spend", "20")
    assert {each["source"] for each in findings} == {"vertex"}
    assert [each for each in findings if each["verdict"] not in {"same", "cautious"}] == []
    assert status == 0
    path.unlink()
    status, findings, _ = check(capsys, NEXT)
    assert (status, {each["verdict"] for each in findings}) == (2, {"unanswered"})


def test_what_gets_no_answer_is_no_agreement(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FLASHGATE_GEMINI_BASE_URL", f"http://127.0.0.1:{free_port()}")
    status, findings, _ = check(capsys, FLASH)
    assert status == 2
    assert {each["source"] for each in findings if each["verdict"] == "unanswered"} == {"gemini"}
    monkeypatch.setenv("FLASHGATE_GEMINI_API_KEY", "invalid")


def test_a_refused_key_is_no_refused_fact(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FLASHGATE_UPSTREAM", "gemini")
    monkeypatch.setenv("FLASHGATE_GEMINI_API_KEY", "invalid")
    status, findings, _ = check(capsys, NEXT, "--may-spend", "10")
    assert status == 2
    assert {each["verdict"] for each in findings} == {"unanswered"}


def test_nothing_is_spent_that_may_not_be(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cards", "check", FLASH, "--may-spend", "1"]) == 2
    assert "more than --may-spend allows" in capsys.readouterr().err


def test_a_table_is_printed_for_people(google: str) -> None:
    command = [sys.executable, "-m", "app", "cards", "check", FLASH]
    ran = subprocess.run(command, capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    lines = ran.stdout.splitlines()
    assert lines[0].split() == ["MODEL", "SOURCE", "FACT", "CARD", "FOUND", "VERDICT"]
    assert any(
        line.split()[:6] == [FLASH, "gemini", "tokens.input_max", "131072", "131072", "same"]
        for line in lines
    )
    assert "  video: no such file" in ran.stdout
    assert google


def test_the_example_has_every_price_of_every_card() -> None:
    catalogue = load_catalogue()
    listed = sorted(read_prices(PRICES, catalogue))
    assert listed == sorted(price for card in catalogue for price in list_prices(card))
    with PRICES.open(newline="") as file:
        assert {Decimal(row["price"]) for row in csv.DictReader(file)}


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (f"{FLASH},pixels,standard,1M tokens,1", "line 2: meter must be one of input"),
        (f"{FLASH},input,standard,1 dozen,1", "line 2: unit of input must be a number of tokens"),
        (f"{FLASH},searches,standard,1K tokens,1", "unit of searches must be a number of queries"),
        (f"{FLASH},input,standard,1M tokens,cheap", "line 2: price must be a number"),
    ],
)
def test_a_malformed_price_is_refused_by_its_line(
    line: str, words: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "prices.csv"
    path.write_text(f"model,meter,tier,unit,price\n{line}\n")
    assert main(["cards", "check", "--prices", str(path)]) == 2
    assert words in capsys.readouterr().err


def test_cards_are_listed_and_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["cards", "list"]) == 0
    assert "512 747 $0.0448" in capsys.readouterr().out
    assert main(["cards", "show", "nano-banana-2"]) == 0
    assert json.loads(capsys.readouterr().out)["id"] == FLASH
    assert main(["cards", "show", "imagen"]) == 2
    assert "imagen has no card" in capsys.readouterr().err
