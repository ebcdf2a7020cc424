"""What an engine that takes over knows of a session: where to hear on, and what is still to be said."""

from services.contracts.live import Claimed, Final, Lag, Quiet, SpeechStarted, UtteranceEnd
from services.contracts.transcript import Segment
from services.transcriber.live.recover import Past


def final(n: int, *, speech_final: bool = False, from_finalize: bool = False) -> Final:
    """A final of one second."""
    segment = Segment(start=float(n), end=n + 1.0, text=" word", language="en")
    return Final(
        position=n + 1.0,
        n=n,
        start=segment.start,
        end=segment.end,
        text=segment.text,
        segment=segment,
        speech_final=speech_final,
        from_finalize=from_finalize,
        input=10 * n,
        resume=n - 0.2 if n else 0.0,
    )


def test_amid_an_utterance() -> None:
    """After a final that ended no utterance it is heard on in the middle of it, from where that final says."""
    past = Past()
    for sequence, said in enumerate([Claimed(position=0.0, engine="a", warm=True), final(0), final(1)], start=5):
        past.take(said, sequence)
    assert (past.last, past.resume, past.input, past.end) == (7, 0.8, 10, 2.0)
    assert past.speaking
    assert past.owed is None


def test_between_utterances() -> None:
    """The end of an utterance is owed until it was said; silence moves on where it is heard on."""
    past = Past()
    past.take(final(0, speech_final=True), 1)
    assert not past.speaking
    assert past.owed is not None
    assert past.language == "en"
    past.take(UtteranceEnd(position=1.5, last_word_end=1.0), 2)
    assert past.owed is None
    past.take(Quiet(position=31.0, input=300, resume=30.4), 3)
    assert (past.last, past.resume, past.input, past.end) == (3, 30.4, 300, 1.0)


def test_after_a_flush() -> None:
    """What was made final on request was no end of an utterance."""
    past = Past()
    past.take(final(0, from_finalize=True), 1)
    assert not past.speaking
    assert past.owed is None


def test_of_what_the_client_was_told() -> None:
    """How far behind the engine before was is known: whoever is on time again has to say so."""
    past = Past()
    for sequence, said in enumerate([Lag(position=1.0, seconds=7.5), Claimed(position=1.0, engine="b", warm=True)]):
        past.take(said, sequence)
    assert past.lag == 7.5


def test_of_what_was_asked_for() -> None:
    """Whoever said the last word knew which requests had their answer, and no later message takes that back."""
    past = Past()
    past.take(final(0).model_copy(update={"done": 7}), 1)
    past.take(UtteranceEnd(position=2.5, last_word_end=2.0, done=40), 2)
    past.take(final(1).model_copy(update={"done": 12}), 3)
    past.take(Quiet(position=31.0, input=300, resume=30.4), 4)
    assert past.done == 40


def test_speech_that_goes_on_ends_no_utterance() -> None:
    """A pause that was too short to end an utterance is owed nothing."""
    past = Past()
    past.take(final(0, speech_final=True), 1)
    past.take(SpeechStarted(position=2.0), 2)
    assert past.owed is None
