"""The ledger in plain Python: how holds end, and the rules of admission, without a store."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from app.domain.budget import AMOUNT_MAX, Amounts, Budget
from app.domain.rate import RateLimit

if TYPE_CHECKING:
    from app.domain.request import CacheMode

BUDGETS = (
    Budget("image_tokens", "day", 20),
    Budget("images", "lifetime", 6),
    Budget("usd", "day", 3, mode="shadow"),
    Budget("all_output_tokens", "day", 30),
    Budget("total_tokens", "day", 60),
    Budget("images", "day", 4, "user"),
    Budget("images", "day", 4, "user"),
    Budget("images", "day", 4, "user"),
)
USERS = ("ann", "bob", "cyd")
OWNERS = (*["t"] * (len(BUDGETS) - len(USERS)), *(f"u:{user}" for user in USERS))
CAP = RateLimit("concurrent", "tenant", "t|concurrent", 4)

Outcome = Literal["settle", "void", "charge"]
ENDS: dict[Outcome, str] = {"settle": "s", "void": "v", "charge": "c"}
NOTHING = (0,) * len(BUDGETS)


def places_of(user: str | None) -> list[int]:
    """The budgets that a request for this user counts in, by their places in BUDGETS."""
    return [place for place, owner in enumerate(OWNERS) if owner in {"t", f"u:{user}"}]


def counted(values: Amounts, user: str | None) -> tuple[int, ...]:
    """The amounts in the order of BUDGETS: nothing in those of other users."""
    places = places_of(user)
    return tuple(
        getattr(values, budget.unit) if place in places else 0 for place, budget in enumerate(BUDGETS)
    )


def worst_of(est: Amounts) -> Amounts:
    """The most that a request can cost of which this is expected."""
    return Amounts(*(min(AMOUNT_MAX, amount + amount // 2) for amount in est))


@dataclass
class Hold:
    """A hold as the model remembers it; ``due`` where its lease is over and nobody has noticed yet."""

    work: str
    est: Amounts
    leads: bool
    began: int
    state: str = "h"
    act: Amounts | None = None
    late: bool = False
    published: bool = False
    due: bool = False
    claim: str | None = None
    user: str | None = None

    @property
    def open(self) -> bool:
        return self.state in "hd"

    @property
    def booked(self) -> tuple[int, ...]:
        if self.state == "s":
            assert self.act is not None
            return counted(self.act, self.user)
        return counted(self.est, self.user) if self.state == "c" else NOTHING

    @property
    def covered(self) -> tuple[int, ...]:
        """What admission counts for it while nobody knows what it used."""
        return counted(worst_of(self.est), self.user) if self.open or self.state == "c" else NOTHING


@dataclass
class Claimed:
    """The one idempotency key as the model remembers it: whose it is, for what, and what came of it."""

    claim: str
    work: str
    state: str
    hold: str = ""


@dataclass
class Model:
    """The books in plain Python."""

    limits: list[int] = field(default_factory=lambda: [budget.limit for budget in BUDGETS])
    holds: dict[str, Hold] = field(default_factory=dict)
    lead: dict[str, str] = field(default_factory=dict)
    failed: dict[str, str] = field(default_factory=dict)
    kept: dict[str, tuple[str, int]] = field(default_factory=dict)
    overage: list[int] = field(default_factory=lambda: [0] * len(BUDGETS))
    ticks: int = 0
    credits: dict[str, int] = field(default_factory=dict)
    key: Claimed | None = None
    active: set[str] = field(default_factory=set)
    users_max: int = len(USERS)

    def limit(self, i: int) -> int:
        prepaid = BUDGETS[i].window == "lifetime"
        return self.limits[i] + (sum(self.credits.values()) if prepaid else 0)

    def settled(self) -> list[int]:
        return [sum(hold.booked[i] for hold in self.holds.values()) for i in range(len(BUDGETS))]

    def held(self) -> list[int]:
        return [
            sum(hold.covered[i] for hold in self.holds.values() if hold.open) for i in range(len(BUDGETS))
        ]

    def unresolved(self) -> list[int]:
        return [
            sum(hold.covered[i] - hold.booked[i] for hold in self.holds.values() if hold.state == "c")
            for i in range(len(BUDGETS))
        ]

    def taken(self, i: int) -> int:
        return self.settled()[i] + self.held()[i] + self.unresolved()[i]

    def tick(self) -> int:
        self.ticks += 1
        return self.ticks

    def expire(self, hold: Hold) -> None:
        if hold.due and hold.open:
            hold.state = "c" if hold.state == "d" else "x"
        hold.due = False

    def admit(
        self,
        name: str,
        work: str,
        est: Amounts,
        mode: CacheMode,
        following: str | None,
        claim: str | None = None,
        user: str | None = None,
    ) -> str:
        known = self.holds.get(name)
        if known:
            return self._again(known, work, est)
        answer = self._claimed(work, claim) if claim else None
        if answer:
            return answer
        if mode != "bypass":
            answer = self._shared(name, work, mode, following)
            if answer:
                self._keep_key(work, claim, answer)
                return answer
        answer = self._refused(est, user)
        if answer:
            self._keep_key(work, claim, answer)
            return answer
        self.holds[name] = Hold(work, est, mode != "bypass", self.tick(), claim=claim, user=user)
        if user:
            self.active.add(user)
        if claim:
            self.key = Claimed(claim, work, "r", name)
        beside = mode == "refresh" and work in self.lead
        if mode != "bypass" and not beside:
            self.lead[work] = name
            self.failed.pop(work, None)
        return "lead"

    def _again(self, known: Hold, work: str, est: Amounts) -> str:
        if (known.work, known.est) != (work, est):
            return "error"
        self.expire(known)
        return "lead" if known.open else "error"

    def _refused(self, est: Amounts, user: str | None) -> str | None:
        if user and user not in self.active and len(self.active) >= self.users_max:
            return "crowded"
        for hold in self.holds.values():
            self.expire(hold)
        worst = counted(worst_of(est), user)
        enforced = [i for i, budget in enumerate(BUDGETS) if budget.mode == "enforce" and worst[i]]
        if any(self.taken(i) + worst[i] > self.limit(i) for i in enforced) and any(
            self.taken(i) + counted(est, user)[i] > self.limit(i) for i in enforced
        ):
            return "refused"
        return "limited" if sum(hold.open for hold in self.holds.values()) >= CAP.limit else None

    def _claimed(self, work: str, claim: str) -> str | None:
        key = self.key
        if key is None or key.claim == claim:
            return None
        if key.work != work:
            return "mismatch"
        if key.state in "df":
            return f"replayed {key.hold}"
        hold = self.holds.get(key.hold)
        if hold:
            self.expire(hold)
        return "in flight" if key.state == "u" or not key.hold or (hold and hold.open) else None

    def _keep_key(self, work: str, claim: str | None, answer: str) -> None:
        """What an admission that makes no hold does to the key of the one who asked."""
        if claim and answer.startswith("hit"):
            self.key = Claimed(claim, work, "d", answer.removeprefix("hit "))
        elif claim and answer.startswith("follow"):
            self.key = Claimed(claim, work, "r")
        elif claim and self.key and self.key.claim == claim:
            self.key = None

    def answer_key(self, name: str, state: str) -> None:
        """What the end of a hold does to the key that it was made under."""
        hold = self.holds[name]
        if state == "free":
            if self.key and self.key.claim == hold.claim:
                self.key = None
        elif hold.claim and (self.key is None or self.key.claim == hold.claim):
            self.key = Claimed(hold.claim, hold.work, state[0], name)

    def _shared(self, name: str, work: str, mode: CacheMode, following: str | None) -> str | None:
        kept = self.kept.get(work)
        if kept and (kept[0] == following or mode != "refresh"):
            return f"hit {kept[0]}"
        if mode == "only_if_cached":
            return "absent"
        if work in self.failed:
            return f"failed {following}" if self.failed[work] == following else None
        leader = self.lead.get(work)
        return f"follow {leader}" if leader and leader != name and mode != "refresh" else None

    def dispatch(self, name: str, work: str) -> str:
        hold = self.holds.get(name)
        if hold is None:
            return "no"
        if hold.work != work:
            return "error"
        self.expire(hold)
        if not hold.open:
            return "no"
        hold.state = "d"
        if hold.leads and work not in self.failed:
            self.lead.setdefault(work, name)
        return "yes"

    def settle(
        self, name: str, work: str, outcome: Outcome, act: Amounts, *, publish: bool, failure: bool
    ) -> tuple[str, bool, bool, bool] | str:
        hold = self.holds.get(name)
        if hold is None:
            return ("unknown", False, False, False)
        if hold.work != work:
            return "error"
        self.expire(hold)
        end = ENDS[outcome]
        if hold.state == end:
            if outcome == "settle" and hold.act != act:
                return "error"
            return (end, True, hold.late, hold.published)
        if hold.state in "sv":
            return "error"
        reserved = hold.covered
        hold.late = hold.late or not hold.open
        hold.state, hold.act = end, act if outcome == "settle" else None
        for i in range(len(BUDGETS)):
            self.overage[i] += max(0, hold.booked[i] - reserved[i])
        if hold.leads:
            self._end_lead(name, hold, publish=publish, failure=failure)
        return (end, False, hold.late, hold.published)

    def _end_lead(self, name: str, hold: Hold, *, publish: bool, failure: bool) -> None:
        work = hold.work
        mine = name in {self.lead.get(work), self.failed.get(work)}
        free = work not in self.lead and work not in self.failed
        superseded = self.kept.get(work, ("", 0))[1] > hold.began
        if publish and (mine or (free and not superseded)):
            self.kept[work] = (name, self.tick())
            hold.published = True
        if mine:
            self.lead.pop(work, None)
            self.failed.pop(work, None)
            if failure and not hold.published:
                self.failed[work] = name
