"""Each rule is able to fail, and lets the ordinary case pass."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.architecture import naming, rules
from tests.architecture.rules import MARKS, REGISTRY_HOSTS, Source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from tests.architecture.rules import Breach

    Check = Callable[[Source], Iterator[Breach]]

FIELDS = rules.log_fields(frozenset({"tenant"}))

BROKEN: list[tuple[Check, str, str, int]] = [
    (rules.layers, "app/domain/budget.py", "from app.generation.ports import Ledger", 1),
    (rules.layers, "app/domain/budget.py", "import app.ledger.redis", 1),
    (rules.layers, "app/domain/budget.py", "from app.media import headers", 1),
    (rules.layers, "app/ledger/redis.py", "import os\nfrom app.observability.metrics import Metrics", 2),
    (rules.layers, "app/ledger/redis.py", "from app import gateway", 1),
    (rules.layers, "app/ledger/redis.py", "from ..upstream import google", 1),
    (
        rules.layers,
        "app/generation/job.py",
        "if TYPE_CHECKING:\n    from app.surfaces import http",
        2,
    ),
    (rules.layers, "app/generation/gateway.py", "def f():\n    import app.wiring", 2),
    (rules.layers, "app/middleware.py", "from app.wiring import open_gateway", 1),
    (rules.layers, "app/surfaces/http/auth.py", "from app.settings import Settings", 1),
    (rules.layers, "app/settings/__init__.py", "from app.wiring import Service", 1),
    (rules.layers, "app/newcomer.py", "", 1),
    (rules.layers, "app/generation/gateway.py", "import app.newcomer", 1),
    (rules.libraries, "app/tenants/file.py", "import redis", 1),
    (rules.libraries, "app/ledger/redis.py", "from google.genai import types", 1),
    (rules.libraries, "app/ledger/redis.py", "from google import genai", 1),
    (rules.libraries, "app/observability/http.py", "from starlette.types import Scope", 1),
    (rules.libraries, "app/generation/gateway.py", "from prometheus_client import Counter", 1),
    (rules.libraries, "app/upstream/google/client.py", "import httpx", 1),
    (rules.libraries, "app/domain/budget.py", "import time", 1),
    (rules.libraries, "app/domain/budget.py", "from pathlib import Path", 1),
    (rules.environment, "app/generation/gateway.py", "import os\nx = os.environ['A']", 2),
    (rules.environment, "app/generation/gateway.py", "import os\nx = os.getenv('A')", 2),
    (rules.environment, "app/generation/gateway.py", "from os import environ", 1),
    (rules.sizes, "app/generation/gateway.py", "\n" * 601, 601),
    (rules.sizes, "tests/test_a.py", "\n" * 601, 601),
    (rules.sizes, "app/generation/gateway.py", "x = 1\ndef f():\n" + "    x = 1\n" * 70, 2),
    (rules.globals_, "app/generation/gateway.py", "def f():\n    global x\n    x = 1", 2),
    (rules.late_imports, "app/generation/gateway.py", "def f():\n    import json", 2),
    (
        rules.late_imports,
        "app/generation/gateway.py",
        "class A:\n    async def f(self):\n        from json import loads",
        3,
    ),
    (rules.late_imports, "app/generation/gateway.py", "def f():\n    import json  # noqa: PLC0415", 2),
    (rules.names, "app/store/utils.py", "", 1),
    (rules.names, "app/generation/gateway.py", "def process_request(): ...", 1),
    (rules.names, "app/generation/gateway.py", "class PoolManager: ...", 1),
    (rules.names, "app/generation/gateway.py", "def f(image_helper): ...", 1),
    (rules.names, "app/generation/gateway.py", "misc = 1", 1),
    (naming.forbidden_words, "app/generation/gateway.py", "x = 1\nfound = load()", 2),
    (naming.forbidden_words, "app/generation/gateway.py", "def f(_asked): ...", 1),
    (naming.forbidden_words, "app/generation/gateway.py", "def told(): ...", 1),
    (naming.forbidden_words, "app/generation/gateway.py", "class RetryTerms: ...", 1),
    (naming.forbidden_words, "app/generation/gateway.py", "class A:\n    asked: float = 1", 2),
    (rules.log_calls, "app/generation/gateway.py", "log.info(f'prompt {prompt}')", 1),
    (rules.log_calls, "app/generation/gateway.py", "log.error(str(error))", 1),
    (rules.log_calls, "app/generation/gateway.py", "log.log(20, prompt)", 1),
    (rules.changed_errors, "app/generation/gateway.py", "late = f()\nlate.x, late.windows = 1, 2", 2),
    (rules.changed_errors, "app/generation/gateway.py", "outcome.error.rates = ()", 1),
    (
        rules.changed_errors,
        "app/generation/gateway.py",
        "try:\n    f()\nexcept E as error:\n    error.x = 1",
        4,
    ),
    (FIELDS, "app/generation/gateway.py", "log.info('x', extra={'tenant': 1,\n 'prompt': 2})", 2),
    (rules.timeouts, "app/generation/gateway.py", "import asyncio\nasyncio.timeout(1)", 2),
    (rules.timeouts, "app/store/client.py", "asyncio.wait_for(task, 1)", 1),
    (rules.possessive_groups, "app/generation/gateway.py", "x = 1\nre.compile(key + rb'(?:[^x]++|y)*+')", 2),
    (rules.possessive_groups, "app/generation/gateway.py", "re.compile('(ab?c){0,2}+')", 1),
]

SOUND: list[tuple[Check, str, str]] = [
    (
        rules.layers,
        "app/ledger/redis.py",
        "from app.domain.budget import Budget\nfrom app.store.client import Redis",
    ),
    (rules.layers, "app/ledger/redis.py", "from .client import Redis\nfrom ..domain import budget"),
    (rules.layers, "app/__main__.py", "from app.main import create_app\nfrom app.settings import Settings"),
    (
        rules.layers,
        "app/generation/gateway.py",
        "from app.generation.order import Order\nfrom application import x",
    ),
    (rules.libraries, "app/ledger/redis.py", "import redis.asyncio"),
    (rules.libraries, "app/upstream/google/client.py", "from google import genai\nimport httpx2"),
    (rules.environment, "app/settings/environment.py", "import os\nx = os.environ"),
    (
        rules.environment,
        "app/generation/gateway.py",
        "import os\n# environment: the child gets a clean one\nx = os.environ",
    ),
    (rules.sizes, "app/generation/gateway.py", "def f():\n" + "    x = 1\n" * 69),
    (
        rules.globals_,
        "app/generation/gateway.py",
        "def f():\n    x = 0\n    def g():\n        nonlocal x\n        x = 1",
    ),
    (
        rules.late_imports,
        "app/generation/gateway.py",
        "def f():\n    import json  # it takes a second to load",
    ),
    (rules.late_imports, "app/generation/gateway.py", "if TYPE_CHECKING:\n    import json"),
    (
        rules.names,
        "app/generation/gateway.py",
        "process = 1\nprocesses = 2\nchild_process = 3\ndef utilisation(): ...",
    ),
    (
        rules.log_calls,
        "app/generation/gateway.py",
        "log.info('settled', extra={'tenant': tenant})\nmath.log(x)",
    ),
    (rules.changed_errors, "app/domain/errors.py", "self.windows = ()\nrequest.state = 1"),
    (FIELDS, "app/generation/gateway.py", "log.info('x', extra={'tenant': 1})"),
    (rules.timeouts, "app/resilience/deadlines.py", "limit = asyncio.timeout(1)"),
    (rules.timeouts, "app/generation/gateway.py", "settings.timeout\nasyncio.wait(tasks, timeout=1)"),
    (
        rules.possessive_groups,
        "app/generation/gateway.py",
        "re.compile(r'[^x]*+(?:y[^x]++){0,9}z{2,3}+[()*+][]()*+]\\)*+')",
    ),
    (naming.forbidden_words, "app/domain/errors.py", "class NotFound: ...\nnot_found = has_made(x)"),
    (naming.forbidden_words, "app/surfaces/native/wire.py", "class Refusal(Document):\n    asked: float = 1"),
]


@pytest.mark.parametrize(("check", "path", "text", "line"), BROKEN)
def test_a_breach_is_found_with_its_file_and_line(check: Check, path: str, text: str, line: int) -> None:
    found = list(check(Source(path, text)))
    assert [(breach.path, breach.line) for breach in found] == [(path, line)]
    assert str(found[0]).startswith(f"{path}:{line}: ")


@pytest.mark.parametrize(("check", "path", "text"), SOUND)
def test_sound_code_passes(check: Check, path: str, text: str) -> None:
    assert list(check(Source(path, text))) == []


def test_functions_without_a_verb_are_named_where_they_are_too_many() -> None:
    verbs = "".join(f"def read_{number}(): ...\n" for number in range(88))
    nouns = "".join(f"def _thing_{number}(): ...\n" for number in range(12))
    aside = "class A:\n    @property\n    def size(self): ...\n    def __len__(self): ...\n"
    assert not list(naming.verbless([Source("app/a.py", verbs + nouns + aside)]))
    breaches = list(
        naming.verbless([Source("app/a.py", nouns), Source("app/b.py", verbs + "def order(): ...")])
    )
    assert [(each.path, each.line) for each in breaches] == [("app/a.py", n) for n in range(1, 13)] + [
        ("app/b.py", 89)
    ]


def test_a_script_that_is_too_long_or_has_a_function_that_is_is_found() -> None:
    body = "  local x = 1\n" * 69
    broken = f"local a\nlocal function f()\n{body}end\nlocal function g()\n  return 1\nend\n"
    assert [breach.line for breach in rules.lua_sizes("a.lua", broken)] == [2]
    assert [breach.line for breach in rules.lua_sizes("a.lua", broken + "\n" * 600)] == [601, 2]
    assert not list(rules.lua_sizes("a.lua", broken.replace("  local x = 1\n", "", 1)))


@pytest.mark.parametrize("mark", MARKS)
def test_a_left_over_mark_is_found_in_any_text(mark: str) -> None:
    assert [str(breach) for breach in rules.marks("a.md", f"fine\n# {mark}: later\n")] == [
        f"a.md:2: {mark} is left over; do it, or document that it is not done"
    ]
    assert list(rules.marks("a.md", f"{mark}S and {mark.lower()} are other words")) == []


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("requirements.txt", "--index-url https://example.org/simple"),
        ("requirements-dev.txt", "--extra-index-url=x"),
        ("requirements.txt", "a @ https://example.org/a.whl"),
        ("sub/requirements.in", "--find-links ./x"),
        ("Makefile", f"pip install -i https://my-{'py'}pi.example.org/simple"),
        ("package-lock.json", "resolved https://regis{}.example.com/a.tgz".format("try")),
        *[("README.md", f"see {host}") for host in REGISTRY_HOSTS],
    ],
)
def test_an_address_of_a_registry_is_found(path: str, line: str) -> None:
    assert [breach.line for breach in rules.registries(path, f"fine\n{line}\n")] == [2]


def test_ordinary_addresses_and_locked_requirements_pass() -> None:
    assert list(rules.registries("requirements.txt", "redis==8.1 \\\n    --hash=sha256:abc\n# via x\n")) == []
    assert list(rules.registries("README.md", "https://ai.google.dev/ and http://127.0.0.1:8080/")) == []


def test_a_circle_is_found_also_where_it_is_hidden_among_types() -> None:
    one = Source("app/domain/a.py", "from app.domain import b")
    two = Source("app/domain/b.py", "if TYPE_CHECKING:\n    from app.domain.c import C")
    three = Source("app/domain/c.py", "import app.domain.a")
    [breach] = rules.circles([one, two, three])
    assert "imports in a circle: " in str(breach)
    assert "app.domain.b -> app.domain.c" in str(breach)
    assert not list(rules.circles([one, two, Source("app/domain/c.py", "import app.domain")]))


def test_modules_beside_the_folders_are_few() -> None:
    paths = [f"app/m{number}.py" for number in range(10)]
    assert [breach.path for breach in rules.start_up([*paths, "app/domain/x.py"])] == ["app/m9.py"]
    assert not list(rules.start_up(paths[:9]))
