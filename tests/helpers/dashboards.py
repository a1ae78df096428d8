"""A dashboard in a process of its own."""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode
from urllib.request import Request, urlopen

from tests.conftest import hear_ctrl_c


@dataclass
class Dashboard:
    """Process of the command, and the address that it printed."""

    process: subprocess.Popen[str]
    out: str  # its output up to the address
    address: str

    def get(self, path: str, **query: str) -> Any:
        with urlopen(f"{self.address}data/{path}?{urlencode(query)}") as answer:
            return json.loads(answer.read())

    def post(self, path: str, body: dict[str, Any]) -> Any:
        kind = {"Content-Type": "application/json"}
        request = Request(f"{self.address}data/{path}", json.dumps(body).encode(), kind)
        with urlopen(request) as answer:
            return json.loads(answer.read())

    @property
    def children(self) -> list[int]:
        process = self.process.pid
        found = Path(f"/proc/{process}/task").glob("*/children")
        return [int(child) for path in found for child in path.read_text("ascii").split()]

    def stop(self, number: int) -> tuple[int, str]:
        """Send a signal; return the exit status and standard error."""
        self.process.send_signal(number)
        _, errors = self.process.communicate(timeout=20)
        return self.process.returncode, errors


@contextmanager
def run_dashboard(outputs: Path, *arguments: str) -> Iterator[Dashboard]:
    """Run the dashboard command until the block ends."""
    process = subprocess.Popen(
        [sys.executable, "-m", "lyricgen.dashboard", *arguments],
        env={**os.environ, "LYRICGEN_OUTPUTS": str(outputs)},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=hear_ctrl_c,  # noqa: PLW1509
    )
    try:
        out, address = "", None
        assert process.stdout is not None
        while address is None and (line := process.stdout.readline()):
            out += line
            address = re.search(r"http://127\.0\.0\.1:\d+/", line)
        assert address is not None, process.communicate()[1]
        yield Dashboard(process, out, address[0])
    finally:
        with suppress(ProcessLookupError):
            process.kill()
        process.wait()
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
