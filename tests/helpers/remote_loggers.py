"""An MLflow server on SQLite, a server that never answers, and a reader of W&B's offline files."""

import json
import os
import signal
import socket
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.request import urlopen

from wandb.proto import wandb_internal_pb2

from tests.conftest import until


class MlflowServer:
    """Server of MLflow in a process of its own; its runs stay when it stops."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True)
        self.directory = directory
        with socket.create_server(("127.0.0.1", 0)) as free:
            self.port = free.getsockname()[1]
        self.uri = f"http://127.0.0.1:{self.port}"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        store, artifacts = f"sqlite:///{self.directory}/server.db", self.directory / "artifacts"
        command = [sys.executable, "-m", "mlflow", "server", "--backend-store-uri", store]
        command += ["--artifacts-destination", str(artifacts), "--workers", "1"]
        command += ["--host", "127.0.0.1", "--port", str(self.port)]
        switches = {
            "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
            "MLFLOW_DISABLE_TELEMETRY": "true",
        }
        with (self.directory / "server.log").open("ab") as printed:
            self._process = subprocess.Popen(
                command,
                cwd=self.directory,
                env={**os.environ, **switches},
                stdout=printed,
                stderr=printed,
                start_new_session=True,  # its workers are killed with it
            )
        until(self._answers, every=0.2)

    def kill(self) -> None:
        if self._process is not None:
            os.killpg(self._process.pid, signal.SIGKILL)
            self._process.wait()
            self._process = None

    def _answers(self) -> bool:
        with suppress(OSError), urlopen(f"{self.uri}/health", timeout=1) as answer:
            return bool(answer.status == 200)
        return False


@contextmanager
def silent_server() -> Iterator[str]:
    """Address of a server that accepts connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=100) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def wandb_records(path: Path) -> list[Any]:
    """Records of a file of W&B: a log of blocks of 32 KiB, as LevelDB writes, after 7 bytes."""
    content, place = path.read_bytes(), 7
    assert content[:4] == b":W&B"
    found, record = [], b""
    while place + 7 <= len(content):
        if (left := 32768 - place % 32768) < 7:
            place += left
            continue
        _, length, kind = struct.unpack("<IHB", content[place : place + 7])
        if kind == 0:  # room for the records to come
            break
        record += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            message = wandb_internal_pb2.Record()  # type: ignore[attr-defined]
            message.ParseFromString(record)
            found.append(message)
            record = b""
    return found


def wandb_history(path: Path) -> list[dict[str, Any]]:
    """What `log` has written to a file of W&B."""
    return [
        {
            "/".join(item.nested_key) or item.key: json.loads(item.value_json)
            for item in row.history.item
        }
        for row in wandb_records(path)
        if row.WhichOneof("record_type") == "history"
    ]
