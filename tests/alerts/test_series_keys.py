import pytest

from alerts.series_keys import kind_of, parents_of, parts_of, sector_of

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
