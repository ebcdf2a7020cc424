"""A caller's options, from form fields, query or JSON, to `contracts.jobs.Options`: pure, with every error named."""

from collections.abc import Collection, Mapping
from difflib import get_close_matches

from pydantic import ValidationError

from services.contracts.errors import Code, Problem
from services.contracts.events import ModelCard
from services.contracts.jobs import Options
from services.contracts.languages import language_code
from services.runtime.jsapi import Unavailable

ALIASES = {"model_type": "model", "initial_prompt": "prompt", "vad_filter": "vad"}
"""Other names of options: the old service's, and Whisper's own."""

SAME_MODEL = {"large": "large-v3"}
"""Names that engines take for another model's."""

WHISPER = frozenset(
    [f"{size}{ending}" for size in ("tiny", "base", "small", "medium") for ending in ("", ".en")]
    + ["large", "large-v1", "large-v2", "large-v3", "large-v3-turbo"]
)
"""Models that a caller may name while no engine has said yet which it has: the job waits for one that has it."""

_WINDOWS = "the engine works in windows cut at silences, each heard on its own"
REFUSED = {
    "clip_timestamps": f"{_WINDOWS}; cut the recording before you send it",
    "condition_on_previous_text": f"{_WINDOWS}; give context with `prompt`",
    "prompt_reset_on_temperature": f"{_WINDOWS}; there is no previous text to reset",
    "chunk_length": "the length of windows follows the silences of the recording",
    "chunk_size": "the length of windows follows the silences of the recording",
    "batch_size": "the engine batches by what is waiting",
    "prefix": "a window begins wherever a silence ends; give context with `prompt`",
    "best_of": "sampling is only the fallback of a failed beam search",
    "patience": "beam search runs with a patience of 1",
    "length_penalty": "the length of a window's text is bounded by its audio",
    "repetition_penalty": "repetition is stopped by the compression ratio and marked in `coverage.suspect`",
    "no_repeat_ngram_size": "repetition is stopped by the compression ratio and marked in `coverage.suspect`",
    "compression_ratio_threshold": "suspected text is marked in `coverage.suspect`, never deleted",
    "log_prob_threshold": "suspected text is marked in `coverage.suspect`, never deleted",
    "logprob_threshold": "suspected text is marked in `coverage.suspect`, never deleted",
    "no_speech_threshold": "speech is found once per recording; see `coverage.non_speech`",
    "vad_parameters": "speech is found once per recording, for all of its parts; switch it off with `vad=false`",
    "max_new_tokens": "the number of tokens is bounded by the audio of each window",
    "max_initial_timestamp": f"{_WINDOWS}; times come from the alignment of words",
    "without_timestamps": "switch off the times of words with `word_timestamps=false`",
    "suppress_blank": "blanks at the start of a window are always suppressed",
    "multilingual": "leave `language` out and it is detected",
    "diarize": "speakers are not told apart",
}
"""Options of other Whisper services that this engine cannot honour, with the reason."""

ELSEWHERE = {
    "format": "belongs to the reading: GET /jobs/{id}/result?format=srt",
    "response_format": "belongs to /v1/audio/transcriptions; here it is GET /jobs/{id}/result?format=srt",
    "wait": "belongs to the job: GET /jobs/{id}?wait=30",
    "async": "stands in the query of POST /transcribe: ?async=true",
    "name": "stands in the query, where the body is the recording itself",
    "url": "is not fetched: send the recording itself",
    "stream": "belongs to /v1/audio/transcriptions; here it is GET /jobs/{id}/events",
}
"""What is asked for in the wrong place, and where it is."""
LISTED = 5
"""Unknown names that are told and compared; the comparison is slow, and a stranger's query may have a thousand."""

_KNOWN = frozenset(Options.model_fields)
_NAMES = sorted(_KNOWN | ALIASES.keys())


def is_option(name: str) -> bool:
    """Whether a field of this name is an option."""
    return name in _KNOWN or name in ALIASES


def check(fields: Mapping[str, str], models: Mapping[str, ModelCard]) -> dict[str, object]:
    """The values that these fields give, each right by itself: for errors before a long upload, not after.

    Raises `Problem` OPTION_UNKNOWN, OPTION_REFUSED, OPTION_VALUE, MODEL_UNKNOWN, MODEL_AWAY, LANGUAGE.
    """
    named: dict[str, str] = {}
    for name, value in fields.items():
        option = ALIASES.get(name, name)
        if named.setdefault(option, value) != value:
            raise Problem(Code.OPTION_VALUE, f"`{option}` is given twice, with different values.", options=[option])
    _refuse(named)
    values = {name: _value(name, value.strip()) for name, value in named.items() if value.strip()}
    if isinstance(model := values.get("model"), str):
        _check_model(model, models)
    return values


def options_of(
    fields: Mapping[str, str], models: Mapping[str, ModelCard], default_model: str, default_language: str | None
) -> Options:
    """The options that these fields ask for; a field without a value is as good as none.

    Raises what `check` raises, and LANGUAGE_MODEL.
    """
    values = check(fields, models)
    if "model" not in values:
        _check_model(default_model, models)
        values["model"] = default_model
    if values.get("channel_labels") and values.get("channels") is None:
        reason = "`channel_labels`: labels need `channels=separate`."
        raise Problem(Code.OPTION_VALUE, reason, options=["channel_labels"])
    asked = values.get("language")
    values.setdefault("language", default_language)
    if not _multilingual(str(values["model"]), models):
        if asked not in (None, "en"):
            raise Problem(Code.LANGUAGE_MODEL, f"`{values['model']}` hears English only.")
        if values.get("task") == "translate":
            raise Problem(Code.OPTION_VALUE, "`task`: a model for English alone cannot translate.", options=["task"])
        values["language"] = "en"
    try:
        return Options.model_validate({name: value for name, value in values.items() if value is not None})
    except ValidationError as error:
        raise invalid(error) from None


def options_in_time(
    fields: Mapping[str, str], models: Mapping[str, ModelCard], default_model: str, default_language: str | None
) -> Options:
    """As `options_of`, for a submission that nobody waits at: it may wait, and must not be refused for ever.

    Raises `Unavailable` for a model of which no engine could say yet whether it has it.
    """
    try:
        return options_of(fields, models, default_model, default_language)
    except Problem as problem:
        if problem.code is Code.MODEL_UNKNOWN and not models:
            raise Unavailable("engine") from None
        raise


def field_of(value: object) -> str:
    """A JSON value as the field of a form would say it."""
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case list():
            return ",".join(field_of(one) for one in value)
        case _:
            return str(value)


def _refuse(names: Collection[str]) -> None:
    refused = sorted(name for name in names if name in REFUSED)
    if refused:
        reasons = {name: REFUSED[name] for name in refused}
        detail = "; ".join(f"`{name}`: {reason}" for name, reason in reasons.items())
        raise Problem(Code.OPTION_REFUSED, detail + ".", options=refused, reasons=reasons)
    unknown = sorted(shown(name) for name in names if name not in _KNOWN)
    if unknown:
        listed = ", ".join(f"`{name}`{_hint(name)}" for name in unknown[:LISTED])
        if len(unknown) > LISTED:
            listed += f" and {len(unknown) - LISTED} more"
        raise Problem(Code.OPTION_UNKNOWN, f"Unknown: {listed}.", options=unknown[:LISTED], known=_NAMES)


def _hint(unknown: str) -> str:
    if unknown in ELSEWHERE:
        return f", which {ELSEWHERE[unknown]}"
    near = get_close_matches(unknown.lower(), _NAMES, n=1, cutoff=0.75)
    return f" (meant: `{near[0]}`?)" if near else ""


def _value(name: str, text: str) -> object:
    """The value as pydantic takes it, checked by itself."""
    value: object = text
    if name == "language":
        if text.lower() == "auto":
            return None
        code = language_code(text)
        if code is None:
            raise Problem(Code.LANGUAGE, f"`{shown(text)}` is neither a code nor a name of a language that is known.")
        return code
    if name == "channels" and text == "mixed":
        return None  # as if nothing were said: equal options are the same work
    if name == "channel_labels":
        value = [label.strip() for label in text.split(",")]
    if name == "suppress_tokens":
        value = [piece for piece in text.strip("[]").replace(",", " ").split() if piece != "-1"]
    try:
        # The model stands in for what is checked elsewhere; every other field is optional.
        checked = Options.model_validate({"model": "-", name: value})
    except ValidationError as error:
        raise invalid(error) from None
    return getattr(checked, name)


def invalid(error: ValidationError) -> Problem:
    """The problem with a value that its model refuses."""
    # Pydantic's message says what is allowed; what was sent stays out of it.
    first = error.errors(include_url=False, include_context=False, include_input=False)[0]
    name = str(first["loc"][0]) if first["loc"] else "options"
    return Problem(Code.OPTION_VALUE, f"`{name}`: {first['msg']}.", options=[name])


def _check_model(name: str, models: Mapping[str, ModelCard]) -> None:
    if not models:
        if name not in WHISPER:
            raise Problem(Code.MODEL_UNKNOWN, "Known: " + ", ".join(sorted(WHISPER)) + ".", models=sorted(WHISPER))
        return
    available = sorted(model.name for model in models.values() if model.available)
    listed = f"Available: {', '.join(available) or 'none'}."
    card = models.get(name) or models.get(SAME_MODEL.get(name, name))
    if card is None:
        raise Problem(Code.MODEL_UNKNOWN, listed, available=available)
    if not card.available:
        raise Problem(Code.MODEL_AWAY, f"`{name}` has no weights here. {listed}", available=available)


def _multilingual(name: str, models: Mapping[str, ModelCard]) -> bool:
    return models[name].multilingual if name in models else not name.endswith(".en")


def shown(text: str) -> str:
    """A caller's word, short and printable, so that it may stand in an answer."""
    return "".join(char for char in text if char.isprintable())[:64]
