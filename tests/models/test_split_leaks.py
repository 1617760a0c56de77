"""What a split leaves on both sides is counted."""

from __future__ import annotations

from models.training.cleaning import between_tasks, clean_and_split, near_key
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


def test_what_one_task_holds_back_and_another_learns_is_counted_and_left() -> None:
    other = Task(name="mood", labels=("calm", "angry"), sources=(SOURCE,))
    measured, given = Source(path="m.csv", use="measure"), Source(path="v.csv", use="validation")
    rows = [Example("Where is my parcel, 2", 0, given), Example("reset my code", 1, measured)]
    rows += [Example("an invoice", 0, SOURCE), Example("nobody else has this", 0, measured)]
    shared = [Example("where is my parcel", 1, SOURCE), Example("reset my code!", 0, SOURCE)]
    splits = {
        "intent": clean_and_split(TASK, rows, validation=0.0, seed=1),
        "mood": clean_and_split(other, shared, validation=0.0, seed=1),
    }
    found = between_tasks(splits)
    assert {name: split.report.other_tasks for name, split in found.items()} == {"intent": 2, "mood": 0}
    assert [split[:3] for split in found.values()] == [split[:3] for split in splits.values()]
