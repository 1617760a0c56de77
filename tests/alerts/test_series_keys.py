import pytest

from alerts.series_keys import kind_of, parent_of, parts_of


@pytest.mark.parametrize(
    ("key", "parts", "kind", "parent"),
    [
        ("all", [], "all", ""),
        ("topic:Earnings", [("topic", "Earnings")], "topic", "all"),
        ("topic:Legal | Regulation", [("topic", "Legal | Regulation")], "topic", "all"),
        ("company:XOM", [("company", "XOM")], "company", "all"),
        (
            "company:XOM|topic:Energy | Oil",
            [("company", "XOM"), ("topic", "Energy | Oil")],
            "company|topic",
            "company:XOM",
        ),
    ],
)
def test_bars_in_topic_labels_are_part_of_the_label(
    key: str, parts: list[tuple[str, str]], kind: str, parent: str
) -> None:
    assert (parts_of(key), kind_of(key), parent_of(key)) == (parts, kind, parent)
