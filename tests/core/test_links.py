from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from streamer.core.links import HOUR_MS, SPANS, StoryLinks
from streamer.core.novelty.index import SLOTS

HORIZON_MS = 168 * HOUR_MS
SLOT_MS = HORIZON_MS // SLOTS

copies = st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3 * SLOT_MS), st.integers(0, 4)), min_size=1, max_size=40)


def noted(links: StoryLinks, copies: list[tuple[int, int, int]], cuts: set[int]) -> StoryLinks:
    """Takes copies (story, milliseconds after the one before, source) in, slot by slot; a restart at each cut."""
    times = np.cumsum([after for _, after, _ in copies])
    slots = times // SLOT_MS
    begin = 0
    for end in range(1, len(copies) + 1):
        if end == len(copies) or slots[end] != slots[begin] or end in cuts:
            part = slice(begin, end)
            story, _, source = (np.array(column) for column in zip(*copies[part], strict=True))
            links.add(int(slots[begin]), story, times[part], source.astype(np.uint64))
            if end in cuts:
                chunks, links = links.chunks(), StoryLinks(HORIZON_MS)
                links.restore(chunks)
            begin = end
    return links


@given(copies, st.sets(st.integers(1, 40)))
def test_linked_counts_are_those_of_a_naive_reference(copies: list[tuple[int, int, int]], cuts: set[int]) -> None:
    links = noted(StoryLinks(HORIZON_MS), copies, cuts)
    times = np.cumsum([after for _, after, _ in copies]).tolist()
    end_ms = times[-1]
    for story in range(4):
        for linked, (name, span_ms) in zip(links.linked(story, end_ms), SPANS, strict=True):
            within = [
                source
                for (of, _, source), time in zip(copies, times, strict=True)
                if of == story and end_ms - span_ms <= time < end_ms
            ]
            assert (linked.span, linked.copies, linked.sources) == (name, len(within), len(set(within)))


def test_spans_reach_as_far_as_the_horizon() -> None:
    assert [linked.span for linked in StoryLinks(24 * HOUR_MS).linked(0, 0)] == ["12h", "24h"]
    assert StoryLinks(HOUR_MS).linked(0, 0) == ()


def test_what_no_living_story_has_is_forgotten() -> None:
    links = noted(StoryLinks(HORIZON_MS), [(0, 3 * SLOT_MS, 1)] * 100, set())
    assert len(links.chunks()) <= SLOTS // 3 + 1
