"""One office for the tests of the console; each hires its own staff and opens its own conversations."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from starlette.testclient import TestClient

from tests.bot.channels.office import Office, Scripted, open_office


@pytest.fixture(scope="package")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with open_office(tmp_path_factory.mktemp("console"), Scripted()) as office:
        yield office


@pytest.fixture
def anybody(office: Office) -> TestClient:
    return office.client()
