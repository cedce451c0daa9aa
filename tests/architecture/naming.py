"""The rules of names: ARCHITECTURE.md "Words" says which word means what, and this says which to avoid.

A name that a reader must decode is given to the field's word instead. Functions do something, so their names
begin with verbs; properties are left out, because they are read like attributes.
"""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING

from tests.architecture.rules import Breach, names_of, words_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from tests.architecture.rules import Source

VERBS_SHARE_MIN = 0.85

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
    "utensil": "name what it is",
}

# Only verbs: a word that is a noun in our names (order, index, rate, price, record) does not count as one.
VERBS = frozenset(
    """
    abandon aclose acquire add admit allow announce append apply assign attach attribute authenticate authorise
    authorize begin bind break build call cancel capture change check choose clamp classify clean clear close
    collect combine compare compose compute configure confirm construct convert correct count cover create cut
    debit decide decode decompress delete derive describe detect diagnose discard discover dispatch divide do
    drain draw drop edit emit encode end enforce ensure enter escape estimate exclude expand expire explain export
    fail feed fetch fill filter find finish flatten follow forget format generate get give greet guard handle hash
    hold insert inspect install introduce iterate join judge keep learn leave list listen load log look make match
    measure merge mint normalise normalize note observe open overlay paint parse paste pause peek poll prepare
    prepend print prune purge put quote read rebuild receive recover recreate redact refresh refuse register
    reject release reload remember remove rename render renew replace report require reserve reset resolve restore
    restrict resume retrieve retry return revoke rotate run scan select send serve set settle shed shorten show
    shut skip splice split spread start stop store stream strip subscribe sum supervise suppress sweep switch take
    translate try unescape update validate verify void wait wake walk warn watch weigh withdraw wrap write
    allows accepts belongs can contains covers exceeds fits has holds is may matches must needs owns resembles
    should supports uses wants will would
    """.split()
)

# Names that a protocol or a library prescribes.
PRESCRIBED = frozenset({"main", "lifespan", "startup", "eof_received", "connection_made", "connection_lost"})


def forbidden_words(source: Source) -> Iterator[Breach]:
    """No identifier that is one of the words to avoid, alone or as the last of several."""
    for node, name in names_of(source.tree):
        word = words_of(name)[-1]
        if word in FORBIDDEN:
            yield source.breach(node, f"{name}: no {word!r} in names; {FORBIDDEN[word]}")


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
