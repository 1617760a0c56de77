from __future__ import annotations

import re
import time
import unicodedata

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from streamer.core.novelty.filter import BucketFilter
from streamer.core.novelty.fingerprints import FINGERPRINT_SIZE, fingerprint, normalised_words
from streamer.core.novelty.index import CANDIDATES, SLOTS, Folded, NoveltyIndex
from streamer.core.novelty.segments import Segment, bucket_keys
from streamer.core.records import hash64
from tests.core.worlds import examples

WIRE = "Halvorsen Shipping cuts its full-year profit forecast after weak freight rates in the third quarter"


@pytest.mark.parametrize(
    "copy",
    [
        f"RT @deskwire: {WIRE} https://t.co/abc123",
        WIRE.upper() + "!!",
        f"{WIRE} $HLV #shipping".replace(" $HLV #shipping", " https://example.invalid/x?y=1"),
        "RT @a: RT @b: " + WIRE,
        WIRE.replace("profit", "#profit"),
        "\u201c" + WIRE + "\u201d via @deskwire",
    ],
)
def test_retweets_and_marks_leave_the_fingerprint_alone(copy: str) -> None:
    made = fingerprint([WIRE, copy])
    assert made.text_hash[0] == made.text_hash[1]
    assert (made.minima[0] == made.minima[1]).all()


def test_a_light_edit_changes_few_minima_and_another_story_nearly_all() -> None:
    edited = WIRE.replace("weak freight", "falling freight")
    other = "Orrin Bank names a new head of risk as its chief executive prepares to step down next spring"
    made = fingerprint([WIRE, edited, other]).minima
    assert (made[0] == made[1]).mean() > 0.6
    assert (made[0] == made[2]).mean() < 0.2


def test_short_texts_match_only_when_equal() -> None:
    made = fingerprint(["Buy now", "buy NOW!", "Sell now", "https://example.invalid/a", "https://example.invalid/b"])
    same = (made.minima[:, None] == made.minima[None]).all(axis=2)
    assert same.tolist() == (np.eye(5, dtype=bool) | np.isin(np.add.outer(range(5), range(5)), [1])).tolist()


@pytest.mark.parametrize(
    "text",
    ["..." + "\u3316" * 19_990, "..." + "a" * 19_990, "a" + "\u0315" * 9_999 + "\u0316" * 9_999],
    ids=["dots before what grows in NFKC", "dots before a long word", "marks out of order"],
)
def test_no_text_takes_time_that_grows_with_its_square(text: str) -> None:
    """A second of processor is a hundred times what they take, and far below what squares of their length took."""
    began = time.process_time()
    fingerprint([text])
    assert time.process_time() - began < 1.0


@given(st.text("ab. .…\n\u3000", max_size=20))
def test_a_word_that_was_cut_is_left_out(text: str) -> None:
    """As the pattern says it, which takes time that grows with the square of the text."""
    plain = unicodedata.normalize("NFKC", text).casefold()
    assert " ".join(normalised_words(text)) == " ".join(re.findall(r"[ab]+", re.sub(r"\S*\.\.\.\s*$", "", plain)))


@given(st.lists(st.text(st.characters(codec="utf-8"), min_size=1, max_size=60), min_size=1, max_size=8))
def test_a_fingerprint_does_not_depend_on_its_batch(texts: list[str]) -> None:
    together = fingerprint(texts)
    for row, text in enumerate(texts):
        alone = fingerprint([text])
        assert (alone.minima[0] == together.minima[row]).all()
        assert alone.text_hash[0] == together.text_hash[row]


def sequential(
    similarity: float,
    documents: list[tuple[int, int, int, np.ndarray]],
) -> list[tuple[bool, int, bool]]:
    """The rule of the index, document by document: (slot, id, text hash, minima) to (duplicate, story, copy)."""
    needed = NoveltyIndex(similarity).needed
    stories: list[tuple[int, np.ndarray]] = []
    buckets: dict[int, list[int]] = {}
    counted: dict[int, int] = {}
    results = []
    for slot, identity, text, minima in documents:
        if identity in counted and counted[identity] >= slot - SLOTS:
            results.append((True, -1, False))
            continue
        counted[identity] = slot
        keys = bucket_keys(minima[None], np.array([text], np.uint64))[0].tolist()
        shown = set()
        for key in keys:
            living = [story for story in buckets.get(key, []) if stories[story][0] >= slot - SLOTS]
            shown.update(living[:CANDIDATES])
        alike = [
            story
            for story in sorted(shown)
            if (stories[story][1].astype(np.uint8) == minima.astype(np.uint8)).sum() >= needed
        ]
        if alike:
            results.append((False, alike[0], True))
        else:
            results.append((False, len(stories), False))
            for key in keys:
                buckets.setdefault(key, []).append(len(stories))
            stories.append((slot, minima))
    return results


@st.composite
def streams(draw: st.DrawFn) -> list[tuple[int, int, int, np.ndarray]]:
    """Documents in slots, drawn from few families of alike fingerprints, so that buckets are crowded."""
    random = np.random.default_rng(draw(st.integers(0, 2**32)))
    families = random.integers(0, 1 << 16, (draw(st.integers(1, 4)), FINGERPRINT_SIZE)).astype(np.uint16)
    documents = []
    slot = 0
    for _ in range(draw(st.integers(1, 60))):
        slot += draw(st.sampled_from([0, 0, 0, 0, 1, 5, SLOTS + 1]))
        minima = families[random.integers(len(families))].copy()
        changed = random.random(FINGERPRINT_SIZE) < draw(st.sampled_from([0.0, 0.15, 0.3, 0.5]))
        minima[changed] = random.integers(0, 40, int(changed.sum()))
        documents.append((slot, int(random.integers(0, 50)), hash64(minima.tobytes()), minima))
    return documents


def fold_all(index: NoveltyIndex, documents: list[tuple[int, int, int, np.ndarray]], cuts: set[int]) -> list[Folded]:
    edges = [at for at in range(1, len(documents)) if at in cuts or documents[at][0] != documents[at - 1][0]]
    parts = []
    for begin, end in zip([0, *edges], [*edges, len(documents)], strict=True):
        slots, ids, texts, minima = zip(*documents[begin:end], strict=True)
        parts.append(
            index.fold(slots[0], np.array(ids, np.uint64), np.array(texts, np.uint64), np.array(minima, np.uint16))
        )
    return parts


@pytest.mark.properties
@given(streams(), st.sets(st.integers(1, 60)), st.sampled_from([0.5, 0.7, 0.9]))
@settings(max_examples=examples(120))
def test_folding_batches_equals_the_rule_document_by_document(
    documents: list[tuple[int, int, int, np.ndarray]], cuts: set[int], similarity: float
) -> None:
    index = NoveltyIndex(similarity)
    parts = fold_all(index, documents, cuts)
    got = [
        triple
        for part in parts
        for triple in zip(part.duplicate.tolist(), part.story.tolist(), part.copy.tolist(), strict=True)
    ]
    assert got == sequential(similarity, documents)


@pytest.mark.properties
@given(streams(), st.integers(1, 59))
@settings(max_examples=examples(20))
def test_an_index_continues_from_its_chunks(documents: list[tuple[int, int, int, np.ndarray]], cut: int) -> None:
    whole, first, second = NoveltyIndex(0.7), NoveltyIndex(0.7), NoveltyIndex(0.7)
    expected = fold_all(whole, documents, {cut})
    before = fold_all(first, documents[:cut], set())
    second.restore(first.chunks())
    after = fold_all(second, documents[cut:], set()) if documents[cut:] else []
    for one, other in zip(expected, [*before, *after], strict=True):
        assert all((a == b).all() for a, b in zip(one, other, strict=True))
    assert second.chunks() == whole.chunks() if documents[cut:] else True


@given(st.lists(st.integers(0, 4000), min_size=1, max_size=6), st.integers(0, 2**32))
def test_the_filter_holds_back_no_bucket_that_has_a_story(sizes: list[int], seed: int) -> None:
    random = np.random.default_rng(seed)
    filtering, segments, first = BucketFilter(), [], 0
    for size in sizes:
        minima = random.integers(0, 1 << 16, (size, FINGERPRINT_SIZE)).astype(np.uint16)
        keys = bucket_keys(minima, random.integers(0, 1 << 63, size).astype(np.uint64))
        places = np.arange(size, dtype=np.uint64)[:, None]
        buckets = np.sort(((keys << np.uint64(32)) | places).ravel())
        segments.append(Segment.of(first, 0, minima, buckets, np.arange(1, dtype=np.uint64)))
        filtering.add(segments[-1], segments)
        first += size
    held = np.sort(np.concatenate([segment.buckets >> np.uint64(32) for segment in segments]))
    assert len(filtering.may_hold(held)) == len(held)
    others = np.sort(random.integers(0, 1 << 32, 20_000).astype(np.uint64))
    assert len(filtering.may_hold(others)) < 0.2 * len(others)


def test_copies_are_counted_on_their_story() -> None:
    index = NoveltyIndex(0.7)
    made = fingerprint([WIRE] * 3 + ["Orrin Bank names a new head of risk as its chief prepares to step down"])
    folded = index.fold(5, np.arange(4, dtype=np.uint64), made.text_hash, made.minima)
    assert folded.story.tolist() == [0, 0, 0, 1]
    index.add_copies(folded.story[folded.copy])
    assert (index.copies_of(0), index.copies_of(1), index.copies_of(9)) == (2, 0, 0)


def test_a_viral_text_folds_in_one_pass_however_many_copies() -> None:
    made = fingerprint([WIRE])
    n = 200_000
    folded = NoveltyIndex(0.7).fold(
        0, np.arange(n, dtype=np.uint64), np.repeat(made.text_hash, n), np.repeat(made.minima, n, axis=0)
    )
    assert int(folded.copy.sum()) == n - 1


@pytest.mark.parametrize("cuts", [set(), {5}])
def test_a_story_that_died_has_no_copies_however_documents_were_cut_into_batches(cuts: set[int]) -> None:
    """Segments are merged by size, so that a dead story may lie in one that lives; nobody may see that."""
    random = np.random.default_rng(1)
    stories = random.integers(0, 1 << 16, (9, FINGERPRINT_SIZE)).astype(np.uint16)
    slots = [0] * 6 + [1] * 2
    index = NoveltyIndex(0.7)
    fold_all(index, [(slot, n, n, stories[n]) for n, slot in enumerate(slots)], cuts)
    index.add_copies(np.array([0, 0, 7]))
    assert (index.copies_of(0), index.copies_of(7)) == (2, 1)
    again = NoveltyIndex(0.7)
    fold_all(index, [(SLOTS + 1, 8, 8, stories[8])], set())
    again.restore(index.chunks())
    for each in (index, again):
        assert (each.copies_of(0), each.copies_of(7)) == (0, 1)
