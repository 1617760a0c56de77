"""Which texts of one batch begin stories: the sequential rule of the index, decided in few rounds."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from streamer.core.novelty.segments import agreement
from streamer.core.runs import run_numbers, run_starts

_OPEN, _STORY, _COPY = range(3)
_PAIRS_AT_ONCE: Final = 1 << 18


def stories_within(
    low: NDArray[np.uint8],
    old_story: NDArray[np.int64],
    members: NDArray[np.int64],
    group: NDArray[np.int64],
    room: NDArray[np.int64],
    needed: int,
) -> NDArray[np.int64]:
    """int64[t]: for each text the text of this batch that begins its story, itself where it begins one.

    `low` uint8[t, K] are fingerprints in canonical order; texts with `old_story` >= 0 are copies already. Entries:
    text `members[e]` is in bucket `group[e]`, sorted by bucket, then text. A bucket shows a text its first `room`
    stories of this batch; a text is a copy of the earliest shown story of which `needed` minima agree.

    Each round settles every text whose answer no longer depends on an open text: it is alike to a story in view, or
    no open text in view is alike and none can slip into view. The first open text is always settled.
    """
    state = np.where(old_story >= 0, _COPY, _STORY)
    sizes = np.bincount(group, minlength=len(room))
    shared = (sizes[group] > 1) & (room[group] > 0)
    members, group = members[shared], group[shared]
    open_texts = np.unique(members[state[members] == _STORY])
    state[open_texts] = _OPEN
    while len(open_texts):
        entry, shown, hidden = _in_view(state, members, group, room, open_only=True)
        texts = members[entry]
        alike = _alike(low, texts, shown, needed)
        undecided = (state[shown] == _OPEN) & (alike | hidden)
        blocked, folded = np.zeros(len(low), np.bool_), np.zeros(len(low), np.bool_)
        blocked[texts[undecided]] = True
        folded[texts[alike & (state[shown] == _STORY)]] = True
        settled = open_texts[folded[open_texts] | ~blocked[open_texts]]
        state[settled] = np.where(folded[settled], _COPY, _STORY)
        open_texts = open_texts[state[open_texts] == _OPEN]

    head = np.arange(len(low))
    copies = (state == _COPY) & (old_story < 0)
    if copies.any():
        entry, shown, _ = _in_view(state, members, group, room, open_only=False)
        wanted = copies[members[entry]]
        texts, shown = members[entry][wanted], shown[wanted]
        alike = _alike(low, texts, shown, needed)
        np.minimum.at(head, texts[alike], shown[alike])
    return head


def _in_view(
    state: NDArray[np.int64],
    members: NDArray[np.int64],
    group: NDArray[np.int64],
    room: NDArray[np.int64],
    *,
    open_only: bool,
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.bool_]]:
    """Pairs (entry, text shown to it), and whether the bucket hides earlier texts from it that are no copies."""
    alive = state[members] != _COPY
    before = np.cumsum(alive) - alive
    before -= before[run_starts(group)][run_numbers(group)]
    most = int(room.max(initial=0))
    view = np.full((len(room), most), -1, dtype=np.int64)
    seen = np.flatnonzero(alive & (before < room[group]))
    view[group[seen], before[seen]] = members[seen]
    asking = np.flatnonzero(state[members] == _OPEN) if open_only else np.flatnonzero(~alive)
    shown = view[group[asking]]
    row, column = np.nonzero((shown >= 0) & (shown < members[asking][:, None]))
    entry = asking[row]
    return entry, shown[row, column], before[entry] > room[group[entry]]


def _alike(low: NDArray[np.uint8], left: NDArray[np.int64], right: NDArray[np.int64], needed: int) -> NDArray[np.bool_]:
    parts = [slice(start, start + _PAIRS_AT_ONCE) for start in range(0, len(left), _PAIRS_AT_ONCE)]
    alike = [agreement(low[left[part]], low[right[part]]) >= needed for part in parts]
    return np.concatenate(alike) if alike else np.zeros(0, np.bool_)
