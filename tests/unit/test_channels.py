"""The channels of a recording: told apart while they are cut, and put together again by time. Pure."""

import json
from collections.abc import Mapping

import numpy as np
import pytest

from services.contracts.errors import Code, Problem
from services.contracts.formats import Format, render
from services.contracts.jobs import Door, Lane, Manifest, Options
from services.contracts.parts import Part, PartWords, Plan
from services.contracts.transcript import Segment, Transcript, Word
from services.ingest.options import options_of
from services.transcriber.assemble import assemble
from services.transcriber.prepare.channels import Bound, Channels
from services.transcriber.prepare.cut import Cut, Cutter
from services.transcriber.prepare.media import FRAME, Block, DecoderDied

SIZE = 156 * FRAME


def cutter(bound: Bound) -> Cutter:
    return Cutter(first=10, shortest=10, longest=30, bound=bound)


def blocks(voices: Mapping[tuple[int, ...], int], begin: int = 0, count: int = 24) -> list[Block]:
    """Two minutes of speech of which no two moments are the same; each group of channels has a seed."""
    found = []
    for at in range(begin, begin + count):
        for channels, seed in sorted(voices.items()):
            pcm = np.random.default_rng((seed, at)).integers(-9000, 9000, SIZE, dtype=np.int16).tobytes()
            speech = [0.9] * 120 + [0.01] * 36
            found.append(Block(pcm, tuple(speech), channels))
    return found


def cut(recording: list[Block], bound: tuple[Part, ...] = ()) -> tuple[list[Cut], Channels]:
    channels = Channels(cutter, bound)
    return [*(one for block in recording for one in channels.feed(block)), *channels.close()], channels


def parts_of(cuts: list[Cut]) -> tuple[Part, ...]:
    return tuple(
        Part(n=n, start=c.start, end=c.end, overlap=c.overlap, sha256="", speech=c.speech, channels=c.channels)
        for n, c in enumerate(cuts)
    )


def test_each_channel_is_cut_as_if_it_were_alone() -> None:
    """Of two different channels each has the cuts that it would have by itself."""
    cuts, channels = cut(blocks({(0,): 1, (1,): 2}))
    for channel, seed in ((0, 1), (1, 2)):
        alone, _ = cut(blocks({(channel,): seed}))
        assert [one for one in cuts if one.channels == (channel,)] == alone
    assert channels.groups == ((0,), (1,))


def test_equal_channels_are_cut_once() -> None:
    """Channels that are the same throughout are one, and its parts say of which they are."""
    cuts, channels = cut(blocks({(0, 1): 1}))
    assert {one.channels for one in cuts} == {(0, 1)}
    assert channels.groups == ((0, 1),)


@pytest.mark.parametrize("known", [0, 1, 3, 5, 100])
def test_channels_that_part_lose_nothing_and_are_cut_the_same_again(known: int) -> None:
    """From where two channels differ each has all of its samples, also where an earlier preparation left some parts."""
    recording = [*blocks({(0, 1): 1}, count=12), *blocks({(0,): 1, (1,): 2}, begin=12, count=12)]
    cuts, channels = cut(recording)
    for channel, seed in ((0, 1), (1, 2)):
        alone, _ = cut([*blocks({(channel,): 1}, count=12), *blocks({(channel,): seed}, begin=12, count=12)])
        mine = [one for one in cuts if channel in one.channels]
        assert [(one.start, one.end, one.pcm) for one in mine] == [(one.start, one.end, one.pcm) for one in alone]
    assert {one.channels for one in cuts} == {(0, 1), (0,), (1,)}
    again, later = cut(recording, parts_of(cuts)[:known])
    assert {(one.channels[-1], one.start, one.end, one.pcm) for one in again} >= {
        (one.channels[-1], one.start, one.end, one.pcm) for one in cuts
    }
    assert later.groups == channels.groups


def test_a_decoder_that_leaves_out_a_channel_is_not_believed() -> None:
    """Blocks of a channel that are missing, or that come out of nowhere, end the preparation."""
    with pytest.raises(DecoderDied):
        cut(blocks({(0,): 1, (1,): 2})[:-1])
    with pytest.raises(DecoderDied):
        cut([*blocks({(0,): 1}, count=1), *blocks({(0, 1): 1}, count=1)])


def said(channels: tuple[int, ...], n: int, *words: tuple[str, float, float]) -> PartWords:
    spoken = tuple(Word(word=f" {word}", start=start, end=end, probability=0.9) for word, start, end in words)
    segments = tuple(Segment(start=w.start, end=w.end, text=w.word, words=(w,), language="en") for w in spoken)
    ranges = tuple((w.start, w.end) for w in spoken)
    return PartWords(n=n, channels=channels, language="en", segments=segments, transcribed=ranges)


def call(groups: tuple[tuple[int, ...], ...], *parts: PartWords, **options: object) -> Transcript:
    asked = Options.model_validate({"model": "base", "channels": "separate", **options})
    manifest = Manifest(
        job="job_1", tenant="t", key_id="k", user="u", door=Door.HTTP, lane=Lane.INTERACTIVE,
        options=asked, sha256="0" * 64, size=1, created=0.0,
    )  # fmt: skip
    return assemble(manifest, Plan(parts=len(parts), duration=10.0, channels=groups), parts)


CALL = call(
    ((0,), (1,)),
    said((0,), 0, ("Hello", 0, 2), ("yes", 4, 6)),
    said((1,), 1, ("hi", 1.5, 3), ("bye", 7, 8)),
    channel_labels=["agent", "a<b>"],
)


def test_words_of_all_channels_by_time() -> None:
    """What two say at once stays whole, in the order in which it begins, and says whose it is."""
    assert [(s.text, s.channel) for s in CALL.segments] == [(" Hello", 0), (" hi", 1), (" yes", 0), (" bye", 1)]
    document = json.loads(render(CALL, Format.JSON))
    assert [(w["word"], w["channel"]) for w in document["words"]] == [
        (" Hello", 0), (" hi", 1), (" yes", 0), (" bye", 1),
    ]  # fmt: skip
    assert [(c["index"], c["label"], c["text"]) for c in document["channels"]] == [
        (0, "agent", "Hello yes"), (1, "a<b>", "hi bye"),
    ]  # fmt: skip
    assert [len(c["words"]) for c in document["channels"]] == [2, 2]
    assert Transcript.model_validate_json(CALL.encode()) == CALL


def test_every_format_says_who_speaks() -> None:
    """Text has a line for each turn, subtitles a speaker in each cue, tables a column."""
    assert render(CALL, Format.TEXT).decode() == "agent: Hello\na<b>: hi\nagent: yes\na<b>: bye\n"
    assert "\nagent: Hello\n" in render(CALL, Format.SRT).decode()
    assert "\n<v a&lt;b&gt;>hi\n" in render(CALL, Format.VTT).decode()
    assert render(CALL, Format.TSV).decode().splitlines()[:2] == ["start\tend\ttext\tchannel", "0\t2000\tHello\tagent"]
    verbose = json.loads(render(CALL, Format.VERBOSE_JSON))
    assert [word["channel"] for word in verbose["words"]] == [0, 1, 0, 1]
    assert verbose["usage"]["seconds"] == 20


def test_coverage_adds_up_for_each_channel_and_for_the_recording() -> None:
    """Each channel accounts for the whole recording; in all, what any channel heard is heard."""
    assert CALL.channels is not None
    for channel, heard in zip(CALL.channels, (4.0, 2.5), strict=True):
        found = channel.coverage
        assert found.transcribed == heard
        assert found.transcribed + found.non_speech.seconds + found.failed.seconds == found.decoded == 10.0
    whole = CALL.coverage
    assert (whole.transcribed, whole.non_speech.seconds, whole.decoded) == (6.0, 4.0, 10.0)


def test_what_failed_in_one_channel_is_failed_in_all() -> None:
    """A moment that one channel lost is not hidden by another that was heard."""
    lost = PartWords(n=1, channels=(1,), failed=((0.0, 1.0),))
    whole = call(((0,), (1,)), said((0,), 0, ("Hello", 0, 2)), lost).coverage
    assert (whole.failed.ranges, whole.transcribed) == (((0.0, 1.0),), 1.0)


def test_silent_and_equal_channels_cost_nothing() -> None:
    """Charged is each channel that had something of its own to hear, and one at least."""
    hello = ("Hello", 0.0, 2.0)
    assert call(((0,), (1,)), said((1,), 0, hello)).charged == 10.0
    assert call(((0, 1),), said((0, 1), 0, hello)).charged == 10.0
    assert call(((0,), (1,))).charged == 10.0
    assert CALL.charged == 20.0
    same = call(((0, 1),), said((0, 1), 0, hello))
    assert same.channels is not None
    assert [(c.label, c.same_as, c.seconds) for c in same.channels] == [("left", None, 10.0), ("right", 0, 0.0)]
    assert render(same, Format.TEXT) == b"Hello\n"


def test_a_transcript_without_channels_says_nothing_of_them() -> None:
    """Where channels are mixed no format has a word about them, and older transcripts are read as they are."""
    plain = CALL.model_copy(update={"channels": None, "segments": tuple(
        segment.model_copy(update={"channel": None}) for segment in CALL.segments
    )})  # fmt: skip
    for form in Format:
        assert b"channel" not in render(plain, form)
    assert b"channel" not in plain.encode()


def test_options_of_channels() -> None:
    """`mixed` is as good as nothing; labels are a list, and need channels to be named."""
    asked = {"channels": "separate", "channel_labels": "agent, customer"}
    assert options_of(asked, {}, "base", None).channel_labels == ("agent", "customer")
    assert options_of({"channels": "mixed"}, {}, "base", None) == options_of({}, {}, "base", None)
    for wrong in ({"channels": "left"}, {"channel_labels": "a,b"}, asked | {"channel_labels": "a,,b"}):
        with pytest.raises(Problem) as problem:
            options_of(wrong, {}, "base", None)
        assert problem.value.code == Code.OPTION_VALUE
