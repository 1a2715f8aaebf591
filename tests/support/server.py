"""A real ComfyUI server with this pack in it, driven over HTTP the way users' browsers and scripts drive it."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.error import HTTPError

from support import comfy_host

PACK_FOLDER = "ComfyUI-SSR-Encoder"
FOLDERS = ("custom_nodes", "models", "input", "output", "temp", "user")
NOT_SHIPPED = shutil.ignore_patterns(".*", "tests", "benchmarks", "__pycache__", "*.egg-info")


@dataclass
class Server:
    url: str
    base: Path
    log: Path
    process: subprocess.Popen[bytes]

    def get(self, path: str) -> Any:
        with urllib.request.urlopen(f"{self.url}{path}", timeout=120) as answer:
            return json.load(answer)

    def submit(self, prompt: dict[str, Any]) -> str:
        """Queue a prompt in API format. Raises RuntimeError with the host's words if it is refused."""
        body = json.dumps({"prompt": prompt, "client_id": "tests"}).encode()
        request = urllib.request.Request(f"{self.url}/prompt", body, {"Content-Type": "application/json"})
        try:
            with urllib.request.urlopen(request, timeout=120) as answer:
                return json.load(answer)["prompt_id"]
        except HTTPError as error:
            raise RuntimeError(error.read().decode()) from error

    def resident(self) -> int:
        """Bytes of memory that the host's process holds."""
        import psutil

        return psutil.Process(self.process.pid).memory_info().rss

    def forget(self) -> None:
        """Make the host drop its cached node outputs, so that the next prompt runs every node again."""
        body = json.dumps({"free_memory": True}).encode()
        request = urllib.request.Request(f"{self.url}/free", body, {"Content-Type": "application/json"})
        urllib.request.urlopen(request, timeout=30).close()
        time.sleep(2)  # the host's worker looks at this between prompts

    def run(self, prompt: dict[str, Any], timeout: float = 600) -> dict[str, Any]:
        """Queue a prompt and wait: its history entry. Raises RuntimeError with the node's message if one fails."""
        number = self.submit(prompt)
        limit = time.monotonic() + timeout
        while time.monotonic() < limit:
            history = self.get(f"/history/{number}")
            if number in history:
                status = history[number]["status"]
                if status["status_str"] != "success":
                    errors = [event[1] for event in status["messages"] if event[0] == "execution_error"]
                    raise RuntimeError(errors[0]["exception_message"] if errors else json.dumps(status))
                return history[number]
            time.sleep(0.2)
        raise TimeoutError(f"the prompt did not finish in {timeout} s; the host's log is {self.log}")


@contextlib.contextmanager
def running(base: Path, *arguments: str) -> Iterator[Server]:
    """A server on a base directory of its own; the pack is copied into its custom_nodes as a user's clone would be."""
    for folder in FOLDERS:
        (base / folder).mkdir(parents=True, exist_ok=True)
    pack = base / "custom_nodes" / PACK_FOLDER
    if not pack.exists():
        shutil.copytree(comfy_host.PACK, pack, ignore=NOT_SHIPPED)
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    log = base / "server.log"
    command = [
        sys.executable, "main.py", "--cpu", "--use-pytorch-cross-attention", "--listen", "127.0.0.1", "--port", str(port),
        "--base-directory", str(base), "--database-url", "sqlite:///:memory:", "--disable-api-nodes", "--disable-auto-launch",
        *arguments,
    ]  # fmt: skip
    with log.open("w") as output:
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        process = subprocess.Popen(command, cwd=comfy_host.find(), stdout=output, stderr=output, env=environment)
        try:
            server = Server(f"http://127.0.0.1:{port}", base, log, process)
            _wait(server, process)
            yield server
        finally:
            process.terminate()
            try:
                process.wait(20)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()


def _wait(server: Server, process: subprocess.Popen[bytes], seconds: float = 120) -> None:
    limit = time.monotonic() + seconds
    while time.monotonic() < limit and process.poll() is None:
        with contextlib.suppress(OSError):
            server.get("/system_stats")
            return
        time.sleep(0.3)
    raise RuntimeError(f"ComfyUI did not start:\n{server.log.read_text()[-3000:]}")
