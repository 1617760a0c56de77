import pytest

from alerts.series_keys import kind_of, parents_of, parts_of, pattern_problem, sector_of

SECTORS = {"XOM": "Energy"}


@pytest.mark.parametrize(
    ("key", "parts", "kind", "parents"),
    [
        ("all", [], "all", ()),
        ("topic:Earnings", [("topic", "Earnings")], "topic", ("all",)),
        ("topic:Legal | Regulation", [("topic", "Legal | Regulation")], "topic", ("all",)),
        ("sector:Energy", [("sector", "Energy")], "sector", ("all",)),
        ("company:XOM", [("company", "XOM")], "company", ("sector:Energy", "all")),
        ("company:NRVL", [("company", "NRVL")], "company", ("all",)),
        (
            "company:XOM|topic:Energy | Oil",
            [("company", "XOM"), ("topic", "Energy | Oil")],
            "company|topic",
            ("company:XOM",),
        ),
    ],
)
def test_a_key_says_its_parts_its_kind_and_whom_it_leans_on(
    key: str, parts: list[tuple[str, str]], kind: str, parents: tuple[str, ...]
) -> None:
    assert (parts_of(key), kind_of(key), parents_of(key, SECTORS)) == (parts, kind, parents)


def test_a_company_and_its_topics_are_in_its_sector_and_nothing_else_is() -> None:
    keys = ["company:XOM", "company:XOM|topic:Energy | Oil", "company:NRVL", "sector:Energy", "topic:XOM", "all"]
    assert [sector_of(key, SECTORS) for key in keys] == ["Energy", "Energy", None, None, None, None]


@pytest.mark.parametrize(
    ("pattern", "meant"),
    [
        ("companies:*", "company:*"),
        ("compny:NRVL", "company:NRVL"),
        ("Company:NRVL", "company:NRVL"),
        ("company", "company:*"),
        ("topic:", "topic:*"),
        ("All", "all"),
        ("company:*|topics:*", "company:*|topic:*"),
        ("company:NRVL|Earnings", "company:NRVL|topic:Earnings"),
    ],
)
def test_a_pattern_that_fits_no_series_is_answered_with_the_nearest(pattern: str, meant: str) -> None:
    assert pattern_problem(pattern) == f"no series is like {pattern!r}; did you mean {meant!r}?"


def test_a_pattern_like_nothing_is_answered_with_what_there_is() -> None:
    assert str(pattern_problem("NRVL")).startswith("no series is like 'NRVL'; they are all, topic:")


@pytest.mark.parametrize(
    "pattern",
    [
        *("*", "all", "topic:*", "topic:Energy | Oil", "sector:[A-M]*", "company:X", "company:*|topic:E*", "comp*:X"),
        *("?ll", "*|topic:X", "company:*|*"),
    ],
)
def test_a_pattern_that_may_fit_a_series_has_no_problem(pattern: str) -> None:
    assert pattern_problem(pattern) is None
