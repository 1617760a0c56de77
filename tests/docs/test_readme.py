"""The alert that the README shows is one that the shipped model and the demo's stream give."""

import re
from pathlib import Path

import orjson

from streamer.commands.backtest import Inputs, run
from streamer.config.settings import Config
from streamer.demo.stream import STREAM
from streamer.model import load_models

README = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")


def test_the_alert_that_is_shown_is_one_of_the_demo_s(tmp_path: Path) -> None:
    (block,) = re.findall(r"```json\n(.*?)```", README, flags=re.DOTALL)
    shown = orjson.loads(block)
    config = Config()
    run(Inputs((str(STREAM),)), tmp_path, config, load_models(config.model))
    alerts = map(orjson.loads, (tmp_path / "alerts.jsonl").read_bytes().splitlines())
    (alert,) = (each for each in alerts if (each["id"], each["sequence"]) == (shown["id"], shown["sequence"]))
    (text,), (full, *_) = shown.pop("texts"), alert["texts"]
    observed = shown.pop("observed")
    assert text == {key: full[key] for key in text}
    assert observed == {key: alert["observed"][key] for key in observed}
    assert shown == {key: alert[key] for key in shown}
