"""What can be found out about this machine without Kafka: Python, packages, model, processor, disk."""

from __future__ import annotations

import os
import platform
import shutil
import socket
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from importlib import metadata
from pathlib import Path
from typing import Final, Literal, NamedTuple

from streamer.config.settings import BookSettings, Config, KafkaSettings, ModelSettings, WebSettings
from streamer.model import check_sentiment, load_bundle, load_models, topic_problems
from streamer.web.admission import host_name, is_loopback

State = Literal["ok", "warning", "broken", "skipped"]

PACKAGES: Final = (
    "aiokafka",
    "faust-streaming",
    "numpy",
    "orjson",
    "msgspec",
    "pyarrow",
    "tokenizers",
    "click",
    "PyYAML",
)
_INSTRUCTIONS: Final = (
    "avx2",
    "avx512f",
    "avx_vnni",
    "avx512_vnni",
    "avx512_bf16",
    "amx_int8",
    "amx_bf16",
    "asimddp",
    "i8mm",
)
_OPEN_LOGINS: Final = ("PLAIN", "OAUTHBEARER")
_ONNXRUNTIMES: Final = ("onnxruntime", "onnxruntime-gpu")
_MIN_FREE_BYTES: Final = 500 << 20


class Finding(NamedTuple):
    """One thing that was looked at. `advice` says what to do about it, empty where nothing is to be done."""

    about: str
    state: State
    message: str
    advice: str = ""


def local_findings(config: Config) -> Iterator[Finding]:
    """Everything that concerns this machine."""
    yield python_finding(sys.version_info[:3])
    yield from package_findings(installed_versions((*PACKAGES, *_ONNXRUNTIMES)))
    yield from model_findings(config.model, config.books)
    yield cpu_finding(cpu_flags(Path("/proc/cpuinfo")))
    yield disk_finding(Path(config.worker.data_dir))
    yield from login_findings(config.kafka)
    if config.web.enabled:
        yield web_finding(config.web)


def python_finding(version: tuple[int, ...]) -> Finding:
    """Whether this Python is new enough."""
    shown = f"Python {'.'.join(map(str, version))} on {platform.system()} {platform.machine()}"
    if version < (3, 11):
        return Finding("python", "broken", f"{shown} is too old", "install Python 3.11 or newer")
    return Finding("python", "ok", shown)


def installed_versions(names: tuple[str, ...]) -> dict[str, str | None]:
    """The installed version of each distribution, None where it is not installed."""
    found: dict[str, str | None] = {}
    for name in names:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            found[name] = None
    return found


def package_findings(versions: Mapping[str, str | None]) -> Iterator[Finding]:
    """Whether what Bearwire needs is installed, and exactly one onnxruntime."""
    missing = [name for name in PACKAGES if versions.get(name) is None]
    if missing:
        yield Finding(
            "packages",
            "broken",
            f"not installed: {', '.join(missing)}",
            "install Bearwire anew, with all it depends on",
        )
    else:
        shown = ", ".join(f"{name} {versions[name]}" for name in ("faust-streaming", "aiokafka", "numpy"))
        yield Finding("packages", "ok", f"all there ({shown})")
    runtimes = [f"{name} {versions[name]}" for name in _ONNXRUNTIMES if versions.get(name) is not None]
    if len(runtimes) == 1:
        yield Finding("onnxruntime", "ok", runtimes[0])
    elif runtimes:
        yield Finding(
            "onnxruntime",
            "broken",
            f"{' and '.join(runtimes)} are both installed and overwrite each other's files",
            "pip uninstall onnxruntime onnxruntime-gpu, then install only the one you need",
        )
    else:
        yield Finding("onnxruntime", "broken", "not installed", "pip install onnxruntime (or onnxruntime-gpu)")


def model_findings(settings: ModelSettings, books: Sequence[BookSettings]) -> Iterator[Finding]:
    """Whether the bundle verifies, the provider is there, a text can be scored, and books select topics it has."""
    from models.bundle import BundleError
    from models.providers import ProviderError

    try:
        bundle = load_bundle(settings.bundle)
    except BundleError as error:
        yield Finding("model", "broken", str(error))
        return
    tasks = ", ".join(f"{task.name} ({len(task.labels)} labels)" for task in bundle.tasks)
    yield Finding("model", "ok", f"{bundle.version_id} verifies: {tasks}; {bundle.precision}")
    try:
        predictor = load_models(settings)
        predictor.warm_up()
        started = time.perf_counter()
        said = predictor.predict(["Norvale Shipping warns that its profit will be far lower than expected."])
        spent_ms = (time.perf_counter() - started) * 1000
    except BundleError as error:
        yield Finding("model", "broken", str(error))
        return
    except ProviderError as error:
        yield Finding("provider", "broken", str(error), "set model.provider to what this machine has")
        return
    if said.unscored.any():
        yield Finding(
            "model", "broken", "a text got probabilities that are not numbers", "export it in a higher precision"
        )
    try:
        check_sentiment(predictor)
    except BundleError as error:
        yield Finding("model", "broken", str(error), "set model.bundle to such a bundle")
    for problem in topic_problems(books, predictor):
        yield Finding("books", "broken", str(problem), "the book would stay empty")
    yield Finding("provider", "ok", f"{predictor.provider_in_use}; scored a first text in {spent_ms:.0f} ms")


def cpu_flags(cpuinfo: Path) -> frozenset[str]:
    """The instruction sets that the first processor reports; empty where that cannot be known."""
    try:
        text = cpuinfo.read_text()
    except OSError:
        return frozenset()
    for line in text.splitlines():
        name, _, value = line.partition(":")
        if name.strip() in ("flags", "Features"):
            return frozenset(value.split())
    return frozenset()


def cpu_finding(flags: frozenset[str]) -> Finding:
    """How well this processor suits int8 models."""
    cores = f"{len(os.sched_getaffinity(0))} CPUs usable"
    interesting = (
        "avx2",
        "avx512f",
        "avx_vnni",
        "avx512_vnni",
        "avx512_bf16",
        "amx_int8",
        "amx_bf16",
        "asimddp",
        "i8mm",
    )
    shown = ", ".join(name for name in interesting if name in flags) or "no vector instructions that are known"
    if not flags:
        return Finding("processor", "skipped", f"{cores}; its instruction sets cannot be read here")
    if not flags & {"avx512_vnni", "avx_vnni", "amx_int8", "asimddp"}:
        return Finding(
            "processor",
            "warning",
            f"{cores}; {shown}: no int8 dot product (VNNI)",
            "int8 models run, but slower than on a newer processor",
        )
    return Finding("processor", "ok", f"{cores}; {shown}")


def login_findings(kafka: KafkaSettings) -> Iterator[Finding]:
    """Whether the login to Kafka can be read on the way to a broker on another machine."""
    if kafka.security_protocol != "SASL_PLAINTEXT" or kafka.sasl_mechanism not in _OPEN_LOGINS:
        return
    away = [
        server for server in map(str.strip, kafka.bootstrap_servers.split(",")) if not is_loopback(host_name(server))
    ]
    if away:
        what = "token" if kafka.sasl_mechanism == "OAUTHBEARER" else "password"
        yield Finding(
            "login",
            "warning",
            f"kafka.sasl_mechanism {kafka.sasl_mechanism} sends the {what} in the clear to {', '.join(away)}",
            "set kafka.security_protocol to SASL_SSL, or use SCRAM-SHA-512",
        )


def disk_finding(directory: Path) -> Finding:
    """Whether the scratch directory can be written and has room."""
    existing = next(path for path in (directory.absolute(), *directory.absolute().parents) if path.exists())
    free = shutil.disk_usage(existing).free
    where = f"{directory} ({free / (1 << 30):.1f} GiB free)"
    if not os.access(existing, os.W_OK | os.X_OK) or not existing.is_dir():
        return Finding("disk", "broken", f"{where} cannot be written", "set worker.data_dir to a writable directory")
    if free < _MIN_FREE_BYTES:
        return Finding("disk", "warning", f"{where} is nearly full", "free some space, or move worker.data_dir")
    return Finding("disk", "ok", where)


def web_finding(web: WebSettings) -> Finding:
    """Whether the page's port is free."""
    where = f"http://{web.host}:{web.port}"
    family = socket.AF_INET6 if ":" in web.host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((web.host, web.port))
        except OSError as error:
            return Finding(
                "page",
                "warning",
                f"{where} cannot be listened on: {error.strerror}",
                "a worker may be serving it already; else set web.port",
            )
    return Finding("page", "ok", f"{where} is free")
