"""One Apache Kafka node as a process of this machine, or as a Docker container.

Both run the same properties and take the same commands, so that a test that kills or pauses its broker need
not know which it has. `KafkaServer` (kafka.py) gives them their properties and waits until they answer.
"""

import importlib
import secrets
import shutil
import signal
import subprocess
from base64 import urlsafe_b64encode
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol


class Node(Protocol):
    """One broker that can be started again after each way of ending it, with the data it had."""

    bind_host: str
    """The address its listeners bind to, where it runs."""

    def cluster_id(self) -> str:
        """The id that only this node's cluster has: how an answer on our port is known to be its own."""

    def start(self, properties: Mapping[str, str], ports: Sequence[int]) -> None:
        """Start it, with `ports` reachable on this machine's 127.0.0.1. Returns before it answers."""

    def is_running(self) -> bool: ...

    def terminate(self) -> None:
        """Let it shut down in order; returns when it has ended."""

    def kill(self) -> None:
        """SIGKILL; returns when it has ended. It may be paused, or have ended before."""

    def pause(self) -> None:
        """SIGSTOP: its sockets stay open, and nothing answers."""

    def resume(self) -> None: ...

    def log_tail(self) -> str: ...


class ProcessNode:
    """Kafka as a Java process. It dies with the thread that called `start` (and so with the process).

    `directory` gets server.properties, kafka.log and data/.
    """

    bind_host = "127.0.0.1"

    def __init__(self, java: Path, jars: Path, directory: Path, jvm_options: Sequence[str]) -> None:
        self._java = [str(java), "-cp", f"{jars}/*", "-Dlog4j2.level=INFO", "-Djava.awt.headless=true"]
        self._jvm_options = list(jvm_options)
        self._data = directory / "data"
        self._properties_file = directory / "server.properties"
        self.log_file = directory / "kafka.log"
        self._process: subprocess.Popen[bytes] | None = None
        self._new_cluster_id = _new_cluster_id()

    def join(self, cluster_id: str) -> None:
        """Format its storage for a cluster that is there already; before its first start."""
        self._new_cluster_id = cluster_id

    def cluster_id(self) -> str:
        lines = (self._data / "meta.properties").read_text().splitlines()
        return next(line.partition("=")[2] for line in lines if line.startswith("cluster.id="))

    def start(self, properties: Mapping[str, str], ports: Sequence[int]) -> None:
        self._properties_file.parent.mkdir(parents=True, exist_ok=True)
        settings = {**properties, "log.dirs": str(self._data)}
        self._properties_file.write_text("".join(f"{key}={value}\n" for key, value in settings.items()))
        with self.log_file.open("ab") as log:
            if not (self._data / "meta.properties").exists():
                command = [*self._java, "-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"]
                command += ["kafka.tools.StorageTool", "format", "-t", self._new_cluster_id]
                command += ["-c", str(self._properties_file)]
                done = subprocess.run(command, stdout=log, stderr=subprocess.STDOUT, timeout=60)
                if done.returncode != 0:
                    raise RuntimeError(f"Kafka could not format {self._data}:\n{self.log_tail()}")
            command = [*self._java, *self._jvm_options, "kafka.Kafka", str(self._properties_file)]
            self._process = subprocess.Popen(
                [*_die_with_parent(), *command], stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )

    @property
    def pid(self) -> int | None:
        return None if self._process is None else self._process.pid

    def is_running(self) -> bool:
        return self._process is not None and self._process.poll() is None

    def terminate(self) -> None:
        self._signal(signal.SIGTERM)
        self.resume()
        if self._process is not None:
            try:
                self._process.wait(timeout=30)
            except subprocess.TimeoutExpired:
                self.kill()

    def kill(self) -> None:
        self._signal(signal.SIGKILL)
        if self._process is not None:
            self._process.wait()

    def pause(self) -> None:
        self._signal(signal.SIGSTOP)

    def resume(self) -> None:
        self._signal(signal.SIGCONT)

    def log_tail(self) -> str:
        return self.log_file.read_text(errors="replace")[-4000:] if self.log_file.exists() else "(no log)"

    def _signal(self, number: signal.Signals) -> None:
        if self._process is not None and self._process.poll() is None:
            self._process.send_signal(number)


def _die_with_parent() -> list[str]:
    # setpriv sets PR_SET_PDEATHSIG and becomes the command, so the pid stays ours. It is part of util-linux;
    # where there is none, a broker outlives a test run that was killed with SIGKILL.
    setpriv = shutil.which("setpriv")
    return [setpriv, "--pdeathsig", "KILL", "--"] if setpriv else []


def _new_cluster_id() -> str:
    return urlsafe_b64encode(secrets.token_bytes(16)).decode().rstrip("=").replace("-", "A")


class ContainerNode:
    """Kafka as Apache's Docker image, through testcontainers, whose reaper ends it with this process."""

    bind_host = "0.0.0.0"

    def __init__(self, image: str, jvm_options: Sequence[str]) -> None:
        self._image = image
        self._jvm_options = " ".join(jvm_options)
        self._cluster_id = _new_cluster_id()
        self._container: Any = None  # testcontainers is not installed everywhere, so it has no type here

    def cluster_id(self) -> str:
        return self._cluster_id

    def start(self, properties: Mapping[str, str], ports: Sequence[int]) -> None:
        if self._container is not None:
            self._docker().start()
            return
        testcontainers = importlib.import_module("testcontainers.core.container")  # optional
        # The image takes each property as a variable, and formats its storage under the id in CLUSTER_ID.
        variables = {"KAFKA_" + key.upper().replace(".", "_"): value for key, value in properties.items()}
        variables |= {"CLUSTER_ID": self._cluster_id, "KAFKA_HEAP_OPTS": self._jvm_options}
        container = testcontainers.DockerContainer(self._image).with_envs(**variables)
        for port in ports:
            container.with_bind_ports(port, port)
        self._container = container.start()

    def is_running(self) -> bool:
        if self._container is None:
            return False
        self._docker().reload()
        return self._docker().status in {"created", "running", "paused"}

    def terminate(self) -> None:
        self.resume()
        if self.is_running():
            self._docker().stop(timeout=30)

    def kill(self) -> None:
        self.resume()
        if self.is_running():
            self._docker().kill()
            self._docker().wait()

    def pause(self) -> None:
        self._docker().pause()

    def resume(self) -> None:
        if self._container is not None:
            self._docker().reload()
            if self._docker().status == "paused":
                self._docker().unpause()

    def log_tail(self) -> str:
        return "" if self._container is None else str(self._docker().logs(tail=60).decode(errors="replace"))

    def _docker(self) -> Any:
        return self._container.get_wrapped_container()
