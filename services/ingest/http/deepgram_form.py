"""What Deepgram's query parameters ask for, in our own words. Pure."""

from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError

from services.contracts.errors import Code, Problem
from services.contracts.live import Encoding, Start
from services.ingest.options import invalid

MODELS = ("nova", "enhanced", "flux", "whisper")
"""Beginnings of Deepgram's own models: what they mean here is the default model."""
ENCODINGS = {
    "linear16": Encoding.PCM_S16LE,
    "linear32": Encoding.PCM_F32LE,
    "mulaw": Encoding.MULAW,
    "alaw": Encoding.ALAW,
    "ogg-opus": Encoding.CONTAINER,
}
SPEAKERS = "speakers are not told apart"
ANALYSIS = "there is no analysis of the text"
CALLBACK = "send `callback_url` to POST /jobs"
REFUSED = {
    "diarize": SPEAKERS,
    "diarize_model": SPEAKERS,
    "multichannel": "channels are mixed down",
    "redact": "nothing is left out of a transcript",
    "profanity_filter": "nothing is left out of a transcript",
    "detect_entities": ANALYSIS,
    "summarize": ANALYSIS,
    "sentiment": ANALYSIS,
    "topics": ANALYSIS,
    "intents": ANALYSIS,
    "custom_topic": ANALYSIS,
    "custom_topic_mode": ANALYSIS,
    "custom_intent": ANALYSIS,
    "custom_intent_mode": ANALYSIS,
    "search": "search the transcript",
    "replace": "words are given as they were heard",
    "callback": CALLBACK,
    "callback_method": CALLBACK,
    "language_hint": "send one `language`, or none and it is detected",
    "dictation": "spoken punctuation stays words",
}
"""Parameters that cannot be honoured, with the reason; `false` asks for nothing and is taken."""
AS_IS = {
    *("punctuate", "smart_format", "numerals", "filler_words", "paragraphs", "utterances", "utt_split"),
    *("measurements", "version", "tag", "extra", "mip_opt_out", "no_delay", "detect_language"),
}
"""Parameters that ask for what is done anyway, or that change nothing of the words."""
LIVE = {
    *("encoding", "sample_rate", "channels", "interim_results", "endpointing", "utterance_end_ms", "vad_events"),
}
OPTIONS = {"model", "language", "keyterm", "keywords"}
ENDPOINT = (100, 5000)
"""Milliseconds of silence within which our endpoints lie."""


def _on(value: str) -> bool:
    return value.strip().lower() not in ("false", "0", "")


def known(query: Iterable[tuple[str, str]]) -> list[tuple[str, str]]:
    """The parameters, none of which is ignored in silence. Raises `Problem` OPTION_REFUSED, OPTION_UNKNOWN."""
    items = list(query)
    if refused := sorted({name for name, value in items if name in REFUSED and _on(value)}):
        detail = "; ".join(f"`{name}`: {REFUSED[name]}" for name in refused)
        raise Problem(Code.OPTION_REFUSED, detail + ".", options=refused)
    strange = sorted({name[:64] for name, _ in items if name not in {*REFUSED, *AS_IS, *LIVE, *OPTIONS}})
    if strange:
        raise Problem(Code.OPTION_UNKNOWN, ", ".join(f"`{name}`" for name in strange) + ".", options=strange)
    return items


def options(query: Iterable[tuple[str, str]], aliases: Mapping[str, str]) -> dict[str, str]:
    """Model, language and words to listen for, as fields of our own forms."""
    items = known(query)
    given = dict(items)
    model = given.get("model", "")
    model = "" if model.startswith(MODELS) else aliases.get(model, model)
    language = given.get("language", "").partition("-")[0].lower()
    terms = [value.partition(":")[0] for name, value in items if name in ("keyterm", "keywords")]
    found = {"model": model, "language": "" if language == "multi" else language, "hotwords": ", ".join(terms)}
    return {name: value for name, value in found.items() if value}


def start(query: Iterable[tuple[str, str]], aliases: Mapping[str, str], encoding: Encoding | None) -> Start:
    """How a stream is heard. `encoding`: what the first bytes say, where the client does not."""
    items = list(query)
    given = dict(items)
    fields: dict[str, Any] = dict(options(items, aliases))
    if "encoding" in given:
        if given["encoding"] not in ENCODINGS:
            detail = f"`encoding`: one of {', '.join(ENCODINGS)}, or none for a container."
            raise Problem(Code.OPTION_VALUE, detail, options=["encoding"])
        fields["encoding"] = ENCODINGS[given["encoding"]]
    elif encoding is not None:
        fields["encoding"] = encoding
    fields |= {name: given[name] for name in ("sample_rate", "channels", "utterance_end_ms") if name in given}
    fields["interim_results"] = _on(given.get("interim_results", "false"))
    if "endpointing" in given:
        least, most = ENDPOINT
        asked = given["endpointing"].lower()
        if asked == "false":
            fields["endpointing_ms"] = most
        elif asked != "true":
            fields["endpointing_ms"] = max(least, min(most, int(asked))) if asked.isdigit() else asked
    try:
        return Start.model_validate(fields)
    except ValidationError as error:
        raise invalid(error) from None


def wants_events(query: Mapping[str, str]) -> bool:
    """Whether `SpeechStarted` is wanted."""
    return _on(query.get("vad_events", "false"))
