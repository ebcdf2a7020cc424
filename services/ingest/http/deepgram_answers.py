"""Transcripts and live messages in the shapes of Deepgram's API. Pure."""

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from services.contracts.events import Record
from services.contracts.transcript import Transcript, Word

_NOTHING: dict[str, Any] = {"text": "", "words": ()}
CHANNEL = [0, 1]
"""Index and number of channels: they are mixed down."""


def _word(word: Mapping[str, Any]) -> dict[str, Any]:
    said = str(word["word"]).strip()
    return {
        "word": said.strip('.,;:!?"“”…').lower() or said,
        "start": word["start"],
        "end": word["end"],
        "confidence": word["probability"],
        "punctuated_word": said,
    }


def alternative(text: str, words: Iterable[Mapping[str, Any]]) -> dict[str, Any]:
    """One way to hear it; there is only one. Its confidence is the mean of its words'."""
    found = [_word(word) for word in words]
    confidence = sum(one["confidence"] for one in found) / len(found) if found else 0.0
    return {"transcript": text.strip(), "confidence": round(confidence, 4), "words": found}


def _model(model: str) -> dict[str, str]:
    return {"name": model, "version": "whisper", "arch": "whisper"}


def _when(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


class Translator:
    """Our live messages as Deepgram's, for one stream."""

    def __init__(self, *, events: bool, utterance_ends: bool, now: float) -> None:
        self._events = events
        self._utterance_ends = utterance_ends
        self._created = now
        self._session = ""
        self._model = ""

    def of(self, message: Mapping[str, Any]) -> dict[str, Any] | None:
        """What is said of it; None where Deepgram says nothing."""
        match message["type"]:
            case "ready":
                self._session, self._model = message["session_id"], message["model"]
                return None
            case "speech_started" if self._events:
                return {"type": "SpeechStarted", "channel": CHANNEL, "timestamp": message["position"]}
            case "interim":
                return self._results(message, final=False)
            case "final":
                return self._results(message, final=True)
            case "utterance_end" if message.get("from_finalize"):
                # Nothing was left to be made final: the session says only where its words end.
                end = message["last_word_end"]
                return self._results({"start": end, "end": end, "from_finalize": True} | _NOTHING, final=True)
            case "utterance_end" if self._utterance_ends:
                return {"type": "UtteranceEnd", "channel": CHANNEL, "last_word_end": message["last_word_end"]}
            case "error":
                return self.refusal(message)
            case _:
                return None

    def refusal(self, problem: Mapping[str, Any]) -> dict[str, Any]:
        """What came to nothing, and why."""
        return {
            "type": "Error",
            "variant": problem["code"],
            "description": problem["title"],
            "message": " ".join(filter(None, (problem.get("detail"), problem.get("remedy")))),
        }

    def not_configured(self) -> dict[str, Any]:
        """The answer to `Configure`: a session is heard as it was opened."""
        return {
            "type": "ConfigureFailure",
            "request_id": self._session,
            "code": "CONFIGURE_KEYTERMS_NOT_SUPPORTED",
            "description": "Nothing can be changed while a stream is open: open another one.",
        }

    def _results(self, message: Mapping[str, Any], *, final: bool) -> dict[str, Any]:
        return {
            "type": "Results",
            "channel_index": CHANNEL,
            "start": message["start"],
            "duration": round(max(0.0, message["end"] - message["start"]), 3),
            "is_final": final,
            "speech_final": bool(message.get("speech_final")),
            "from_finalize": bool(message.get("from_finalize")),
            "channel": {"alternatives": [alternative(message["text"], message["words"])]},
            "metadata": {"request_id": self._session, "model_info": _model(self._model), "model_uuid": self._model},
        }

    def metadata(self, duration: float, sha256: str) -> dict[str, Any]:
        """The last message; `sha256` is that of the audio as it came in."""
        return {
            "type": "Metadata",
            "transaction_key": "deprecated",
            "request_id": self._session,
            "sha256": sha256,
            "created": _when(self._created),
            "duration": duration,
            "channels": 1,
            "models": [self._model],
            "model_info": {self._model: _model(self._model)},
        }


def schema_error() -> dict[str, Any]:
    """The answer to a text message that is none. What was sent is not repeated."""
    description = "The `type` of a message is KeepAlive, Finalize or CloseStream."
    return {"type": "Error", "variant": "SchemaError", "description": description}


def prerecorded(transcript: Transcript, record: Record, *, utterances: bool) -> bytes:
    """The answer to `POST /v1/listen`. Takes a while for a long one: not for the event loop."""
    channel: dict[str, Any] = {"alternatives": [alternative(transcript.text, map(_plain, transcript.words))]}
    if transcript.language:
        channel |= {"detected_language": transcript.language, "language_confidence": transcript.language_probability}
    results: dict[str, Any] = {"channels": [channel]}
    if utterances:
        results["utterances"] = [
            {"id": f"{record.job}-{n}", "start": one.start, "end": one.end, "channel": 0}
            | alternative(one.text, map(_plain, one.words))
            for n, one in enumerate(transcript.segments)
        ]
    metadata = {
        "transaction_key": "deprecated",
        "request_id": record.job,
        "sha256": record.sha256 or "",
        "created": _when(record.timings.accepted),
        "duration": transcript.duration,
        "channels": 1,
        "models": [transcript.model],
        "model_info": {transcript.model: _model(transcript.model)},
    }
    return json.dumps({"metadata": metadata, "results": results}, ensure_ascii=False).encode()


def _plain(word: Word) -> dict[str, Any]:
    return {"word": word.word, "start": word.start, "end": word.end, "probability": word.probability}
