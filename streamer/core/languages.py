"""Which model reads a document: the one of its language, the default one, or none. Pure and the same in every run."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Final, NamedTuple

from streamer.core.documents import Rejection
from streamer.escaping import escaped, quoted

UNSERVED = "no_model_for_language"
NO_MODEL: Final = -1

_MACROLANGUAGE: Final = {
    "cmn": "zh", "yue": "zh", "wuu": "zh", "gan": "zh", "hak": "zh", "nan": "zh", "lzh": "zh",
    "nb": "no", "nn": "no",
}  # fmt: skip
"""Members of the languages that models are trained for under one code (ISO 639-3)."""
_OLD_CODES: Final = {"in": "id", "iw": "he", "ji": "yi"}
"""What languages were called before (RFC 5646)."""

_CODES: Final = """
aar:aa abk:ab afr:af aka:ak alb:sq amh:am ara:ar arg:an arm:hy asm:as ava:av ave:ae aym:ay aze:az bak:ba bam:bm
baq:eu bel:be ben:bn bih:bh bis:bi bod:bo bos:bs bre:br bul:bg bur:my cat:ca ces:cs cha:ch che:ce chi:zh chu:cu
chv:cv cor:kw cos:co cre:cr cym:cy cze:cs dan:da deu:de div:dv dut:nl dzo:dz ell:el eng:en epo:eo est:et eus:eu
ewe:ee fao:fo fas:fa fij:fj fin:fi fra:fr fre:fr fry:fy ful:ff geo:ka ger:de gla:gd gle:ga glg:gl glv:gv gre:el
grn:gn guj:gu hat:ht hau:ha heb:he her:hz hin:hi hmo:ho hrv:hr hun:hu hye:hy ibo:ig ice:is ido:io iii:ii iku:iu
ile:ie ina:ia ind:id ipk:ik isl:is ita:it jav:jv jpn:ja kal:kl kan:kn kas:ks kat:ka kau:kr kaz:kk khm:km kik:ki
kin:rw kir:ky kom:kv kon:kg kor:ko kua:kj kur:ku lao:lo lat:la lav:lv lim:li lin:ln lit:lt ltz:lb lub:lu lug:lg
mac:mk mah:mh mal:ml mao:mi mar:mr may:ms mkd:mk mlg:mg mlt:mt mon:mn mri:mi msa:ms mya:my nau:na nav:nv nbl:nr
nde:nd ndo:ng nep:ne nld:nl nno:nn nob:nb nor:no nya:ny oci:oc oji:oj ori:or orm:om oss:os pan:pa per:fa pli:pi
pol:pl por:pt pus:ps que:qu roh:rm ron:ro rum:ro run:rn rus:ru sag:sg san:sa sin:si slk:sk slo:sk slv:sl sme:se
smo:sm sna:sn snd:sd som:so sot:st spa:es sqi:sq srd:sc srp:sr ssw:ss sun:su swa:sw swe:sv tah:ty tam:ta tat:tt
tel:te tgk:tg tgl:tl tha:th tib:bo tir:ti ton:to tsn:tn tso:ts tuk:tk tur:tr twi:tw uig:ug ukr:uk urd:ur uzb:uz
ven:ve vie:vi vol:vo wel:cy wln:wa wol:wo xho:xh yid:yi yor:yo zha:za zho:zh zul:zu
"""
_TWO_LETTERS: Final[dict[str, str]] = dict(pair.split(":") for pair in _CODES.split())
"""The two-letter code (ISO 639-1) of each three-letter one that has any (ISO 639-2, terms and bibliographic codes)."""

Detect = Callable[[str], str | None]


def primary_language(tag: str) -> str:
    """`zh` of `zh-Hant-TW`, `zh_CN`, `zho` or `yue`: the primary subtag of a language tag (RFC 5646), in lower case and
    with two letters where there are such."""
    primary = wanted_language(tag).partition("-")[0]
    return _MACROLANGUAGE.get(primary, primary)


@lru_cache(maxsize=1024)
def said_language(lang: str | None) -> str | None:
    """The primary language that a document says of itself, None where it says none."""
    primary = primary_language(lang or "")
    return primary if primary not in ("", "und") else None


def wanted_language(tag: str) -> str:
    """A language tag of a list as `names_of_language` has it: `en` of `ENG`, `zh-tw` of `zh_TW`, and `yue` as it is."""
    primary, _, rest = tag.strip().replace("_", "-").lower().partition("-")
    primary = primary.strip()
    primary = _OLD_CODES.get(primary, _TWO_LETTERS.get(primary, primary))
    return f"{primary}-{rest}" if rest else primary


@lru_cache(maxsize=1024)
def names_of_language(lang: str | None) -> frozenset[str]:
    """Every tag in a list that admits a document of this language: of `yue_HK` these are `yue-hk`, `yue` and `zh`."""
    tag = wanted_language(lang or "")
    return frozenset({tag, tag.partition("-")[0], primary_language(tag)} - {""})


class Way(NamedTuple):
    """The route of a document, or NO_MODEL; `read_anyway` where the default model is not made for its language."""

    route: int
    read_anyway: bool = False


_DEFAULT: Final = Way(0)


class LanguageRules:
    """Routes documents by language.

    `served` are the languages of each route, the default model's first; where that has none, nobody knows what it is
    made for. A language that none serves goes to route 0 where `others_to_default`, else it has no model. `detect`
    tells the language of a text whose document does not say it (None when unsure, which goes to route 0); without it
    all such texts go to route 0. It is not asked where the rules are `trivial`: every text goes to route 0.
    """

    def __init__(
        self, served: Sequence[Sequence[str]] = ((),), *, others_to_default: bool = True, detect: Detect | None = None
    ) -> None:
        self.served = tuple(tuple(primary_language(tag) for tag in tags) for tags in served)
        self.others_to_default = others_to_default
        self.trivial = others_to_default and len(self.served) == 1
        self._detect = detect
        self._find_ways()

    def default_reads(self, languages: Sequence[str]) -> None:
        """The default model is made for these languages from now on, as one that has taken its place."""
        self.served = (tuple(map(primary_language, languages)), *self.served[1:])
        self._find_ways()

    def routes_as(self, others: LanguageRules) -> bool:
        """Whether other rules that differ in `served` alone send every document the same way."""
        return self.served == others.served or (self.trivial and others.trivial)

    def way(self, lang: str | None, text: str) -> Way:
        """Which way a document goes that says its language is `lang`."""
        language = said_language(lang) if self.trivial else self.language(lang, text)
        return _DEFAULT if language is None else self._ways.get(language, self._others)

    def language(self, lang: str | None, text: str) -> str | None:
        """The primary language of a document; None where it is not said and cannot be told."""
        said = said_language(lang)
        if said is not None:
            return said
        found = None if self._detect is None else self._detect(text)
        return None if found is None else primary_language(found)

    def _find_ways(self) -> None:
        routes = reversed(list(enumerate(self.served)))
        self._ways = {tag: Way(route) for route, tags in routes for tag in tags}
        self._others = Way(0, read_anyway=bool(self.served[0])) if self.others_to_default else Way(NO_MODEL)


def unserved(language: str | None) -> Rejection:
    """Why a document in this language has no score."""
    return Rejection(
        UNSERVED,
        escaped(f"no model reads {quoted(language)}; see model.routes and model.other_languages"),
    )
