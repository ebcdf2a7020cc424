"""The form of OpenAI's speech endpoints, as its SDK sends it, and what it asks for in our own words. Pure."""

from collections.abc import Iterable, Mapping
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from services.contracts.errors import Code, Problem
from services.contracts.formats import Format
from services.ingest.options import invalid

SPEAKERS = "speakers are not told apart"
VAD = "speech is found once per recording, with settings of its own; send `auto`"
REFUSED = {
    "known_speaker_names": SPEAKERS,
    "known_speaker_references": SPEAKERS,
    "prefix_padding_ms": VAD,
    "silence_duration_ms": VAD,
    "threshold": VAD,
}
"""Parameters of OpenAI's API that this engine cannot honour, with the reason."""
DIARIZED = "diarized_json"


class SpeechForm(BaseModel):
    """The fields of OpenAI's transcriptions and translations beside the file. Options of ours may stand beside them."""

    model_config = ConfigDict(extra="allow", frozen=True)

    model: str | None = Field(None, description="a model, or another name that the operator gave one, as `whisper-1`")
    language: str | None = Field(None, description="ISO 639-1 code; absent = detected")
    languages: tuple[str, ...] = Field((), alias="languages[]", description="as `language`; at most one")
    prompt: str | None = None
    keywords: tuple[str, ...] = Field((), alias="keywords[]", description="words to listen for: our `hotwords`")
    response_format: Format = Format.JSON
    temperature: float | None = Field(None, ge=0, le=1, description="0 is as good as absent: raised where it must be")
    timestamp_granularities: tuple[Literal["word", "segment"], ...] = Field(
        (), alias="timestamp_granularities[]", description="what `verbose_json` holds; segments unless said"
    )
    include: tuple[Literal["logprobs"], ...] = Field(
        (), alias="include[]", description="`logprobs`: one for each word, in `json` and in streams"
    )
    chunking_strategy: Literal["auto", "server_vad"] | None = Field(None, description="what is done anyway")
    stream: bool = Field(False, description="answer with server-sent events; `json` and `text` only")

    @property
    def words(self) -> bool:
        """Whether `verbose_json` holds words."""
        return "word" in self.timestamp_granularities

    @property
    def segments(self) -> bool:
        """Whether `verbose_json` holds segments."""
        return "segment" in self.timestamp_granularities or not self.words

    @property
    def logprobs(self) -> bool:
        """Whether each word comes with its log probability."""
        return bool(self.include)

    def options(self, task: str, aliases: Mapping[str, str]) -> dict[str, str]:
        """The options that this form asks for, as fields of our own forms; `aliases` name models of ours."""
        more = dict(self.model_extra or {})
        asked = {
            "model": aliases.get(self.model or "", self.model),
            "task": "translate" if task == "translate" else more.get("task"),
            "language": self.language or next(iter(self.languages), None),
            "prompt": self.prompt,
            "hotwords": ", ".join(filter(None, (more.get("hotwords"), *self.keywords))),
            # OpenAI's 0 is the ladder of temperatures, which is ours when none is asked for.
            "temperature": str(self.temperature) if self.temperature else None,
        }
        return {name: value for name, value in (more | asked).items() if value}


_LISTS = {field.alias for field in SpeechForm.model_fields.values() if field.alias}


def read(fields: Iterable[tuple[str, str]]) -> SpeechForm:
    """The form that these fields make, with or without brackets. Raises `Problem` OPTION_VALUE, OPTION_REFUSED."""
    values: dict[str, str | list[str]] = {}
    refused: dict[str, str] = {}
    for sent, value in fields:
        name = _name(sent)
        plain = name.removesuffix("[]")
        if plain in REFUSED:
            refused[plain] = REFUSED[plain]
        elif not value.strip():
            continue
        elif plain == "response_format" and value == DIARIZED:
            refused[plain] = f"`{DIARIZED}`: {SPEAKERS}"
        elif name in _LISTS:
            values.setdefault(name, []).append(value)  # type: ignore[union-attr]
        elif values.setdefault(name, value) != value:
            raise Problem(
                Code.OPTION_VALUE, f"`{name[:64]}` is given twice, with different values.", options=[name[:64]]
            )
    if refused:
        detail = "; ".join(f"`{name}`: {reason}" for name, reason in refused.items())
        raise Problem(Code.OPTION_REFUSED, detail + ".", options=sorted(refused))
    try:
        form = SpeechForm.model_validate(values)
    except ValidationError as error:
        raise invalid(error) from None
    return _possible(form)


def _name(sent: str) -> str:
    """A field's name as the model has it: lists with brackets, `chunking_strategy[type]` as its strategy."""
    outer, bracket, inner = sent.partition("[")
    if outer == "chunking_strategy" and bracket:
        inner = inner.removesuffix("]")
        return outer if inner == "type" else inner
    return f"{outer}[]" if f"{outer}[]" in _LISTS else sent


def _possible(form: SpeechForm) -> SpeechForm:
    if form.stream and form.response_format not in (Format.JSON, Format.TEXT):
        raise Problem(
            Code.OPTION_VALUE,
            f"`response_format`: a stream is not {form.response_format}.",
            options=["response_format"],
        )
    if len(form.languages) > 1:
        reason = "one language at a time; leave it out and it is detected"
        raise Problem(Code.OPTION_REFUSED, f"`languages`: {reason}.", options=["languages"])
    return form
