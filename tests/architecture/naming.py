"""The rules of names. ARCHITECTURE.md "Words" says what each word means; here are the words to avoid.

Functions do something, so their names begin with verbs. Properties are left out: they read like attributes.
"""

from __future__ import annotations

import ast
import re
from typing import TYPE_CHECKING

from tests.architecture.rules import Breach, names_of, words_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.architecture.rules import Source

VERBS_SHARE_MIN = 0.88

# Words that say nothing about the thing, or mean several: each with what to write instead.
FORBIDDEN = {
    "found": "name what it is: match, record, operation",
    "told": "name what is passed: arguments, details, names",
    "asked": "name what it is: request, directive, original",
    "given": "name what it is",
    "made": "name what it is: generation, result",
    "gone": "name the state: missing, expired, closed",
    "said": "name what it is: sentence, message",
    "heeded": "name what it is: options, capabilities",
    "wishes": "options",
    "cargo": "blobs",
    "plug": "listener",
    "books": "the ledger",
    "terms": "config, limits or adjustments",
    "watcher": "metrics",
    "amnesia": "data loss",
}

# Only verbs: a word that is a noun in our names (order, index, rate, price, record) does not count as one.
_VERBS = """
abandon accepts aclose acquire add admit allow allows announce append apply assign attach attribute
authenticate authorise authorize begin belongs bind break build call can cancel capture change check choose
clamp classify clean clear close collect combine compare compose compute configure confirm construct contains
convert correct count cover covers create cut debit decide decode decompress delete derive describe detect
diagnose discard discover dispatch divide do drain draw drop edit emit encode end enforce ensure enter escape
estimate exceeds exclude expand expire explain export fail feed fetch fill filter find finish fits flatten
follow forget format generate get give greet guard handle has hash hold holds insert inspect install introduce
is iterate join judge keep learn leave list listen load log look make match matches may measure merge mint
must needs normalise normalize note observe open overlay owns paint parse paste pause peek poll prepare
prepend print prune purge put quote read rebuild receive recover recreate redact refresh refuse register
reject release reload remember remove rename render renew replace report require resembles reserve reset
resolve restore restrict resume retrieve retry return revoke rotate run scan select send serve set settle shed
shorten should show shut skip splice split spread start stop store stream strip subscribe sum supervise
supports suppress sweep switch take translate try unescape update uses validate verify void wait wake walk
wants warn watch weigh will withdraw would wrap write
"""
VERBS = frozenset(_VERBS.split())

NAMED_BY_OTHERS = frozenset({"NotFound", "ResultGone", "ViolationFound"})

# Names that a protocol or a library prescribes.
PRESCRIBED = frozenset({"main", "lifespan", "startup", "eof_received", "connection_made", "connection_lost"})


def forbidden_words(source: Source) -> Iterator[Breach]:
    """No identifier that is one of the words to avoid, and no class whose last word is one.

    Errors may be named as HTTP names them, and fields of a surface's models as the API does.
    """
    classes = [node for node in ast.walk(source.tree) if isinstance(node, ast.ClassDef)]
    api = {
        id(field.target)
        for node in classes
        for field in node.body
        if isinstance(field, ast.AnnAssign) and source.part == "surfaces"
    }
    for node, name in names_of(source.tree):
        words = words_of(name)
        word = words[-1] if node in classes and name not in NAMED_BY_OTHERS else "_".join(words)
        if word in FORBIDDEN and id(node) not in api:
            yield source.breach(node, f"{name}: no {word!r} in names; {FORBIDDEN[word]}")


_LUA_NAMES = re.compile(r"\blocal ([\w, ]+)(?= =|$)|\bfunction [\w.]*\(([\w, ]*)\)|\bfor ([\w, ]+) (?:in|=)")


def forbidden_lua_words(path: str, text: str) -> Iterator[Breach]:
    """No local, parameter or loop variable of a Lua script that is one of the words to avoid."""
    for number, line in enumerate(text.splitlines(), 1):
        for names in _LUA_NAMES.findall(line):
            for word in FORBIDDEN.keys() & set(re.findall(r"\w+", " ".join(names))):
                yield Breach(path, number, f"no {word!r} in names; {FORBIDDEN[word]}")


def functions_of(source: Source) -> Iterator[tuple[ast.AST, str]]:
    """Every function that could begin with a verb: no property, and none whose name is prescribed."""
    for node in ast.walk(source.tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            decorators = {ast.unparse(each) for each in node.decorator_list}
            prescribed = node.name.startswith("__") or node.name.strip("_") in PRESCRIBED
            if not prescribed and not decorators & {"property", "cached_property"}:
                yield node, node.name


def begins_with_verb(name: str) -> bool:
    """Whether the first word of a function's name is a verb."""
    return words_of(name)[0] in VERBS


def verbless(sources: Iterable[Source]) -> Iterator[Breach]:
    """Too few functions begin with verbs: then every one that does not is named."""
    functions = [(source, node, name) for source in sources for node, name in functions_of(source)]
    others = [each for each in functions if not begins_with_verb(each[2])]
    if len(others) > (1 - VERBS_SHARE_MIN) * len(functions):
        for source, node, name in others:
            yield source.breach(node, f"{name} does not begin with a verb, as {VERBS_SHARE_MIN:.0%} must")
