"""The engine of one book: closed panes in, alert records out. Pure; decided on event time alone.

pane ─► season, baselines (lazy) ─► detector of each rule ─► lives ─► records
                ▲                          │ rarity: false alarms per series day
                └── a firing alert does not teach
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import numpy as np
from numpy.typing import NDArray

from alerts.baseline import FLOAT_COLUMNS, INT_COLUMNS, Baselines, Floats, Ints
from alerts.detect import Detector, Scores
from alerts.durations import DAY_MS, format_duration, parse_duration_ms
from alerts.explain import calm_below, readings, shared_words
from alerts.history import History
from alerts.life import Life, Timings
from alerts.packing import StateError, pack, unpack
from alerts.panes import DOCUMENTS, NEGATIVE, POSITIVE, ClosedPane, EvidenceOf
from alerts.places import present
from alerts.records import AlertRecord, AlertText, Change, Decided, LinkedCount, alert_id
from alerts.rules import Rule, RulesError, RuleSet
from alerts.season import Season
from alerts.series_keys import sector_of
from alerts.wording import line, paragraph, resolves_when

SHARD = 4096
_CHECK_MS = 600_000
_TEACH_AFTER_MS = 3 * DAY_MS


class AlertEngine:
    """Watches every series of a book by its rules.

    `windows_ms` are the lengths of `ClosedPane.windows`, in its order. Raises RulesError where a rule names a window
    that the book does not have. `sectors` maps companies to sectors: what a company leans on, and a label of its
    alerts.
    """

    def __init__(
        self, rules: RuleSet, *, book: str, pane_ms: int, windows_ms: tuple[int, ...],
        sectors: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.rules, self.book, self.pane_ms, self.windows_ms = rules, book, pane_ms, windows_ms
        self.sectors = sectors or {}
        self.version = rules.version_id
        memory_ms = parse_duration_ms(rules.learning.memory)
        self.warm_up_ms = parse_duration_ms(rules.learning.warm_up)
        self.season = Season(memory_ms)
        self.base = Baselines(self.season, memory_ms, self.sectors)
        self.history = History()
        self._tighten(1.0)
        if problems := [*self._missing_windows()]:
            raise RulesError(*problems)
        self.detectors = [self._detector(rule) for rule in rules.rules]
        self.lives: dict[tuple[int, int], Life] = {}
        self.rested: dict[tuple[int, int], int] = {}
        self.watched = np.zeros((len(rules.rules), 64), np.int8)

    def _tighten(self, tightness: float) -> None:
        """Let every rule have this share of the false alarms that it asks for."""
        self.tightness = tightness
        self.timings = [Timings.of(rule, tightness) for rule in self.rules.rules]

    def _keep_budget(self, now_ms: int) -> None:
        """Tighten all rules alike until the sum over their active series is within the book's budget, if any."""
        if self.rules.budget is None:
            self._tighten(1.0)
            return
        since_ms = now_ms - parse_duration_ms(self.rules.learning.memory)
        asked = sum(
            rule.budget_per_day * int((detector.seen_ms >= since_ms).sum())
            for rule, detector in zip(self.rules.rules, self.detectors, strict=True)
        )
        self._tighten(min(1.0, self.rules.budget.per_day / asked) if asked else 1.0)

    def _missing_windows(self) -> Iterator[str]:
        has = ", ".join(format_duration(length) for length in self.windows_ms)
        for rule in self.rules.rules:
            for window in rule.windows:
                if parse_duration_ms(window) not in self.windows_ms:
                    yield f"rules.{rule.name}.windows: the book has no window {window}; it has {has}"

    def _detector(self, rule: Rule) -> Detector:
        wanted = sorted(parse_duration_ms(window) for window in rule.windows) or sorted(self.windows_ms)
        rows = [self.windows_ms.index(window) for window in wanted]
        return Detector(
            wanted,
            rows,
            slow=rule.slow,
            min_negative=rule.least_negative,
            rest_ms=parse_duration_ms(rule.life.cool_down),
        )

    def observe(self, pane: ClosedPane, evidence: EvidenceOf, model: str) -> list[Decided]:
        """The changes that this pane causes, ordered by rule and series. Panes come in order of time."""
        self.season.advance(pane.start_ms)
        before = self.base.block
        if self.base.advance(pane.start_ms) and before >= 0:
            for detector in self.detectors:
                detector.forget(self.base.keep_block ** (self.base.block - before), float(self.base.kind_series.sum()))
            self._keep_budget(pane.start_ms)
        ids = np.asarray(pane.ids, np.int64)
        due = pane.end_ms // _CHECK_MS > pane.start_ms // _CHECK_MS
        if not len(ids) and not due:
            return []
        negative = self._count(pane, ids) if len(ids) else np.zeros(0)
        decided: list[Decided] = []
        touched = set(ids.tolist()) if self.lives else set()
        learns = self.base.watched_ms >= self.warm_up_ms / 2
        for number, rule in enumerate(self.rules.rules):
            chosen = ids[(negative > 0) & self._selected(number, ids, pane.keys)] if learns else ids[:0]
            live = [series for of, series in self.lives if of == number and (due or series in touched)]
            asked = np.union1d(chosen, np.array(live, np.int64)) if live else chosen
            if not len(asked):
                continue
            decided += self._decide(number, rule, asked, chosen, ids, negative, pane, evidence, model)
        return decided

    def _count(self, pane: ClosedPane, ids: Ints) -> Floats:
        documents = pane.counts[:, DOCUMENTS]
        negative = pane.counts[:, NEGATIVE]
        told = pane.counts.astype(np.float64)
        taught = self._taught(ids, pane.end_ms)
        self.base.add(ids, pane.keys, told[:, DOCUMENTS], told[:, NEGATIVE], told[:, POSITIVE], taught)
        self.season.add(float(documents.max()))
        self.history.add(ids, pane.start_ms, documents, negative)
        return np.asarray(negative.astype(np.float64))

    def _taught(self, ids: Ints, now_ms: int) -> NDArray[np.bool_]:
        """bool[n]: whether these series learn; not in the first days of a firing alert on them."""
        taught = np.ones(len(ids), np.bool_)
        firing = (
            life.series
            for life in self.lives.values()
            if life.state == "firing" and now_ms - life.fired_ms < _TEACH_AFTER_MS
        )
        taught[present(ids, firing)[0]] = False
        return taught

    def _selected(self, number: int, ids: Ints, keys: Sequence[str]) -> NDArray[np.bool_]:
        """Whether rule `number` watches these series; asked once per series (0 not asked yet, 1 yes, 2 no)."""
        if len(ids) and int(ids[-1]) >= self.watched.shape[1]:
            size = max(2 * self.watched.shape[1], int(ids[-1]) + 1)
            grown = np.zeros((len(self.watched), size), np.int8)
            grown[:, : self.watched.shape[1]] = self.watched
            self.watched = grown
        row = self.watched[number]
        for series in ids[row[ids] == 0].tolist():
            row[series] = 1 if self.rules.rules[number].selects(keys[series]) else 2
        return np.asarray(row[ids] == 1)

    def _decide(
        self, number: int, rule: Rule, asked: Ints, chosen: Ints, ids: Ints, negative: Floats,
        pane: ClosedPane, evidence: EvidenceOf, model: str,
    ) -> list[Decided]:  # fmt: skip
        detector, timings = self.detectors[number], self.timings[number]
        live = [series for of, series in self.lives if of == number]
        self.base.fold(asked, self._taught(asked, pane.end_ms))
        muted = {series: until for (of, series), until in self.rested.items() if of == number}
        scores = detector.score(asked, pane.windows, pane.end_ms, self.base, muted)
        if len(chosen):
            picked = np.searchsorted(asked, chosen)
            own = scores.of(picked)
            spoken = negative[np.searchsorted(ids, chosen)]
            alerting = np.zeros(len(chosen), np.bool_)
            alerting[present(chosen, live)[0]] = True
            detector.learn(chosen, own, spoken, pane.end_ms, self.base, timings.fire, alerting)
        warm = self.base.watched_ms >= self.warm_up_ms
        decided = []
        stirring = scores.rarity >= timings.fire
        stirring[present(asked, live)[0]] = True
        for place in np.flatnonzero(stirring).tolist():
            series = int(asked[place])
            life = self.lives.get((number, series))
            rarity = float(scores.rarity[place])
            if life is None:
                if not warm or not self._rested(number, series, pane.end_ms):
                    continue
                life = self._open(number, rule, series, pane, int(scores.channel[place]))
                self.lives[number, series] = life
            else:
                rarity = self._present(life, scores, place)
            decided += self._step(life, rule, detector, scores, place, rarity, pane, evidence, model)
        return decided

    def _rested(self, number: int, series: int, now_ms: int) -> bool:
        until = self.rested.get((number, series))
        if until is None:
            return True
        if now_ms - until >= self._remembered_ms(number):
            del self.rested[number, series]
            return True
        return now_ms - until >= self.timings[number].cool_down_ms

    def _remembered_ms(self, number: int) -> int:
        """How long the end of an alert of rule `number` matters: a window may hold the alert, or its series rest."""
        return max(*self.windows_ms, self.timings[number].cool_down_ms)

    def _present(self, life: Life, scores: Scores, place: int) -> float:
        """The rarity of a live alert by its leading channel or a faster one; a slower, rarer one takes the lead."""
        rarities = scores.channel_rarity[:, place]
        best = int(scores.channel[place])
        led = float(rarities[: life.channel + 1].max())
        if best > life.channel and led >= self.timings[life.rule].calm:
            life.channel, led = best, float(rarities[best])
        return (
            min(led, float(scores.rarity[place])) if led < self.timings[life.rule].calm else float(scores.rarity[place])
        )

    def _open(self, number: int, rule: Rule, series: int, pane: ClosedPane, channel: int) -> Life:
        key = pane.keys[series]
        return Life(
            id=alert_id(self.book, rule.name, key, pane.start_ms),
            rule=number,
            series=series,
            key=key,
            channel=channel,
            since_ms=pane.start_ms,
            severity=0,
            peak_severity=0,
            rarity=0.0,
        )

    def _step(
        self, life: Life, rule: Rule, detector: Detector, scores: Scores, place: int, rarity: float,
        pane: ClosedPane, evidence: EvidenceOf, model: str,
    ) -> list[Decided]:  # fmt: skip
        timings = self.timings[life.rule]
        leading = min(life.channel, len(detector.windows_ms) - 1)
        window_ms = int(detector.windows_ms[leading])
        if rarity > life.peak_rarity or life.peak is None:
            life.peak = readings(detector, scores, place, life.series, pane, self.base)[leading]
            life.peak_rarity = rarity
        said = None
        backed = True
        if life.state == "pending" and rule.min_sources > 1:
            said = evidence(life.series, pane.end_ms - window_ms, pane.end_ms)
            backed = said.sources >= rule.min_sources
        decided = []
        while (change := life.step(pane.end_ms, rarity, timings, backed=backed)) is not None:
            seen = readings(detector, scores, place, life.series, pane, self.base)
            start_ms = min(pane.end_ms - window_ms, life.since_ms if life.state == "resolved" else pane.end_ms)
            said = said or evidence(life.series, start_ms, pane.end_ms)
            calm = calm_below(detector, scores, place, life.series, life.channel, pane, self.base, timings.calm)
            ends = resolves_when(window_ms, calm, timings.resolve_after_ms, self.rules.language)
            texts = tuple(
                AlertText(
                    id=text.id, text=text.text, published_at_ms=text.published_at_ms, negative=text.negative,
                    copies=text.copies, source=text.source, url=text.url,
                    linked=tuple(
                        LinkedCount(span=each.span, copies=each.copies, sources=each.sources) for each in text.linked
                    ),
                    words=text.words,
                )
                for text in said.texts
            )  # fmt: skip
            record = AlertRecord(
                id=life.id, sequence=life.sequence, state=life.state, change=change,
                severity=timings.severities[life.severity], peak_severity=timings.severities[life.peak_severity],
                kind="deterioration" if life.channel >= len(detector.windows_ms) else "surge",
                book=self.book, rule=rule.name, series=life.key, labels=self._labels(rule, life.key),
                since_ms=life.since_ms, at_ms=pane.end_ms,
                fired_at_ms=life.fired_ms if life.fired_ms >= 0 else None,
                resolved_at_ms=life.resolved_ms if life.resolved_ms >= 0 else None,
                observed=seen[leading], peak=life.peak, windows=seen,
                false_alarms_per_day=math.pow(10.0, -life.peak_rarity if life.state == "resolved" else -rarity),
                budget_per_day=rule.budget_per_day * self.tightness,
                sources=said.sources, copies=said.copies, texts=texts, words=shared_words(texts),
                history=self.history.points(life.series, pane.start_ms),
                resolves_when=ends, line="", paragraph="", model=model, rules=self.version,
            )  # fmt: skip
            language = self.rules.language
            worded = msgspec.structs.replace(record, line=line(record, language), paragraph=paragraph(record, language))
            decided.append(Decided(worded, said.stories))
            if life.state == "resolved":
                self._close(life, change, pane.end_ms)
                break
        return decided

    def _labels(self, rule: Rule, key: str) -> dict[str, str]:
        sector = sector_of(key, self.sectors)
        return dict(rule.labels) if sector is None else {**rule.labels, "sector": sector}

    def _close(self, life: Life, change: Change, now_ms: int) -> None:
        del self.lives[life.rule, life.series]
        if change == "resolved":
            self.rested[life.rule, life.series] = now_ms

    def is_live(self) -> bool:
        """Whether quiet panes must be observed too, because an alert may change with time alone."""
        return bool(self.lives)

    def held_series(self, now_ms: int) -> set[int]:
        """The series with a live alert, and those that still rest from one at `now_ms`."""
        resting = (
            series for (number, series), until in self.rested.items() if now_ms - until < self._remembered_ms(number)
        )
        return {series for _, series in self.lives}.union(resting)

    def drop_series(self, ids: Iterable[int]) -> None:
        """Forget these series, none of which is held; their ids may be given to others."""
        gone = np.array(sorted(set(map(int, ids))), np.int64)
        if not len(gone):
            return
        self.base.drop(gone)
        self.history.drop(gone)
        self.watched[:, gone[gone < self.watched.shape[1]]] = 0
        for detector in self.detectors:
            detector.drop(gone)
        forgotten = set(gone.tolist())
        self.rested = {key: until for key, until in self.rested.items() if key[1] not in forgotten}

    def snapshot(self) -> dict[str, bytes]:
        """The whole state in named chunks: `alerts/head`, and `alerts/series/N` for every 4096 series ids."""
        head = {
            "shapes": [self._shape(number) for number in range(len(self.detectors))],
            "tightness": self.tightness,
            "severities": [timings.severities for timings in self.timings],
            "season": self.season.dump(),
            "base": self.base.dump(),
            "lives": [msgspec.to_builtins(life) for life in self.lives.values()],
            "rested": [[rule, series, until] for (rule, series), until in self.rested.items()],
            "sizes": [self.base.size, len(self.history.last_hour), *(len(d.seen_ms) for d in self.detectors)],
        }
        arrays: dict[str, NDArray[np.float64] | NDArray[np.int64] | NDArray[np.bool_] | NDArray[np.int32]] = {}
        for number, detector in enumerate(self.detectors):
            arrays |= {f"{number}/{name}": array for name, array in detector.dump().items()}
        chunks = {"alerts/head": pack(head, arrays)}
        columns = self._per_series()
        longest = max(len(array) for array in columns.values())
        for shard in range(0, longest, SHARD):
            cut = {name: array[shard : shard + SHARD] for name, array in columns.items()}
            chunks[f"alerts/series/{shard // SHARD}"] = pack({}, cut)
        return chunks

    def _per_series(self) -> dict[str, NDArray[np.float64] | NDArray[np.int64] | NDArray[np.bool_] | NDArray[np.int32]]:
        columns: dict[str, NDArray[np.float64] | NDArray[np.int64] | NDArray[np.bool_] | NDArray[np.int32]] = {
            f"base/{name}": self.base.columns[name] for name in (*FLOAT_COLUMNS, *INT_COLUMNS)
        }
        columns |= {"history/counts": self.history.counts, "history/last_hour": self.history.last_hour}
        for number, d in enumerate(self.detectors):
            columns |= {
                f"{number}/peak": d.peak,
                f"{number}/last_ms": d.last_ms,
                f"{number}/fired": d.fired,
                f"{number}/seen_ms": d.seen_ms,
            }
        return columns

    def restore(self, chunks: Mapping[str, bytes], *, changed_ms: int | None = None) -> list[str]:
        """Take over the state of a `snapshot`; under the rules that made it, to continue bit-identically.

        `changed_ms` is when other rules than those came into force; their budget holds at once. What was learned of the
        series stays, and so does what was learned of a rule's scores where one over the same windows is among the rules
        now. Live alerts keep their severities by name (see `Timings.place`). Returns the ids of the live alerts that no
        rule here stands behind; they are forgotten.

        Raises StateError where the state does not fit.
        """
        if "alerts/head" not in chunks:
            raise StateError("alert state: the chunk alerts/head is missing")
        head, arrays = unpack(chunks["alerts/head"])
        self.season.load(head["season"])
        shards = [unpack(chunks[f"alerts/series/{n}"])[1] for n in range(sum("/series/" in name for name in chunks))]
        columns = {name: np.concatenate([shard[name] for shard in shards]) for name in shards[0]}
        self.base.load(
            head["base"], {name.removeprefix("base/"): a for name, a in columns.items() if name[:5] == "base/"}
        )
        self.history.counts, self.history.last_hour = columns["history/counts"], columns["history/last_hour"]
        for number, detector in enumerate(self.detectors):
            source = predecessor(self._shape(number), head["shapes"])
            if source is None:
                continue
            mark = f"{source}/"
            detector.load(
                {name.removeprefix(mark): array.copy() for name, array in arrays.items() if name.startswith(mark)}
            )
            detector.peak, detector.last_ms = columns[f"{mark}peak"].copy(), columns[f"{mark}last_ms"].copy()
            detector.fired, detector.seen_ms = columns[f"{mark}fired"].copy(), columns[f"{mark}seen_ms"].copy()
        self._tighten(head["tightness"])
        if changed_ms is not None:
            self._keep_budget(changed_ms)
        self.watched = np.zeros((len(self.rules.rules), 64), np.int8)
        names = [shape[0] for shape in head["shapes"]]
        numbers = {rule.name: number for number, rule in enumerate(self.rules.rules)}
        self.rested = {
            (numbers[names[rule]], series): until for rule, series, until in head["rested"] if names[rule] in numbers
        }
        lives = [msgspec.convert(life, Life) for life in head["lives"]]
        # A state that does not say so is only ever restored under the rules that made it.
        severities = head.get("severities") or [timings.severities for timings in self.timings]
        return self._succeed(lives, names, numbers, severities)

    def _shape(self, number: int) -> list[Any]:
        """What a rule's detector must share with another's for their states to fit: all but the rule's name."""
        detector = self.detectors[number]
        return [self.rules.rules[number].name, detector.windows_ms.tolist(), detector.slow]

    def _succeed(
        self, lives: list[Life], names: list[str], numbers: Mapping[str, int], severities: Sequence[Sequence[str]]
    ) -> list[str]:
        """Take over live alerts of rules called `names`, with these severities; returns the ids of those that nobody
        here stands behind."""
        orphans = []
        self.lives = {}
        for life in lives:
            number = numbers.get(names[life.rule])
            if number is None or not self.rules.rules[number].selects(life.key):
                orphans.append(life.id)
                continue
            known, timings = severities[life.rule], self.timings[number]
            life.rule = number
            life.channel = min(life.channel, self.detectors[number].channels - 1)
            life.severity = timings.place(known[life.severity], life.rarity)
            life.peak_severity = max(life.severity, timings.place(known[life.peak_severity], life.peak_rarity))
            self.lives[number, life.series] = life
        return orphans


def predecessor(shape: list[Any], stored: list[list[Any]]) -> int | None:
    """The place of the stored detector whose state a detector of this shape takes over: its own rule's, else any."""
    fitting = [place for place, other in enumerate(stored) if other[1:] == shape[1:]]
    own = [place for place in fitting if stored[place][0] == shape[0]]
    return next(iter(own or fitting), None)
