"""Who publishes the demo's texts (all invented), and the small edits that they make to each other's."""

from __future__ import annotations

from random import Random

from streamer.demo.texts import Style

WIRES = (
    "Meridian Newswire", "Northgate Wire", "Tidewater News", "Axis Street Wire", "Halyard Business News",
    "Polder Press",
)  # fmt: skip
PAPERS = (
    "The Harbour Ledger", "Calder Post", "Evening Bourse", "Lowland Courier", "The Saltmarket Gazette",
    "Finanzwarte", "Kontor Daily", "The Granary Times", "Western Tribune of Commerce",
)  # fmt: skip
BLOGS = (
    "Basis Point Diary", "Margin of Mirth", "Quiet Carry", "The Unlevered View", "Dry Powder Notes",
    "Second Derivative", "Kitchen Table Economics",
)  # fmt: skip
NOTICES = ("PressLine", "Exchange Notices")
HANDLES = (
    "@tickertape_tess", "@hedgehog_hal", "@mildly_bearish", "@contango_karl", "@dividend_dot",
    "@gamma_granny", "@pip_squeak7", "@longshort_lou", "@yieldcurve_yas", "@thetaburn", "@basispoint_bo",
    "@nordic_nickel", "@cashflow_cleo", "@bagholder_ben", "@tapereader_tim", "@quantish_quinn",
    "@spreadsheet_sam", "@coupon_clare", "@vol_vera", "@oilpatch_otis", "@footnote_fay", "@arb_abi",
    "@smallcap_sol", "@macro_mo", "@retail_rita", "@candle_cas", "@bondbloke", "@ferry_trader",
    "@rho_ronan", "@penny_pinch3r", "@slow_money_mae", "@limitdown_leo", "@ebitda_ed", "@swap_sue",
    "@chartless", "@alpha_ish", "@leasing_lars", "@tailrisk_tova", "@moat_mina", "@carry_on_kit",
    "@stoploss_stan", "@desk_plant", "@overnight_ola", "@fairvalue_femi",
)  # fmt: skip

_VOICES: dict[Style, tuple[str, ...]] = {
    "w": WIRES + PAPERS, "p": PAPERS + WIRES[:2], "s": HANDLES, "b": BLOGS, "r": NOTICES,
}  # fmt: skip


def choose_source(style: Style, rng: Random) -> str:
    """An invented publisher that writes in this style."""
    return rng.choice(_VOICES[style])


def source_address(source: str, date: str, number: int) -> str:
    """The page's address, under the reserved domain `.example` (RFC 2606). `date` is like 2026-03-02."""
    if source.startswith("@"):
        return f"https://squawk.example/{source[1:]}/{880_000_000 + 7919 * number}"
    host = "".join(letter for letter in source.lower() if letter.isalpha())
    return f"https://{host}.example/{date.replace('-', '/')}/{number}"


def republish(text: str, style: Style, original_source: str, rng: Random) -> tuple[str, str]:
    """A copy of a text as others pass it on: (their source, the text lightly edited)."""
    if style == "s":
        source = rng.choice([handle for handle in HANDLES if handle != original_source])
        shares = (
            f"RT {original_source}: {text}",
            f"{text} (via {original_source})",
            f"{text} 👀",
            f"this ☝️ {text}",
            f"RT {original_source} {text}",
        )
        return source, rng.choice(shares)
    outlets = [source for source in WIRES + PAPERS + BLOGS[:2] if source != original_source]
    source = rng.choice(outlets)
    if rng.random() < 0.12:
        source = rng.choice(HANDLES)
        return source, f"{text} https://squawk.example/l/{rng.randrange(16**6):06x}"
    edits = (
        text,
        f"{text} - {original_source}",
        f"({original_source}) {text}",
        f"UPDATE 1-{text}" if style == "w" else f"{text} ({original_source})",
        f"{text} | {source}",
        f"{text.rstrip('.')}, {original_source} reports",
        text.replace(" mln", " million").replace(" bln", " billion").replace("EUR ", "€").replace("GBP ", "£"),
        text.replace("%", " percent").replace("  ", " "),
    )
    return source, rng.choice(edits)
