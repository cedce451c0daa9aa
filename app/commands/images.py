"""``flashgate generate``, ``edit``, ``estimate`` and ``budgets``: the native API from a terminal.

Pictures are written to files, and their paths to stdout; progress, cost and warnings go to stderr.
"""

from __future__ import annotations

import sys
import time
from concurrent.futures import ThreadPoolExecutor
from concurrent.futures import TimeoutError as StillRunning
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx2

from app.commands.admin import add_url_option
from app.commands.api import GatewayApi, Refused, Unconfigured, find_key, find_url

if TYPE_CHECKING:
    from argparse import ArgumentParser, Namespace
    from collections.abc import Callable

PICTURE_S: Final = 600.0
_STEP_S: Final = 0.5
_SUFFIXES: Final = {"image/png": ".png", "image/jpeg": ".jpg", "image/webp": ".webp"}
_TYPES: Final = {".png": "image/png", ".jpg": "image/jpeg", ".jpeg": "image/jpeg"}
_FIELDS: Final = (
    "model", "aspect_ratio", "image_size", "n", "seed", "thinking_level", "continue_from", "max_cost_usd",
)  # fmt: skip
_MONEY_MIN: Final = 0.01


def add_generate_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of ``generate``."""
    _add_options(parser)
    _add_output(parser)


def add_edit_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of ``edit``."""
    _add_options(parser)
    parser.add_argument("images", nargs="+", type=Path, metavar="image", help="files that the model sees")
    _add_output(parser)


def add_estimate_arguments(parser: ArgumentParser) -> None:
    """Add the arguments of ``estimate``."""
    _add_options(parser)


def _add_output(parser: ArgumentParser) -> None:
    parser.add_argument(
        "-o", "--output", metavar="FILE",
        help="file to write, - for stdout; several pictures are numbered; default: flashgate.png or .jpg",
    )  # fmt: skip


def _add_options(parser: ArgumentParser) -> None:
    parser.add_argument("prompt")
    parser.add_argument("--model", help="card id or alias")
    parser.add_argument("--ratio", dest="aspect_ratio", help="aspect ratio, such as 16:9")
    parser.add_argument("--size", dest="image_size", help="image size, such as 2K")
    parser.add_argument("-n", type=int, help="number of pictures")
    parser.add_argument("--seed", type=int, help="the same seed draws the same picture")
    parser.add_argument("--thinking", dest="thinking_level", help="thinking level")
    parser.add_argument(
        "--continue", dest="continue_from", metavar="GENERATION", help="generation to continue"
    )
    parser.add_argument("--max-cost", dest="max_cost_usd", type=float, metavar="USD", help="most it may cost")
    add_url_option((parser,))


def run(arguments: Namespace) -> int:
    """Run a command; return 0 if it did what was asked, 1 if the gateway refused, 2 if it lacks a key."""
    commands: dict[str, Callable[[GatewayApi, Namespace], int]] = {
        "generate": _generate,
        "edit": _generate,
        "estimate": _estimate,
        "budgets": _show_budgets,
    }
    try:
        with httpx2.Client(timeout=PICTURE_S) as http:
            api = GatewayApi(http, find_url(arguments.url), find_key(), "/v1")
            return commands[arguments.command](api, arguments)
    except Unconfigured as error:
        sys.stderr.write(f"flashgate: {error}\n")
        return 2
    except (Refused, OSError) as error:
        sys.stderr.write(f"flashgate: {error}\n")
        return 1


@dataclass(frozen=True, slots=True)
class _Target:
    """Where pictures go.

    Attributes:
        path: The file; several pictures get numbers before its suffix.
        mime_type: What its suffix asks for, or None.
    """

    path: Path | None
    mime_type: str | None

    def name(self, index: int, count: int, mime_type: str) -> Path:
        """The file of one picture. Its suffix always says what is in it."""
        path = self.path or Path("flashgate")
        suffix = path.suffix
        if _TYPES.get(suffix.lower()) != mime_type:
            suffix = _SUFFIXES.get(mime_type, "")
        number = "" if count == 1 else f"-{index + 1}"
        return path.with_name(f"{path.stem}{number}{suffix}")


def _parse_target(output: str | None) -> _Target:
    if output is None:
        return _Target(None, None)
    path = Path(output)
    if output != "-" and not path.parent.is_dir():
        raise Refused(f"There is no folder {path.parent}.")
    return _Target(path, _TYPES.get(path.suffix.lower()))


def _generate(api: GatewayApi, arguments: Namespace) -> int:
    target = _parse_target(arguments.output)
    began = time.monotonic()
    answer = _wait_with_progress(lambda: _request(api, arguments, target.mime_type), arguments.prompt)
    images = answer["images"]
    for index, image in enumerate(images):
        data = api.call("GET", f"/images/{image['id']}").content
        if arguments.output == "-":
            sys.stdout.buffer.write(data)
            continue
        path = target.name(index, len(images), image["mime_type"])
        path.write_bytes(data)
        sys.stdout.write(f"{path}\n")
        sys.stderr.write(f"  {image['width']} x {image['height']}, {len(data):,} bytes\n")
    sys.stderr.write(_format_cost(answer, time.monotonic() - began))
    return 0


def _request(api: GatewayApi, arguments: Namespace, mime_type: str | None) -> dict[str, Any]:
    """Ask for pictures; for a type only if the back end offers a choice, which is free to find out."""
    body = _build_body(arguments) | {"delivery": "uri"}
    if mime_type is not None:
        try:
            return _post(api, arguments, body | {"output_mime_type": mime_type})
        except Refused as refused:
            if "output_mime_type" not in str(refused):
                raise
    return _post(api, arguments, body)


def _post(api: GatewayApi, arguments: Namespace, body: dict[str, Any]) -> dict[str, Any]:
    if arguments.command == "generate":
        answer: dict[str, Any] = api.call("POST", "/images:generate", body).json()
        return answer
    files = [("image", (path.name, path.read_bytes())) for path in arguments.images]
    fields = {name: str(value) for name, value in body.items()}
    edited: dict[str, Any] = api.call("POST", "/images:edit", form=(fields, files)).json()
    return edited


def _build_body(arguments: Namespace) -> dict[str, Any]:
    options = {name: getattr(arguments, name) for name in _FIELDS}
    return {"prompt": arguments.prompt} | {
        name: value for name, value in options.items() if value is not None
    }


def _wait_with_progress(work: Callable[[], dict[str, Any]], prompt: str) -> dict[str, Any]:
    """Do the work, and count the seconds for a person meanwhile."""
    if not sys.stderr.isatty():
        return work()
    with ThreadPoolExecutor(1) as pool:
        began, future = time.monotonic(), pool.submit(work)
        while True:
            try:
                return future.result(_STEP_S)
            except StillRunning:
                sys.stderr.write(f"\r  {time.monotonic() - began:4.0f} s  {prompt[:60]}")
                sys.stderr.flush()
            finally:
                if future.done():
                    sys.stderr.write("\r\033[K")


def _format_cost(answer: dict[str, Any], took_s: float) -> str:
    usage, cache = answer["usage"], answer["cache"]["status"]
    cost = f"{usage['image_tokens']:,} image tokens, {format_usd(usage['cost_usd'])}, cache {cache}"
    lines = [f"  {cost}, {took_s:.1f} s, {answer['id']}"]
    lines += [f"  {format_budget(budget)}" for budget in answer["budgets"] if budget["mode"] == "enforce"]
    lines += [f"  {warning['code']}: {warning['detail']}" for warning in answer["warnings"]]
    return "\n".join(lines) + "\n"


def format_usd(amount: float) -> str:
    """Dollars with cents, or with as many digits as a small amount needs."""
    if amount == 0 or amount >= _MONEY_MIN:
        return f"${amount:,.4f}".rstrip("0").rstrip(".") if amount else "$0"
    return f"${amount:.6f}"


def format_budget(budget: dict[str, Any]) -> str:
    """What a budget has left, such as ``39,200 of 41,440 image tokens left until 2026-11-29T00:00:00Z``."""
    until = "" if budget["resets_at"] is None else f" until {budget['resets_at']}"
    unit = budget["unit"].replace("_", " ")
    left, limit = float(budget["remaining"]), float(budget["limit"])
    if budget["unit"] == "usd":
        return f"{format_usd(left)} of {format_usd(limit)} left{until} ({budget['name']})"
    return f"{left:,.0f} of {limit:,.0f} {unit} left{until} ({budget['name']})"


def _estimate(api: GatewayApi, arguments: Namespace) -> int:
    answer = api.call("POST", "/images:estimate", _build_body(arguments)).json()
    if not answer["valid"]:
        lines = [f"  - {item['pointer']}: {item['detail']}" for item in answer["violations"]]
        raise Refused("\n".join(["The request is not valid:", *lines]))
    expected, worst = answer["estimate"], answer["worst"]
    sys.stdout.write(
        f"expected  {expected['image_tokens']:,} image tokens, {expected['total_tokens']:,} in all, "
        f"{format_usd(expected['cost_usd'])}\n"
        f"at most   {worst['image_tokens']:,} image tokens, {worst['total_tokens']:,} in all, "
        f"{format_usd(worst['cost_usd'])}\n"
    )
    if answer["cached"]:
        sys.stdout.write("cached    it costs nothing now\n")
    if answer["refusal"] is not None:
        raise Refused(f"It would be refused: {answer['refusal']['detail']}")
    return 0


def _show_budgets(api: GatewayApi, _arguments: Namespace) -> int:
    usage = api.call("GET", "/usage").json()
    for budget in usage["budgets"]:
        mode = " (counted only)" if budget["mode"] == "shadow" else ""
        sys.stdout.write(f"{format_budget(budget)}{mode}\n")
    if not usage["budgets"]:
        sys.stdout.write("No budget limits this key.\n")
    spent = usage["spent"]
    sys.stdout.write(
        f"{spent['images']:,} pictures, {format_usd(float(spent['cost_usd']))} since {usage['since']} "
        f"with key {usage['key']}\n"
    )
    return 0
