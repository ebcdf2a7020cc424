"""Utterances in the sound of a session: found frame by frame, so that nobody's lateness changes them."""

from hypothesis import given
from hypothesis import strategies as st

from services.transcriber.live.ear import BEFORE, Ear
from services.transcriber.prepare.media import FRAME, Block

SECOND = 31


def block(frames: list[float]) -> Block:
    """Sound with these probabilities of voice."""
    return Block(bytes(2 * FRAME * len(frames)), tuple(frames))


def utterances(ear: Ear) -> list[tuple[float, float]]:
    """Begin and end of the utterances that are complete."""
    found = []
    while True:
        if ear.listen():
            continue
        if not ear.endpoint:
            return found
        sound = ear.utterance()
        found.append((round(sound.start, 3), round(sound.end, 3)))
        ear.close()


def test_speech_between_pauses() -> None:
    """An utterance begins a little before the voice, and ends when the pause has lasted."""
    ear = Ear(0.0, 0.5)
    ear.feed(block([0.0] * 2 * SECOND + [0.9] * SECOND + [0.0] * SECOND))
    [(start, end)] = utterances(ear)
    assert abs(start - (2 * SECOND * 0.032 - BEFORE)) < 0.1
    assert abs(end - (3 * SECOND * 0.032 + 0.5)) < 0.1


def test_a_long_silence_is_judged_to_its_end() -> None:
    """Sound that came at once is behind until all of it is judged, however long nobody speaks in it."""
    ear = Ear(0.0, 0.5)
    ear.feed(block([0.0] * 70 * SECOND + [0.9] * SECOND))
    looks = 0
    while not ear.listen():
        assert ear.behind
        looks += 1
        assert looks < 10
    assert ear.speaking


def test_sound_ends_where_its_last_sample_does() -> None:
    """A last frame that is not whole makes nothing longer: whoever is told of more than came would skip it."""
    for voice in (0.0, 0.9):
        ear = Ear(0.0, 0.5)
        ear.feed(block([voice] * 2 * SECOND))
        ear.feed(Block(bytes(2 * 100), (voice,)))
        ear.listen()
        ear.listen()
        end = (2 * SECOND * FRAME + 100) / 16_000
        assert (ear.arrived, ear.judged) == (end, end)
        ear.close()
        assert (ear.arrived, ear.judged) == (end, end)


def test_silence_is_let_go() -> None:
    """In silence little more is held than what may belong to the next utterance."""
    ear = Ear(0.0, 0.5)
    for _ in range(60):
        ear.feed(block([0.0] * SECOND))
        assert not ear.listen()
    assert ear.arrived - ear.started <= BEFORE + 0.15
    assert abs(ear.arrived - 60 * SECOND * 0.032) < 0.001


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.9]), st.integers(1, 40)), max_size=12), st.integers(1, 50))
def test_how_sound_arrives_changes_nothing(runs: list[tuple[float, int]], size: int) -> None:
    """The same utterances are found in one piece and in pieces of any size."""
    frames = [probability for probability, count in runs for _ in range(count)]
    whole = Ear(0.0, 0.3)
    whole.feed(block(frames))
    expected = utterances(whole)
    ear, found = Ear(0.0, 0.3), []
    for at in range(0, len(frames), size):
        ear.feed(block(frames[at : at + size]))
        found += utterances(ear)
    assert found == expected


def test_a_takeover_goes_on_amid_an_utterance() -> None:
    """What is quiet before the last known word is no pause; what is quiet after it ends the utterance."""
    ear = Ear(10.0, 0.5, spoken_to=12.0)
    assert ear.speaking
    ear.feed(block([0.0] * 2 * SECOND))
    assert not ear.listen()
    assert not ear.endpoint
    ear.feed(block([0.0] * SECOND))
    ear.listen()
    assert ear.endpoint
    assert abs(ear.judged - 12.5) < 0.1
