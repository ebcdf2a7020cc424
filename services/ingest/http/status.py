"""GET /status: what the machine is doing, for its operator."""

import time
from importlib.metadata import version

from aiohttp import web
from pydantic import BaseModel, Field

from services.contracts.auth import Scope
from services.contracts.events import EngineCard
from services.contracts.jobs import Lane
from services.contracts.live import LiveCard
from services.ingest.activity import STEP, STEPS, Activity
from services.ingest.engines import Engines
from services.ingest.http.answers import answer
from services.ingest.http.route import Answer, Route
from services.ingest.queue import Queue
from services.ingest.streams import Streams
from services.runtime.health import Health


class ServiceStatus(BaseModel):
    """The process that answers."""

    version: str
    started: float = Field(description="Unix seconds")
    checks: dict[str, str] = Field(description="each thing that it needs, `ok` or what is wrong with it")


class LaneStatus(BaseModel):
    """What waits in a lane, or is in hand."""

    lane: Lane
    units: int = Field(description="parts, and jobs that are not cut yet")
    seconds: float = Field(description="of audio that is still to be heard; guessed for what is not decoded yet")
    jobs: int
    tenants: int


class LoadedModel(BaseModel):
    """A model in an engine's memory."""

    name: str
    bytes: int | None
    pinned: bool


class EngineStatus(BaseModel):
    """An engine, as it says of itself."""

    id: str
    device: str
    engine: str
    slots: int
    busy: int | None = Field(description="batches on the engine now")
    rate: float | None = Field(description="seconds of audio per second, measured over the last minutes")
    models: list[LoadedModel]
    live: LiveCard | None


class ThroughputStatus(BaseModel):
    """Numbers per step, oldest first; the last step is being filled. Counted since this process started."""

    step: float = Field(description="seconds")
    until: float = Field(description="Unix seconds at which the last step ends")
    audio: list[float] = Field(description="seconds of audio that were transcribed")
    completed: list[int]
    failed: list[int]


class FailureStatus(BaseModel):
    """Jobs that failed with one code in the last day."""

    code: str
    count: int
    last: float = Field(description="Unix seconds")
    ours: bool = Field(description="the service's fault, not the recording's")


class Status(BaseModel):
    """What the machine is doing."""

    time: float = Field(description="Unix seconds")
    service: ServiceStatus
    lanes: list[LaneStatus] = Field(description="most urgent first")
    engines: list[EngineStatus]
    live: LiveCard = Field(description="of all engines together; `lag` of the slowest")
    streams_open: int = Field(description="sockets and responses of events at this process")
    throughput: ThroughputStatus
    failures: list[FailureStatus] = Field(description="most recent first")


class StatusRoutes:
    """The one route. It asks nothing of the bus that was asked a second ago: it may be polled."""

    def __init__(self, activity: Activity, queue: Queue, engines: Engines, streams: Streams, health: Health) -> None:
        self._activity = activity
        self._queue = queue
        self._engines = engines
        self._streams = streams
        self._health = health

    def routes(self) -> list[Route]:
        """The route, with what the reference says."""
        text = f"What the machine is doing; throughput of the last {STEP * STEPS / 60:g} minutes"
        return [
            Route(
                "GET",
                "/status",
                self.status,
                "Look at the machine: queues, engines, throughput, failures",
                scope=Scope.ADMIN,
                answers={200: Answer(text, Status)},
            )
        ]

    async def status(self, _: web.Request) -> web.StreamResponse:
        """Numbers and codes: nobody's names or ids."""
        checks = await self._health.check()
        lanes = [
            LaneStatus(lane=one.lane, units=one.units, seconds=one.seconds, jobs=one.jobs, tenants=one.tenants)
            for one in await self._queue.lanes()
        ]
        cards = await self._engines.cards()
        passed = self._activity.throughput()
        return answer(
            Status(
                time=round(time.time(), 3),
                service=ServiceStatus(
                    version=version("desifre"), started=round(self._activity.started, 3), checks=checks
                ),
                lanes=lanes,
                engines=[engine_status(card) for card in sorted(cards, key=lambda card: card.id)],
                live=_live([card.live for card in cards if card.live is not None]),
                streams_open=self._streams.count,
                throughput=ThroughputStatus(
                    step=STEP,
                    until=passed.until,
                    audio=passed.audio,
                    completed=passed.completed,
                    failed=passed.failed,
                ),
                failures=[
                    FailureStatus(code=one.code, count=one.count, last=round(one.last, 3), ours=one.ours)
                    for one in self._activity.failures()
                ],
            )
        )


def engine_status(card: EngineCard) -> EngineStatus:
    """What is shown of an engine."""
    return EngineStatus(
        id=card.id,
        device=card.device,
        engine=card.engine,
        slots=card.slots,
        busy=card.busy,
        rate=None if card.rate is None else round(card.rate, 2),
        models=[
            LoadedModel(name=model.name, bytes=model.bytes, pinned=model.pinned)
            for model in card.models
            if model.loaded
        ],
        live=card.live,
    )


def _live(cards: list[LiveCard]) -> LiveCard:
    return LiveCard(
        capacity=sum(card.capacity for card in cards),
        sessions=sum(card.sessions for card in cards),
        lag=max((card.lag for card in cards), default=0.0),
    )
