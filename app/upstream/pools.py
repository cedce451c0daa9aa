"""Spreads the calls of a pool over its credentials.

A credential that has asked for a rest is not asked while another one can be: after a 429 until its quota is
expected to be free, after refused credentials until it is probed, and while its breaker is open. The others
take turns by weight, and one with a free slot comes before one with a queue (docs/decisions/0059).
"""

from __future__ import annotations

import math
from hashlib import blake2b
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Sequence

    from app.domain.request import GenerationRequest
    from app.upstream.back_end import GuardedBackEnd


def arrange_pool(members: Sequence[GuardedBackEnd], request: GenerationRequest) -> tuple[GuardedBackEnd, ...]:
    """The credentials of one back end to ask, in this order; at least one.

    A request in Google's dialect begins with the credential that its first turn chooses, so that other
    replicas look for its signatures there.
    """
    awake = [each for each in members if not each.compute_rest_s(request)]
    if not awake:
        return (min(members, key=lambda each: each.compute_rest_s(request)),)
    ordered = rank_by_opening(awake, request.opening) if request.opening else _take_turns(awake)
    free = [each for each in ordered if not each.count_backlog(request.model)]
    busy = sorted(
        (each for each in ordered if each not in free), key=lambda each: each.count_backlog(request.model)
    )
    # At most one queue, because a call waits in one after the other.
    return (*free, *busy[:1])


def rank_by_opening(members: Sequence[GuardedBackEnd], opening: str) -> list[GuardedBackEnd]:
    """The credentials in the order in which a conversation's first turn prefers them, by weight.

    It is the same in every replica, and one more or less moves only its own share (rendezvous hashing).
    """

    def score(member: GuardedBackEnd) -> float:
        digest = blake2b(f"{opening} {member.name}".encode(), digest_size=8).digest()
        drawn = (int.from_bytes(digest) + 1) / (2**64 + 1)
        return -member.weight / math.log(drawn)

    return sorted(members, key=score, reverse=True)


def _take_turns(members: Sequence[GuardedBackEnd]) -> list[GuardedBackEnd]:
    """Smooth weighted round robin: each gains its weight, and who leads pays for all."""
    total = sum(each.weight for each in members)
    for each in members:
        each.credit = min(each.credit + each.weight, total)
    ordered = sorted(members, key=lambda each: -each.credit)
    ordered[0].credit -= total
    return ordered
