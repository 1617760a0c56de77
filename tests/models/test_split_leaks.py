"""What a split leaves on both sides is counted."""

from __future__ import annotations

from models.training.cleaning import clean_and_split, near_key
from models.training.recipe import Source, Task
from models.training.sources import Example

SOURCE = Source(path="texts.csv")
TASK = Task(name="intent", labels=("billing", "login"), sources=(SOURCE,))


def test_near_duplicates_that_a_random_split_parts_are_counted() -> None:
    rows = [Example(f"profit rose {number} %", 0, SOURCE) for number in range(40)]
    rows += [Example(f"a login of its own kind {'x' * number}", 1, SOURCE) for number in range(40)]
    parted = clean_and_split(TASK, rows, validation=0.3, seed=3, apart=False)
    sides = [{near_key(example.text) for example in side} for side in (parted.train, parted.validation)]
    assert parted.report.near_across == sum(near_key(e.text) in sides[0] for e in parted.validation) == 12
    assert clean_and_split(TASK, rows, validation=0.3, seed=3).report.near_across == 0
