"""Sends mixed calls through a gateway, and reconciles its ledger with the emulator's bill.

python -m tests.bill.run --calls 10000
"""

from __future__ import annotations

import argparse
import base64
import csv
import io
import os
import random
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from app.__main__ import main as run_flashgate
from app.emulator.bill import IMAGE_TOKENS, PRICES
from tests.processes import HTTP, Running, free_port, running, running_gateway
from tests.server.conftest import PEPPER
from tests.server.operators import ADMIN_KEY, Admin

if TYPE_CHECKING:
    from collections.abc import Iterator

IMAGES = Path(__file__).parents[1] / "fixtures" / "images"
PLAIN = ("", "", "", "cached", "two-images", "thoughts", "wrong-size")
REFUSED = ("blocked-prompt", "image-safety", "text-only", "no-image", "finish:IMAGE_OTHER")
UNKNOWN = ("reset", "dropped", "broken-json", "no-usage")
UNPAID = ("invalid", "internal:1", "unavailable:1")


@dataclass(frozen=True)
class Site:
    """A gateway before the emulator, both alone on this machine."""

    gateway: Running
    emulator: Running
    admin: Admin
    keys: tuple[str, ...]


@contextmanager
def running_site(folder: Path) -> Iterator[Site]:
    """Two tenants, one of them with a project, whose budgets are ample."""
    port = free_port()
    arguments, log = ["--port", str(port), "--pace", "0"], folder / "emulator.log"
    url = f"http://127.0.0.1:{port}"
    with running(arguments, {}, url, "/emulator/calls", log, "tests.bill.emulator") as emulator:
        settings = {"admin_key": ADMIN_KEY, "key_pepper": PEPPER, "emulator_base_url": url}
        with running_gateway(folder / "gateway", upstream="emulator", **settings) as gateway:
            admin = Admin(gateway.url)
            budgets = [{"unit": "usd", "window": "month", "limit": 1_000_000}]
            admin.tenant("shop", budgets=budgets, projects=[{"id": "web"}])
            admin.tenant("press", budgets=budgets)
            keys = (admin.key_of("shop", project="web"), admin.key_of("shop"), admin.key_of("press"))
            yield Site(gateway, emulator, admin, tuple(key["key"] for key in keys))


def build_request(dice: random.Random, number: int) -> dict[str, Any]:
    """A request of a random model, size, tier and ending."""
    model = dice.choice(list(IMAGE_TOKENS))
    ending = dice.choices((PLAIN, REFUSED, UNKNOWN, UNPAID), weights=(86, 8, 3, 3))[0]
    words = dice.choice(ending)
    prompt = f"Call {number}: " + "a lighthouse at dusk " * dice.randint(1, 30)
    body: dict[str, Any] = {
        "model": model,
        "prompt": prompt + (f" [[emulate:{words}]]" if words else ""),
        "image_size": dice.choice([size for size in IMAGE_TOKENS[model] if size != "4K"] * 8 + ["4K"]),
        "delivery": "uri",
        "service_tier": dice.choice([tier for name, tier in PRICES if name == model]),
        "labels": {"team": dice.choice(("red", "blue"))},
    }
    if body["image_size"] not in IMAGE_TOKENS[model]:
        body["image_size"] = "1K"
    if dice.random() < 0.1:
        body["n"] = 2
    if dice.random() < 0.1:
        body["thinking_level"] = "high"
    if dice.random() < 0.15 and ending is PLAIN and "lite" not in model:
        body["grounding"] = {"web_search": True}
        body["prompt"] += f" [[emulate:searches:{dice.randint(1, 12)}]]"
    if dice.random() < 0.05:
        body["images"] = [{"data": base64.b64encode(read_reference()).decode()}]
    return body


def read_reference() -> bytes:
    """A small picture."""
    return (IMAGES / "harbour-alpha.png").read_bytes()


def send_calls(site: Site, calls: int, seed: int, at_once: int = 8) -> Counter[int]:
    """Send requests from several threads, and count them by their status."""
    dice = random.Random(seed)
    bodies = [build_request(dice, number) for number in range(calls)]

    def send(numbered: tuple[int, dict[str, Any]]) -> int:
        number, body = numbered
        key = site.keys[number % len(site.keys)]
        url = f"{site.gateway.url}/v1/images:generate"
        return HTTP.post(url, json=body, headers={"X-API-Key": key}, timeout=120).status_code

    with ThreadPoolExecutor(at_once) as threads:
        return Counter(threads.map(send, enumerate(bodies)))


def run_command(site: Site, *words: str) -> tuple[int, str]:
    """The exit status and the output of a command at the gateway."""
    text = io.StringIO()
    with patch.dict(os.environ, {"FLASHGATE_ADMIN_KEY": ADMIN_KEY}), redirect_stdout(text):
        status = run_flashgate([*words, "--url", site.gateway.url])
    return status, text.getvalue()


def write_bill(site: Site, folder: Path) -> Path:
    """The emulator's bill as a file."""
    path = folder / "bill.csv"
    path.write_text(HTTP.get(f"{site.emulator.url}/emulator/bill").text)
    return path


def read_lines(text: str) -> list[dict[str, str]]:
    """The lines of a reconciliation as CSV."""
    return list(csv.DictReader(io.StringIO(text)))


def main() -> int:
    """Send the calls, print the reconciliation, and return its exit status."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--calls", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name, running_site(Path(name)) as site:
        statuses = send_calls(site, arguments.calls, arguments.seed)
        bill = write_bill(site, Path(name))
        status, text = run_command(site, "usage", "reconcile", str(bill), "--tolerance", "0.1")
        sys.stdout.write(f"{arguments.calls} requests by status: {dict(sorted(statuses.items()))}\n\n{text}")
        return status


if __name__ == "__main__":
    sys.exit(main())
