"""Apache Kafka's jars, as infra/kafka/pom.xml pins them, and a Java that can run them.

`python -m tests.servers.kafka_jars` fetches them (`make kafka-jars`).
"""

import fcntl
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

_INFRA = Path(__file__).resolve().parents[2] / "infra" / "kafka"
POM = _INFRA / "pom.xml"
JARS = _INFRA / "jars"
_SCRATCH = _INFRA / "target"  # git-ignored, like jars/
OLDEST_JAVA = 17  # the oldest that a Kafka 4 broker runs on


class KafkaUnavailableError(Exception):
    """Apache Kafka cannot run on this machine; the text says what is missing."""


def kafka_version() -> str:
    match = re.search(r"<kafka\.version>([^<]+)</kafka\.version>", POM.read_text())
    if match is None:
        raise LookupError(f"{POM} does not name kafka.version")
    return match[1]


def find_java() -> Path:
    """Path of a java that is new enough. Raises KafkaUnavailableError."""
    home = os.environ.get("JAVA_HOME")
    candidates = [Path(home, "bin", "java")] if home else []
    if on_path := shutil.which("java"):
        candidates.append(Path(on_path))
    seen = []
    for java in candidates:
        try:
            said = subprocess.run([java, "-version"], capture_output=True, text=True, timeout=30).stderr
        except (OSError, subprocess.TimeoutExpired):
            continue
        if match := re.search(r'version "(\d+)', said):
            if int(match[1]) >= OLDEST_JAVA:
                return java
            seen.append(f"{java} is Java {match[1]}")
    raise KafkaUnavailableError(f"no Java {OLDEST_JAVA} or newer ({'; '.join(seen) or 'no java at all'})")


def ensure_jars() -> Path:
    """The folder with the jars, fetched by Maven where they are not there yet. Raises KafkaUnavailableError.

    Safe to call from several processes at once: one fetches, the others wait.
    """
    _SCRATCH.mkdir(exist_ok=True)
    with (_SCRATCH / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (JARS / f"kafka_2.13-{kafka_version()}.jar").exists():
            _fetch()
    return JARS


def _fetch() -> None:
    maven = shutil.which("mvn")
    if maven is None:
        raise KafkaUnavailableError(
            f"{JARS} does not hold Kafka {kafka_version()}, and there is no mvn to fetch it with"
        )
    # Fetched beside, then moved: a broken fetch leaves no half-filled folder, a new version no old jar.
    arriving = _SCRATCH / "jars"
    shutil.rmtree(arriving, ignore_errors=True)
    done = subprocess.run(
        [maven, "-C", "-q", "-B", "-f", POM, "dependency:copy-dependencies", f"-DoutputDirectory={arriving}"],
        capture_output=True,
        text=True,
        timeout=600,
    )
    if done.returncode != 0:
        raise KafkaUnavailableError(
            f"mvn could not fetch Kafka {kafka_version()}: {(done.stdout + done.stderr)[-2000:]}"
        )
    shutil.rmtree(JARS, ignore_errors=True)
    arriving.rename(JARS)


if __name__ == "__main__":
    try:
        print(f"Kafka {kafka_version()}: {ensure_jars()}")
    except KafkaUnavailableError as why:
        sys.exit(str(why))
