"""The page in a real browser: people make and end silences with the form and the buttons."""

from __future__ import annotations

import asyncio
import contextlib
import shutil
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import aiohttp
import orjson
import pytest
from aiokafka import AIOKafkaProducer

from streamer.kafka.silence_topic import SilenceTopic
from streamer.worker.broker import connected_admin
from streamer.worker.status import WorkerStatus
from tests.integration.deployment import until
from tests.web.test_silencing import TOKEN, configured, page, settings

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")

pytestmark = [
    pytest.mark.browser,
    pytest.mark.embedded,
    pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on the path"),
]


class Tab:
    """One tab, by Chromium's debugging protocol."""

    def __init__(self, socket: aiohttp.ClientWebSocketResponse) -> None:
        self._socket = socket
        self._number = 0

    async def call(self, method: str, **parameters: Any) -> dict[str, Any]:
        self._number += 1
        await self._socket.send_json({"id": self._number, "method": method, "params": parameters})
        while True:
            answer = await self._socket.receive_json(timeout=30)
            if answer.get("id") == self._number:
                assert "error" not in answer, answer
                result: dict[str, Any] = answer["result"]
                return result

    async def value(self, expression: str) -> Any:
        """What a JavaScript expression gives."""
        answer = await self.call("Runtime.evaluate", expression=expression, returnByValue=True)
        assert "exceptionDetails" not in answer, answer
        return answer["result"].get("value")

    async def until(self, expression: str) -> None:
        async def holds() -> bool:
            return bool(await self.value(expression))

        await until(holds, expression, seconds=60)


@contextlib.asynccontextmanager
async def opened(address: str, folder: Path) -> AsyncIterator[Tab]:
    """The page at `address` in a browser of its own."""
    assert CHROMIUM is not None
    options = ("--headless", "--no-sandbox", "--disable-gpu", "--remote-debugging-port=0", "--window-size=1300,1000")
    process = await asyncio.create_subprocess_exec(
        CHROMIUM,
        *options,
        f"--user-data-dir={folder}",
        "about:blank",
        stdout=asyncio.subprocess.DEVNULL,
        stderr=asyncio.subprocess.DEVNULL,
    )
    port = folder / "DevToolsActivePort"

    async def listens() -> bool:
        return port.exists() and len(port.read_text().split()) == 2

    try:
        await until(listens, "Chromium listens", seconds=60)
        at = f"http://127.0.0.1:{port.read_text().split()[0]}"
        async with aiohttp.ClientSession() as client:
            async with client.get(f"{at}/json/list") as response:
                tab = next(each for each in await response.json(content_type=None) if each["type"] == "page")
            async with client.ws_connect(tab["webSocketDebuggerUrl"], max_msg_size=0) as socket:
                opened_tab = Tab(socket)
                await opened_tab.call("Page.navigate", url=address)
                yield opened_tab
    finally:
        process.terminate()
        await process.wait()


def firing_alert() -> dict[str, Any]:
    """The alert of the reference, made to look as hostile as a text may."""
    shown = (Path(__file__).parents[2] / "docs" / "reference" / "topics.md").read_text(encoding="utf-8")
    shown = shown.partition("## bearwire.alerts")[2].partition("```json\n")[2].partition("```")[0]
    alert: dict[str, Any] = orjson.loads(shown)
    return alert | {"state": "firing", "book": "main", "series": 'company:<img src=x onerror="window.hit=1">'}


async def test_a_silence_is_made_and_ended_with_the_mouse(embedded_broker: str, tmp_path: Path) -> None:
    config = configured(settings(embedded_broker, **{"web.token": TOKEN}))
    admin = await connected_admin(config, WorkerStatus("watch"))
    await admin.close()
    producer = AIOKafkaProducer(bootstrap_servers=embedded_broker)
    await producer.start()
    window = {"book": "main", "series": "all", "end": "2026-11-24T10:00:00Z", "documents": 3, "negative": 1}
    await producer.send_and_wait(config.topics.windows.name, orjson.dumps(window | {"mean_sentiment": -0.2}))
    await producer.send_and_wait(config.topics.alerts.name, orjson.dumps(firing_alert()))
    await producer.stop()
    topic = SilenceTopic(config, print)
    async with page(config) as address, opened(address, tmp_path) as tab:
        await tab.until("document.querySelector('.alert .plain:not([hidden])') !== null")
        await tab.value("document.querySelector('.alert .plain').click()")
        form = "document.getElementById('silence')"
        said = "document.getElementById('silencing-said').textContent"
        assert await tab.value(f"{form}.elements.matchers.value") == f"book=main\nseries={firing_alert()['series']}"
        await tab.value(f"{form}.elements.reason.value = '<i>known</i>'; {form}.elements.author.value = 'ana'")
        await tab.value(f"{form}.elements.token.value = 'a-token-that-is-wrong'")
        await tab.value(f"{form}.querySelector('button').click()")
        await tab.until(f"{said}.includes('the token is wrong')")
        assert await topic.read() == []
        await tab.value(f"{form}.elements.token.value = '{TOKEN}'")
        await tab.value(f"{form}.querySelector('button').click()")
        await tab.until("document.querySelectorAll('#silences tbody tr').length === 1")
        (made,) = (await topic.asked()).values()
        assert (made.author, made.reason) == ("ana", "<i>known</i>")
        assert made.matchers == {"book": ("main",), "series": (firing_alert()["series"],)}
        assert await tab.value("document.querySelector('#silences td:nth-child(4)').textContent") == "<i>known</i>"
        await tab.value("document.querySelector('#silences .plain').click()")
        await tab.until("document.getElementById('silences').hidden")
        assert (await topic.asked())[made.id].is_expired
        assert await tab.value(
            "window.hit === undefined && document.querySelector('#silences img, .alert img') === null"
        )
