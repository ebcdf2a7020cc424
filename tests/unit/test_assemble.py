"""Assembly: a pure function, whose coverage accounts for every second."""

from hypothesis import given
from hypothesis import strategies as st

from services.contracts.jobs import Door, Lane, Manifest, Options
from services.contracts.parts import PartWords, Plan
from services.contracts.stitching import stitch
from services.contracts.transcript import Segment, Span, Word
from services.transcriber.assemble import assemble, measure, merge, without

MANIFEST = Manifest(
    job="job_0", tenant="t", key_id="k", user="u", door=Door.HTTP, lane=Lane.BATCH,
    options=Options(model="base"), sha256="0" * 64, size=1, created=1.0,
)  # fmt: skip

SPANS = st.lists(st.tuples(st.integers(0, 1000), st.integers(1, 80)), max_size=12).map(
    lambda pairs: [(a / 10, (a + n) / 10) for a, n in pairs]
)


def segment(*words: tuple[str, float, float]) -> Segment:
    made = tuple(Word(word=word, start=a, end=b, probability=0.9) for word, a, b in words)
    return Segment(start=made[0].start, end=made[-1].end, text="".join(word.word for word in made), words=made)


@given(SPANS, SPANS)
def test_ranges_add_up(some: list[Span], taken: list[Span]) -> None:
    """What is taken away and what is left are together what there was, and share nothing."""
    whole, gone = merge(some), merge(taken)
    left = without(whole, gone)
    kept = without(whole, left)
    assert abs(measure(left).seconds + measure(kept).seconds - measure(whole).seconds) < 1e-6
    assert without(left, gone) == left


@given(SPANS, SPANS)
def test_coverage_adds_up(heard: list[Span], failed: list[Span]) -> None:
    """transcribed + non_speech + failed = decoded, whatever the parts report."""
    words = PartWords(n=0, transcribed=tuple(heard), failed=tuple(failed))
    coverage = assemble(MANIFEST, Plan(parts=1, duration=120.0), [words]).coverage
    total = coverage.transcribed + coverage.non_speech.seconds + coverage.failed.seconds
    assert abs(total - coverage.decoded) <= 0.05


def test_words_of_a_seam_are_taken_once() -> None:
    """Two parts that overlap give each word once, in order."""
    left = PartWords(
        n=0, segments=(segment((" one", 0.0, 0.5), (" two", 0.6, 1.0), (" three", 1.1, 1.6), (" fo", 1.7, 1.9)),)
    )
    right = PartWords(
        n=1, segments=(segment((" wo", 0.9, 1.0), (" three", 1.1, 1.6), (" four", 1.7, 2.2), (" five", 2.3, 2.8)),)
    )
    words = [word.word for part in stitch([left, right]) for word in part.words]
    assert words == [" one", " two", " three", " four", " five"]


def test_parts_cut_at_a_silence_are_untouched() -> None:
    """Where parts do not overlap their segments stand as they were heard."""
    parts = [PartWords(n=n, segments=(segment((f" w{n}", n * 10.0, n * 10.0 + 1)),)) for n in range(3)]
    assert stitch(parts) == tuple(part.segments[0] for part in parts)


def test_a_silent_recording_has_a_transcript() -> None:
    """No parts: an empty text, and all of it non-speech."""
    transcript = assemble(MANIFEST, Plan(parts=0, duration=12.5), [])
    assert transcript.text == ""
    assert transcript.coverage.non_speech.ranges == ((0.0, 12.5),)


def test_equal_input_gives_equal_bytes() -> None:
    """The transcript has neither a clock nor a host in it."""
    parts = [PartWords(n=0, language="tr", segments=(segment((" ş", 0.0, 1.0)),), transcribed=((0.0, 1.0),))]
    plan = Plan(parts=1, duration=2.0)
    assert assemble(MANIFEST, plan, parts).encode() == assemble(MANIFEST, plan, list(parts)).encode()
