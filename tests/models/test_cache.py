"""The cache returns the very rows it was given, never more than its bound, least recently used out first."""

from __future__ import annotations

from collections import OrderedDict

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from models.cache import ScoreCache, text_key

keys = st.lists(st.sampled_from("abcdefgh"), max_size=6, unique=True)


@given(st.integers(1, 5), st.lists(st.tuples(st.booleans(), keys), max_size=30))
def test_it_behaves_like_a_bounded_dictionary(entries: int, steps: list[tuple[bool, list[str]]]) -> None:
    cache = ScoreCache(entries, width=2)
    model: OrderedDict[bytes, float] = OrderedDict()
    for number, (storing, words) in enumerate(steps):
        names = [word.encode() for word in words]
        if storing:
            rows = np.array([[number, at] for at in range(len(names))], dtype=np.float32).reshape(-1, 2)
            said = [(f"{number}-{at}",) if at % 2 else () for at in range(len(names))]
            cache.store(names, rows, said)
            for at, name in enumerate(names):
                model.pop(name, None)
                model[name] = float(number) + at / 100
                while len(model) > entries:
                    model.popitem(last=False)
        else:
            rows, told, found = cache.look_up(names)
            assert found.tolist() == [name in model for name in names]
            for row, of_text, name in zip(rows, told, names, strict=True):
                if name not in model:
                    continue
                assert row[0] + row[1] / 100 == np.float32(model[name])
                assert of_text == ((f"{int(row[0])}-{int(row[1])}",) if row[1] % 2 else ())
                model.move_to_end(name)
        assert len(cache) == len(model)


@given(st.text(), st.text())
def test_different_texts_have_different_keys(one: str, other: str) -> None:
    assert (text_key(one) == text_key(other)) == (one == other)


def test_a_lone_surrogate_has_a_key() -> None:
    assert text_key("\ud800") != text_key("\udfff")
