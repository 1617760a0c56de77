"""Apache Kafka itself in KRaft mode, started by the tests from the jars that pom.xml names.

Importable outside pytest: `with KafkaCluster(Path("/tmp/k")) as kafka: kafka.bootstrap_servers`.
"""

from __future__ import annotations

import fcntl
import os
import re
import resource
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType

from streamer.worker.embedded import answers, free_port

HERE = Path(__file__).parent
HOST = "127.0.0.1"
CLUSTER_ID = "MkU3OEVBNTcwNTJENDM2Qk"
_JAVA = ("-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-Xms64m", "-Xmx512m")
_FULL_BYTES = 16 * 1024
_LOG_LEVEL = "-Dorg.slf4j.simpleLogger.defaultLogLevel=warn"


class KafkaUnavailable(Exception):
    """Apache Kafka cannot be had on this machine; says what is missing."""


def kafka_jars() -> Path:
    """Return the folder of Kafka's jars, fetched once with Maven. Raises KafkaUnavailable."""
    pom = HERE / "pom.xml"
    found = re.search(r"<kafka\.version>([^<]+)<", pom.read_text())
    if found is None:
        raise KafkaUnavailable(f"{pom} names no kafka.version")
    folder = HERE / "target" / f"kafka-{found[1]}"
    complete = folder / "complete"
    if shutil.which("java") is None:
        raise KafkaUnavailable("no java on the PATH (JDK 17 or newer is needed)")
    folder.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not complete.exists():
            maven = shutil.which("mvn")
            if maven is None:
                raise KafkaUnavailable("no mvn on the PATH to fetch Kafka's jars")
            command = [maven, "-q", "-B", "-f", str(pom), "dependency:copy-dependencies"]
            result = subprocess.run(command, capture_output=True, text=True, timeout=600)
            if result.returncode != 0:
                tail = "\n".join(result.stdout.splitlines()[-5:])
                raise KafkaUnavailable(f"Maven could not fetch Kafka's jars: {tail}")
            complete.touch()
    return folder


@dataclass
class Security:
    """What clients must bring.

    `properties` are the broker's settings for the client listener; `scram` are `SCRAM-SHA-256=[name=..,password=..]`.
    """

    protocol: str = "PLAINTEXT"
    properties: Mapping[str, str] = field(default_factory=dict)
    scram: tuple[str, ...] = ()


@dataclass
class _Node:
    id: int
    folder: Path
    client_port: int
    internal_port: int
    controller_port: int
    process: subprocess.Popen[bytes] | None = None


class KafkaCluster:
    """Combined broker and controller nodes on loopback; data survive `kill` and `start`.

    Parameters:
        folder: where configuration, data and logs live.
        nodes: 1 or 3.
        controllers: how many of the nodes, the first ones, vote on metadata; all where None. A cluster whose only
            controller is node 1 goes on choosing leaders and in-sync replicas with the other nodes down.
        security: what the client listener asks for.
        settings: broker settings on top of the defaults here.
        advertised_port: where clients of a single node are sent instead of its own port: a proxy's.
    """

    def __init__(
        self,
        folder: Path,
        *,
        nodes: int = 1,
        controllers: int | None = None,
        security: Security | None = None,
        settings: Mapping[str, str] | None = None,
        advertised_port: int | None = None,
    ) -> None:
        self.folder = folder
        self.security = security or Security()
        self._settings = dict(settings or {})
        self._advertised_port = advertised_port
        self._controllers = controllers or nodes
        self._nodes = [
            _Node(index + 1, folder / f"node-{index + 1}", free_port(), free_port(), free_port())
            for index in range(nodes)
        ]

    @property
    def bootstrap_servers(self) -> str:
        """Every node's client listener, comma separated."""
        return ",".join(f"{HOST}:{node.client_port}" for node in self._nodes)

    @property
    def port(self) -> int:
        """The first node's own client port."""
        return self._nodes[0].client_port

    def start(self, node_id: int | None = None) -> None:
        """Start all nodes that do not run, or one; waits until the client port answers."""
        wanted = [node for node in self._nodes if node_id in (None, node.id) and node.process is None]
        jars = kafka_jars()
        for node in wanted:
            if not (node.folder / "server.properties").exists():
                self._format(node, jars)
            command = ["java", *_JAVA, _LOG_LEVEL, "-cp", f"{jars}/*", "kafka.Kafka", "server.properties"]
            with (node.folder / "log.txt").open("ab") as log:
                node.process = subprocess.Popen(
                    command, cwd=node.folder, stdin=subprocess.DEVNULL, stdout=log, stderr=subprocess.STDOUT
                )
        for node in wanted:
            self._wait(node)

    def kill(self, node_id: int = 1) -> None:
        """SIGKILL one node."""
        self._end(self._nodes[node_id - 1], signal.SIGKILL)

    def stop(self, node_id: int | None = None) -> None:
        """Stop all nodes, or one, in order."""
        for node in self._nodes:
            if node_id in (None, node.id):
                self._end(node, signal.SIGTERM)

    def pause(self, node_id: int = 1) -> None:
        """SIGSTOP one node: connections stay open and nothing answers."""
        process = self._nodes[node_id - 1].process
        assert process is not None
        process.send_signal(signal.SIGSTOP)

    def resume(self, node_id: int = 1) -> None:
        """SIGCONT one node."""
        process = self._nodes[node_id - 1].process
        assert process is not None
        process.send_signal(signal.SIGCONT)

    def fill_disk(self, node_id: int = 1) -> None:
        """Let no file of one node grow any more, as on a full disk; the next `start` finds room again."""
        process = self._nodes[node_id - 1].process
        assert process is not None
        resource.prlimit(process.pid, resource.RLIMIT_FSIZE, (_FULL_BYTES, _FULL_BYTES))

    def has_ended(self, node_id: int = 1) -> bool:
        """Whether one node has ended by itself."""
        process = self._nodes[node_id - 1].process
        return process is not None and process.poll() is not None

    def __enter__(self) -> KafkaCluster:
        try:
            self.start()
        except BaseException:
            self.__exit__(None, None, None)
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        for node in self._nodes:
            self._end(node, signal.SIGKILL)

    def _end(self, node: _Node, how: signal.Signals) -> None:
        process, node.process = node.process, None
        if process is None:
            return
        process.send_signal(how)
        process.send_signal(signal.SIGCONT)
        try:
            process.wait(timeout=20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _wait(self, node: _Node) -> None:
        deadline = time.monotonic() + 60
        while not answers(HOST, node.client_port):
            assert node.process is not None
            status = node.process.poll()
            if status is not None or time.monotonic() > deadline:
                tail = "\n".join((node.folder / "log.txt").read_text(errors="replace").splitlines()[-15:])
                raise KafkaUnavailable(f"Kafka node {node.id} did not start (status {status}):\n{tail}")
            time.sleep(0.1)

    def _format(self, node: _Node, jars: Path) -> None:
        node.folder.mkdir(parents=True, exist_ok=True)
        properties = {**self._properties(node), **self.security.properties, **self._settings}
        text = "".join(f"{key}={value}\n" for key, value in properties.items())
        (node.folder / "server.properties").write_text(text)
        command = ["java", *_JAVA, _LOG_LEVEL, "-cp", f"{jars}/*", "kafka.tools.StorageTool", "format"]
        command += ["-t", CLUSTER_ID, "-c", "server.properties"]
        for user in self.security.scram:
            command += ["--add-scram", user]
        result = subprocess.run(command, cwd=node.folder, capture_output=True, text=True, timeout=120)
        if result.returncode != 0:
            (node.folder / "server.properties").unlink()
            raise KafkaUnavailable(f"Kafka's storage could not be formatted: {result.stdout}{result.stderr}")

    def _properties(self, node: _Node) -> dict[str, str]:
        count = len(self._nodes)
        client = f"CLIENT://{HOST}:{node.client_port}"
        internal = f"INTERNAL://{HOST}:{node.internal_port}"
        controller = f"CONTROLLER://{HOST}:{node.controller_port}"
        voting = self._nodes[: self._controllers]
        voters = ",".join(f"{each.id}@{HOST}:{each.controller_port}" for each in voting)
        listeners = f"{client},{internal},{controller}" if node in voting else f"{client},{internal}"
        protocols = f"CLIENT:{self.security.protocol},INTERNAL:PLAINTEXT,CONTROLLER:PLAINTEXT"
        return {
            "process.roles": "broker,controller" if node in voting else "broker",
            "node.id": str(node.id),
            "controller.quorum.voters": voters,
            "controller.listener.names": "CONTROLLER",
            "inter.broker.listener.name": "INTERNAL",
            "listeners": listeners,
            "advertised.listeners": f"CLIENT://{HOST}:{self._advertised_port or node.client_port},{internal}",
            "listener.security.protocol.map": protocols,
            "log.dirs": "data",
            "auto.create.topics.enable": "false",
            "default.replication.factor": str(min(3, count)),
            "offsets.topic.replication.factor": str(min(3, count)),
            "offsets.topic.num.partitions": "4",
            "transaction.state.log.replication.factor": str(min(3, count)),
            "transaction.state.log.min.isr": str(min(2, count)),
            "transaction.state.log.num.partitions": "4",
            "share.coordinator.state.topic.replication.factor": "1",
            "share.coordinator.state.topic.min.isr": "1",
            "group.initial.rebalance.delay.ms": "0",
            "group.min.session.timeout.ms": "1000",
            "num.network.threads": "2",
            "num.io.threads": "4",
            "log.cleaner.threads": "1",
        }


@contextmanager
def kafka_or_named(folder: Path, **options: object) -> Iterator[str]:
    """Yield bootstrap servers: of BEARWIRE_TEST_BROKER where set, else of a fresh single node."""
    named = os.environ.get("BEARWIRE_TEST_BROKER")
    if named:
        yield named
        return
    with KafkaCluster(folder) as cluster:
        yield cluster.bootstrap_servers
