"""One office for all tests that only talk: every visitor has a conversation of their own, so nothing is shared."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from tests.bot.channels.office import Office, Scripted, open_office


@pytest.fixture(scope="session")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with open_office(tmp_path_factory.mktemp("office"), Scripted()) as office:
        yield office


@pytest.fixture(scope="session")
def client(office: Office) -> Iterator[TestClient]:
    with office.client() as client:
        yield client
