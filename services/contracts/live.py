"""Live speech: what client and ingest say on the socket, and what ingest and transcriber say on the bus.

A live session is a job from its first frame on: its id is the job's id. Positions of audio that came in are bytes of
the client's own encoding; positions of what was heard are seconds of the session's audio.
"""

from enum import IntEnum, StrEnum
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field

from services.contracts.jobs import Frozen, Options
from services.contracts.transcript import Segment, Word

VERSION = 1
"""Of this protocol; `ready` says it."""
CHUNK = 0.1
"""Seconds of audio in one message on the bus, at most: what a killed ingest costs is not acknowledged."""
CHUNK_BYTES = 32 << 10
"""Bytes of one message on the bus, at most, where the encoding does not tell its seconds."""
RESUME_WITHIN = 60.0
"""Seconds for which a session without its client waits to be resumed."""

# The log of a session's input, `live.<session>.audio`: one message per chunk or operation, in order, each published
# with Nats-Expected-Last-Subject-Sequence, so that two ingests can never both write (the older one is refused: 4409).
OFFSET = "Desifre-Offset"
"""Header of every message of the input: bytes of audio before this message."""
OP = "Desifre-Op"
"""Header of a message of the input without audio: `finalize`, `end` or `lost`, see `Op`."""

LINE = "Desifre-Line"
"""Header of what ingest writes to the input: a mark of the socket's own, by which it knows its messages."""


class Op(StrEnum):
    """What a message of the input without audio asks for."""

    FINALIZE = "finalize"
    """Make everything that was heard final now."""
    END = "end"
    """The client has closed: flush, summarise, become a job like any other. Nothing follows."""
    LOST = "lost"
    """The client did not come back in time; as END."""
    LIMIT = "limit"
    """As much was sent as a session may have; as END, and the session says `too_long`."""
    OVER = "over"
    """The engine ends the session by itself; as END. What was acknowledged before it is its recording."""
    BEAT = "beat"
    """The client is there and sends nothing (keepalive), or the socket has just been resumed."""


ENDS = (Op.END, Op.LOST, Op.LIMIT, Op.OVER)
"""Behind one of these nothing is taken in any more."""


class Encoding(StrEnum):
    """What the binary frames hold. The raw ones have a rate and channels; containers are decoded in the sandbox."""

    PCM_S16LE = "pcm_s16le"
    PCM_F32LE = "pcm_f32le"
    MULAW = "mulaw"
    ALAW = "alaw"
    CONTAINER = "container"
    """WebM, Ogg or MP4 as browsers record it: the first bytes tell."""

    @property
    def bytes_per_sample(self) -> int | None:
        """Of one channel; None for containers, which do not tell."""
        return {"pcm_s16le": 2, "pcm_f32le": 4, "mulaw": 1, "alaw": 1}.get(self.value)


class LiveOptions(Frozen):
    """How a session is heard and told; the defaults are those of a client that just sends audio."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    encoding: Encoding = Encoding.PCM_S16LE
    sample_rate: Annotated[int, Field(ge=8000, le=96000, description="Hz, of the raw encodings")] = 16000
    channels: Annotated[int, Field(ge=1, le=2, description="interleaved; mixed down")] = 1
    interim_results: bool = True
    endpointing_ms: Annotated[
        int, Field(ge=100, le=5000, description="silence after speech that ends an utterance")
    ] = 500
    utterance_end_ms: Annotated[
        int | None, Field(ge=500, le=10000, description="silence after the last word until `utterance_end` is said")
    ] = None

    @property
    def bytes_per_second(self) -> float | None:
        """Of the client's encoding; None for containers."""
        size = self.encoding.bytes_per_sample
        return None if size is None else float(size * self.sample_rate * self.channels)


class Session(Frozen):
    """`live.<session>.open`: the one message by which transcribers find a session. Enough to hear it."""

    session: str
    tenant: str
    options: Options
    live: LiveOptions
    opened: float = Field(description="Unix seconds")
    max_seconds: float = Field(description="of audio; the session is ended there")
    lost: bool = Field(default=False, description="with the bus: what of it is in the store is all that there is")


class Lease(Frozen):
    """Key `<session>` of the bucket `sessions`: which engine hears it. Gone when it is not renewed."""

    engine: str
    since: float = Field(description="Unix seconds")
    process: str = Field(default="", description="of the engine, for others on its machine: whether it still runs")


class LiveCard(Frozen):
    """What a transcriber says of its room for live sessions, in its card."""

    capacity: int = Field(description="sessions that it can hear at once, by what was measured")
    sessions: int
    lag: float = Field(default=0.0, description="seconds that the slowest of them is behind")


# ---- `live.<session>.out`: what the transcriber says; ingest passes it on with a cursor. Published with
# Nats-Expected-Last-Subject-Sequence, so that of two transcribers only the one that knows the last word can go on.


class Heard(Frozen):
    """Base of what the transcriber says. `position`: seconds of the session's audio that it stands for."""

    position: float


class Claimed(Heard):
    """An engine hears the session. `warm`: the model is loaded; else `ready_in` seconds are expected."""

    type: Literal["claimed"] = "claimed"
    engine: str
    warm: bool
    ready_in: float | None = None
    input: int = Field(default=0, description="sequence of the last message of the input that was taken in")


class SpeechStarted(Heard):
    """Somebody began to speak at `position`."""

    type: Literal["speech_started"] = "speech_started"


class Interim(Heard):
    """What is heard so far after the last final; replaced by the next interim or final."""

    type: Literal["interim"] = "interim"
    start: float
    end: float
    text: str
    words: tuple[Word, ...] = ()


class Final(Heard):
    """Words that never change. The transcript of the session is the finals, in order."""

    type: Literal["final"] = "final"
    n: int = Field(description="0, 1, 2 …: none is missing, none comes twice")
    start: float
    end: float
    text: str
    words: tuple[Word, ...] = ()
    segment: Segment
    speech_final: bool = Field(default=False, description="an endpoint: the speaker paused")
    from_finalize: bool = False
    input: int = Field(default=0, description="sequence in the input up to which nothing needs to be heard again")
    resume: float = Field(default=0.0, description="seconds from which another engine must hear on")
    done: int = Field(default=0, description="sequence in the input up to which operations have their answer")


class Quiet(Heard):
    """Nobody has spoken since the last final, up to `position`; about every half minute."""

    type: Literal["quiet"] = "quiet"
    input: int = Field(default=0, description="as in `Final`")
    resume: float = Field(default=0.0, description="as in `Final`")


class UtteranceEnd(Heard):
    """`utterance_end_ms` have passed since the last word, or the endpoint where that is not set."""

    type: Literal["utterance_end"] = "utterance_end"
    last_word_end: float
    from_finalize: bool = Field(default=False, description="the answer to a `finalize` that found nothing left")
    done: int = Field(default=0, description="as in `Final`")


class Lag(Heard):
    """The engine is this far behind the audio that arrived; told when it grows beyond a second, and when it is over."""

    type: Literal["lag"] = "lag"
    seconds: float


class Ended(Heard):
    """Nothing more is heard: the job has its outcome. The last message of a session."""

    type: Literal["ended"] = "ended"
    state: str
    duration: float
    finals: int
    code: str | None = None


Out = Claimed | SpeechStarted | Interim | Final | Quiet | UtteranceEnd | Lag | Ended


class Kept(Frozen):
    """`live/<n>.json` in the store: finals from the `n`th on, while a session lasts."""

    finals: tuple[Final, ...]
    heard: float = Field(description="seconds of the session up to which everything was heard")
    arrived: float = Field(description="seconds of the session that had come in")


# ---- the socket: what the client says


class Start(LiveOptions):
    """Client, first: how it wants to be heard. Any option of a job that makes sense live is taken as well."""

    type: Literal["start"] = "start"
    model: str | None = None
    language: str | None = None
    prompt: str | None = None
    hotwords: str | None = None
    word_timestamps: bool = True
    name: str | None = None


class Resume(Frozen):
    """Client, first, instead of `start`: go on with a session after the message with this cursor."""

    type: Literal["resume"] = "resume"
    session_id: str
    after: str | None = None


class Finalize(Frozen):
    """Client: make final what was heard, now."""

    type: Literal["finalize"] = "finalize"


class KeepAlive(Frozen):
    """Client: nothing to send, still there."""

    type: Literal["keepalive"] = "keepalive"


class CloseStream(Frozen):
    """Client: flush, send the summary, close."""

    type: Literal["close"] = "close"


# ---- the socket: what ingest says besides `Out` (which gets `session_id` and `cursor`)


class Ready(Frozen):
    """Server: the session is open, or resumed. Send audio from byte `received` on."""

    type: Literal["ready"] = "ready"
    version: int = VERSION
    session_id: str
    job_id: str
    model: str
    warm: bool = Field(description="the model is loaded")
    ready_in: float | None = Field(default=None, description="seconds until the first words, when it is not")
    resumed: bool = False
    received: int = Field(default=0, description="bytes of audio that are safe; send on from there")
    cursor: str | None = None


class Received(Frozen):
    """Server: these bytes of audio are on the disk of the bus: the client may forget them."""

    type: Literal["received"] = "received"
    received: int
    seconds: float | None = Field(default=None, description="where the encoding tells")


class Summary(Frozen):
    """Server, last: the session is a finished job."""

    type: Literal["summary"] = "summary"
    session_id: str
    job_id: str
    cursor: str
    state: str
    duration: float
    text: str
    urls: dict[str, str]
    error: dict[str, Any] | None = None


class LiveClose(IntEnum):
    """Codes with which a live socket is closed, besides those of streams."""

    DONE = 1000
    """After the summary."""
    REFUSED = 1008
    """What was asked cannot be: the error before says why."""
    FULL = 1013
    """No engine has room: the reason says when to come back."""
    IDLE = 4408
    """Nothing came for too long: no session was begun, or the summary before is of what was heard."""
    TAKEN = 4409
    """Another socket has resumed this session."""
    BROKEN = 4500
    """Something of the service is away. The session can be resumed."""
