"""Texts to try a model on before it serves."""

from __future__ import annotations

from itertools import cycle, islice

WORDS = ("shares", "fell", "sharply", "after", "the", "quarter", "lawsuit", ",", "targets", "cut", "12%", "$ACME")
LENGTHS = (0, 1, 2, 3, 5, 8, 13, 21, 34, 55, 89, 144, 600)
UNKNOWN = ("🚀🚀 to the moon", "董事长辞职，股价下跌", "pro\ufffdt \ufffd warning", "Ħġŵ qwzx_vjkk ٣٤ ½")
"""What hardly a vocabulary holds: a tokenizer may fail at these alone."""


def probe_texts() -> list[str]:
    """Texts of many lengths, from none to beyond any limit, that differ from each other."""
    return [" ".join(islice(cycle(WORDS[shift:] + WORDS[:shift]), length)) for shift in range(3) for length in LENGTHS]


def first_texts() -> list[str]:
    """A handful of the above, and some with signs that are rare."""
    return [*probe_texts()[: len(LENGTHS)], *UNKNOWN]
