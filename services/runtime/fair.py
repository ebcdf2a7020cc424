"""Fair pulling: whose unit of work comes next.

A work queue has one durable consumer per lane and tenant. The puller keeps the set of those that may have work, and
picks by two rules:

- lanes: the most urgent one, but of eight consecutive pulls at least one goes to each lower lane that has work;
- tenants of a lane: start-time fair queuing (Goyal et al., 1996) over seconds of audio. Each tenant has a clock that
  its served seconds advance; the smallest goes first; whoever comes back from idleness starts at the lane's present
  time, so that nobody saves up turns.
"""

from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from services.contracts.jobs import Lane

LANES = tuple(Lane)
WINDOW = 8
"""Of so many consecutive pulls, at least one goes to each lower lane that has work."""
REMEMBERED = 10_000
"""Tenants of a lane whose clocks are kept; a forgotten one starts at the lane's present time, like a newcomer."""
Key = tuple[Lane, str]


@dataclass
class _LaneState:
    now: float = 0.0
    clocks: dict[str, float] = field(default_factory=dict)
    busy: set[str] = field(default_factory=set)
    passed_over: int = 0


class Turns:
    """The order of service. Pure: knows nothing of a bus or a clock on the wall."""

    def __init__(self) -> None:
        self._lanes = {lane: _LaneState() for lane in LANES}

    def add(self, lane: Lane, tenant: str) -> None:
        """This tenant may have work in this lane."""
        state = self._lanes[lane]
        if tenant not in state.busy:
            state.busy.add(tenant)
            state.clocks[tenant] = max(state.clocks.get(tenant, 0.0), state.now)

    def remove(self, lane: Lane, tenant: str) -> None:
        """This tenant's queue in this lane was found empty."""
        state = self._lanes[lane]
        state.busy.discard(tenant)
        if len(state.clocks) > REMEMBERED:
            state.clocks = {name: state.clocks[name] for name in state.busy}

    def busy(self) -> list[Key]:
        """Who may have work."""
        return [(lane, tenant) for lane, state in self._lanes.items() for tenant in state.busy]

    def order(self, allowed: Callable[[Lane, str], bool] = lambda _, __: True) -> list[Key]:
        """Everybody who may have work, the next one first."""
        waiting = {
            lane: sorted((t for t in state.busy if allowed(lane, t)), key=lambda t: (state.clocks[t], t))
            for lane, state in self._lanes.items()
        }
        lanes = [lane for lane in LANES if waiting[lane]]
        # A lane that was passed over seven times in a row goes first now, the most urgent of such lanes before others.
        starved = [lane for lane in lanes[1:] if self._lanes[lane].passed_over >= WINDOW - len(lanes) + 1]
        return [
            (lane, tenant) for lane in [*starved, *(x for x in lanes if x not in starved)] for tenant in waiting[lane]
        ]

    def served(self, lane: Lane, tenant: str, seconds: float) -> None:
        """A unit of `seconds` of audio was pulled for this tenant."""
        state = self._lanes[lane]
        start = state.clocks.get(tenant, state.now)
        state.now = max(state.now, start)
        state.clocks[tenant] = start + max(seconds, 1.0)
        state.passed_over = 0
        for other in LANES[LANES.index(lane) + 1 :] + LANES[: LANES.index(lane)]:
            if self._lanes[other].busy:
                self._lanes[other].passed_over += 1

    def more_urgent(
        self, than: Collection[Key], allowed: Callable[[Lane, str], bool] = lambda _, __: True
    ) -> Key | None:
        """Who should go before all those being served: a higher lane, or in the same one a tenant whose turn it is."""
        if not than:
            return None
        lane = min((key[0] for key in than), key=LANES.index)
        tenants = {key[1] for key in than}
        for candidate in self.order(allowed):
            if candidate in than:
                continue
            if LANES.index(candidate[0]) < LANES.index(lane):
                return candidate
            if candidate[0] == lane and candidate[1] not in tenants:
                clocks = self._lanes[lane].clocks
                if all(clocks.get(candidate[1], 0.0) < clocks.get(tenant, 0.0) for tenant in tenants):
                    return candidate
        return None
