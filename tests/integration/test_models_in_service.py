"""A running worker changes its model, sends languages to models of their own, and compares a shadow."""

from __future__ import annotations

import asyncio
import json
import shutil
import signal
import time
from collections import Counter
from pathlib import Path
from urllib.request import urlopen

import orjson
import pytest

from models.bundle import Bundle
from streamer.core.dead_letters import REASON
from streamer.timestamps import format_rfc3339
from tests.integration.deployment import Deployment, until
from tests.models.tiny_bundle import write_tiny_bundle

pytestmark = pytest.mark.embedded


def documents(first: int, count: int, lang: str | None) -> list[tuple[int | None, bytes | None, bytes | None]]:
    start = int(time.time() * 1000) - 3_600_000
    made = []
    for number in range(first, first + count):
        document = {
            "id": f"d{number}",
            "text": f"record profit, lawsuit and loss number {number}",
            "published_at": format_rfc3339(start + number * 100),
        }
        if lang is not None:
            document["lang"] = lang
        made.append((number % 2, document["id"].encode(), orjson.dumps(document)))
    return made


async def test_a_model_takes_the_place_of_another_without_a_text_lost_or_doubled(embedded: str, tmp_path: Path) -> None:
    served = tmp_path / "served"
    old = write_tiny_bundle(served, version="1")
    deployment = Deployment(embedded, tmp_path / "run", model__bundle=str(served), topics__documents__partitions=2)
    worker = deployment.worker()
    await until(deployment.has_topics, "the topics exist", worker=worker)
    models: Counter[str] = Counter()
    sent = 0

    async def all_out() -> bool:
        return (await deployment.accounted_for())["all"] == sent

    async def logged(words: str) -> None:
        async def said() -> bool:
            return words in worker.log.read_text()

        await until(said, f"the log says {words!r}", worker=worker)

    sent += await deployment.publish(documents(sent, 600, None))
    await until(all_out, "the first model has scored", worker=worker)

    (served / "model.onnx").write_bytes(b"truncated")
    worker.process.send_signal(signal.SIGUSR1)
    await logged("the new model is refused")
    sent += await deployment.publish(documents(sent, 300, None))
    await until(all_out, "the first model goes on", worker=worker)

    shutil.rmtree(served)
    new = write_tiny_bundle(served, version="2", seed=1)
    sent += await deployment.publish(documents(sent, 1500, None))
    worker.process.send_signal(signal.SIGUSR1)
    await logged(f"{new.version_id} has taken the place of {old.version_id}")
    sent += await deployment.publish(documents(sent, 300, None))
    await until(all_out, "both models have scored", worker=worker)

    for record in await deployment.records("scores"):
        models[json.loads(record.value or b"{}")["model"]] += 1
    assert models.keys() == {old.version_id, new.version_id}
    assert models[old.version_id] >= 900
    assert models[new.version_id] >= 300
    assert (await deployment.accounted_for())["repeats"] == 0
    assert worker.finish() == 0, worker.tail()


async def test_languages_have_models_of_their_own_and_a_shadow_scores_behind_them(
    embedded: str, tiny_bundle: str, tmp_path: Path
) -> None:
    chinese = write_tiny_bundle(tmp_path / "zh", version="zh", seed=4, languages=("zh",))
    shadow = write_tiny_bundle(tmp_path / "shadow", version="next", seed=9)
    deployment = Deployment(
        embedded,
        tmp_path / "run",
        model__bundle=tiny_bundle,
        model__routes=[{"languages": ["zh"], "bundle": str(chinese.path)}],
        model__other_languages="dead_letter",
        model__shadow=str(shadow.path),
        topics__documents__partitions=2,
        web={"enabled": True, "port": 0},
    )
    worker = deployment.worker()
    await until(deployment.has_topics, "the topics exist", worker=worker)
    sent = 0
    for lang, count in (("en-US", 40), ("zh-CN", 30), ("de", 20), (None, 10)):
        sent += await deployment.publish(documents(sent, count, lang))

    async def all_out() -> bool:
        return (await deployment.accounted_for())["all"] == sent

    await until(all_out, f"{sent} documents are accounted for", worker=worker)
    models = Counter(json.loads(record.value or b"{}")["model"] for record in await deployment.records("scores"))
    assert models == {Bundle.load(Path(tiny_bundle)).version_id: 50, chinese.version_id: 30}
    reasons = [dict(record.headers)[REASON] for record in await deployment.records("dead_letters")]
    assert reasons == [b"no_model_for_language"] * 20
    expected, counts = await deployment.backtest()
    assert (counts.scored, counts.dead) == (80, 20)
    assert await deployment.latest("alerts") == expected["alerts"]

    page = next(word for word in worker.log.read_text().split() if word.startswith("http://")).rstrip("/,")
    metrics = (await asyncio.to_thread(lambda: urlopen(f"{page}/metrics").read())).decode()
    assert 'bearwire_shadow_texts_total{task="sentiment"} 50.0' in metrics
    agreed = float(metrics.partition('bearwire_shadow_agreed_total{task="topic"} ')[2].split()[0])
    assert 0 < agreed <= 80
    assert "bearwire_shadow_skipped_total 0.0" in metrics
    assert worker.finish() == 0, worker.tail()
