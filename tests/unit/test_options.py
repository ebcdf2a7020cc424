"""Options: what a caller may ask, under which names, and how each mistake is answered."""

import pytest

from services.contracts.errors import Code, Problem
from services.contracts.events import ModelCard
from services.contracts.jobs import Options
from services.ingest.options import REFUSED, check, options_in_time, options_of
from services.runtime.jsapi import Unavailable

MODELS = {
    "base": ModelCard(name="base", available=True, loaded=True),
    "tiny.en": ModelCard(name="tiny.en", available=True, loaded=False, multilingual=False),
    "medium": ModelCard(name="medium", available=False, loaded=False),
    "large-v3": ModelCard(name="large-v3", available=True, loaded=False),
}


def ask(default_language: str | None = None, **fields: str) -> Options:
    """The options of these fields, with `base` as the default model."""
    return options_of(fields, MODELS, "base", default_language)


def problem(**fields: str) -> Problem:
    """The refusal of these fields."""
    with pytest.raises(Problem) as caught:
        ask(**fields)
    return caught.value


def test_nothing_asked_gives_the_defaults() -> None:
    """Without a field the default model detects the language."""
    assert ask() == Options(model="base")


def test_the_default_language_is_the_operators() -> None:
    """The operator's language holds where none is asked for, and `auto` asks for detection."""
    assert ask("tr").language == "tr"
    assert ask("tr", language="de").language == "de"
    assert ask("tr", language="auto").language is None


def test_every_option_is_read_from_text() -> None:
    """Every option has a form as text."""
    options = ask(
        model="base",
        language="German",
        task="translate",
        prompt="Hallo",
        hotwords="desifre",
        temperature="0.2",
        beam_size="3",
        word_timestamps="false",
        vad="off",
        suppress_tokens="-1, 5 7",
        hallucination_silence_threshold="2.5",
        max_line_width="42",
        max_line_count="2",
        channels="separate",
        channel_labels="agent,customer",
    )
    assert options == Options(
        model="base",
        language="de",
        task="translate",
        prompt="Hallo",
        hotwords="desifre",
        temperature=0.2,
        beam_size=3,
        word_timestamps=False,
        vad=False,
        suppress_tokens=(5, 7),
        hallucination_silence_threshold=2.5,
        max_line_width=42,
        max_line_count=2,
        channels="separate",
        channel_labels=("agent", "customer"),
    )
    assert set(Options.model_fields) == options.model_fields_set


def test_old_names_are_understood() -> None:
    """The old service's and Whisper's own names mean the same options."""
    assert ask(model_type="tiny.en", initial_prompt="x", vad_filter="0") == Options(
        model="tiny.en", language="en", prompt="x", vad=False
    )


def test_two_names_must_not_disagree() -> None:
    """One option under two names with different values is a mistake."""
    assert problem(model="base", model_type="tiny.en").code == Code.OPTION_VALUE


def test_empty_fields_are_no_fields() -> None:
    """A form's empty field asks for nothing."""
    assert ask(language="", temperature=" ", prompt="") == Options(model="base")


def test_unknown_options_are_named() -> None:
    """Unknown options are all named, with those that are known."""
    found = problem(beam_sizes="3", colour="red")
    assert found.code == Code.OPTION_UNKNOWN
    assert found.more["options"] == ["beam_sizes", "colour"]
    assert "beam_size" in found.more["known"]  # type: ignore[operator]


@pytest.mark.parametrize("name", sorted(REFUSED))
def test_refused_options_say_why(name: str) -> None:
    """An option that this engine cannot honour is refused with its own reason."""
    found = problem(**{name: "1"})
    assert found.code == Code.OPTION_REFUSED
    assert REFUSED[name] in (found.detail or "")


@pytest.mark.parametrize(
    ("name", "says"), [("modle", "meant: `model`"), ("format", "/result?format=srt"), ("zzz", "Unknown: `zzz`.")]
)
def test_unknown_options_come_with_a_hint(name: str, says: str) -> None:
    """What was mistyped or belongs elsewhere is told so; what is like nothing is only named."""
    assert says in str(problem(**{name: "x"}).detail)


def test_unknown_model_names_those_that_are_available() -> None:
    """A model that nobody knows is refused with the available ones."""
    found = problem(model="huge")
    assert found.code == Code.MODEL_UNKNOWN
    assert found.more["available"] == ["base", "large-v3", "tiny.en"]


def test_model_without_weights_names_those_that_have_them() -> None:
    """A known model without weights here is refused with the available ones."""
    found = problem(model="medium")
    assert found.code == Code.MODEL_AWAY
    assert found.more["available"] == ["base", "large-v3", "tiny.en"]


def test_large_is_the_largest() -> None:
    """`large` is `large-v3`, as in Whisper itself, and stays as it was asked for."""
    assert ask(model="large").model == "large"


def test_while_no_engine_spoke_whispers_names_are_known() -> None:
    """A job may wait for an engine that is not there yet, if its model can be one."""
    assert options_of({"model": "large-v3"}, {}, "base", None).model == "large-v3"
    with pytest.raises(Problem) as caught:
        options_of({"model": "huge"}, {}, "base", None)
    assert caught.value.code == Code.MODEL_UNKNOWN


def test_an_english_model_hears_english_only() -> None:
    """A `.en` model takes English, is told so where nothing is said, and refuses another language."""
    assert ask(model="tiny.en").language == "en"
    assert ask("tr", model="tiny.en").language == "en"
    assert problem(model="tiny.en", language="tr").code == Code.LANGUAGE_MODEL
    assert problem(model="tiny.en", task="translate").code == Code.OPTION_VALUE


def test_unknown_language() -> None:
    """A language that Whisper does not know is refused."""
    assert problem(language="klingon").code == Code.LANGUAGE


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("task", "sing"),
        ("temperature", "hot"),
        ("temperature", "nan"),
        ("temperature", "1.5"),
        ("beam_size", "0"),
        ("beam_size", "2.5"),
        ("word_timestamps", "perhaps"),
        ("suppress_tokens", "1,x"),
        ("hallucination_silence_threshold", "0"),
        ("max_line_width", "3"),
        ("max_line_count", "0"),
        ("prompt", "x" * 4001),
    ],
)
def test_wrong_values_are_named_and_not_repeated(name: str, value: str) -> None:
    """A wrong value is answered with its option's name and without the value."""
    found = problem(**{name: value})
    assert found.code == Code.OPTION_VALUE
    assert found.more["options"] == [name]
    assert value not in (found.detail or "").split() or len(value) == 1


def test_what_can_be_said_before_an_upload_is_said_then() -> None:
    """The check before a long upload finds what is wrong with a field by itself, whatever fields may follow."""
    with pytest.raises(Problem):
        check({"model": "medium"}, MODELS)
    assert check({"language": "tr"}, MODELS) == {"language": "tr"}


def test_what_can_wait_is_not_refused_before_an_engine_has_spoken() -> None:
    """Any model may be there while no engine has said what it has; once one has, a model that is not there is told."""
    with pytest.raises(Unavailable):
        options_in_time({}, {}, "ours", None)
    assert options_in_time({}, {}, "base", None).model == "base"
    with pytest.raises(Problem) as caught:
        options_in_time({}, MODELS, "ours", None)
    assert caught.value.code == Code.MODEL_UNKNOWN
