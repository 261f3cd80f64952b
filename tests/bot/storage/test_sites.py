"""What a site may be, how it reads back, and when people are in."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot import FrontdeskError
from bot.storage.database import Database
from bot.storage.sites import (
    Hours,
    Site,
    Theme,
    UnknownSite,
    all_sites,
    change_site,
    create_site,
    find_site,
    host_of,
    hours_lines,
    hours_of,
    hours_text,
    identity_secret,
    is_open,
    new_identity_secret,
    next_opening,
    origin_of,
)
from tests.bot.storage.sample import open_record


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    with open_record(tmp_path) as database:
        yield database


def test_a_site_reads_back_as_it_was_changed(database: Database) -> None:
    made, secret = create_site(database, " Larkmoor Shop ", origins=["HTTPS://Shop.example:443/"], actor="anna")
    assert made.id.startswith("larkmoor-shop-") and made.name == "Larkmoor Shop"
    assert made.origins == ("https://shop.example",)
    assert find_site(database, made.id) == made
    changed = replace(
        made,
        theme=Theme("#aa0000", "Hello", "How can we help?", "left", "dark"),
        hours=(Hours(0, "09:00", "17:00"),),
        time_zone="Europe/Berlin",
        pre_chat=("name", "email"),
        link_hosts=("help.example",),
        identity_required=True,
    )
    change_site(database, changed, actor="anna")
    assert find_site(database, made.id) == changed
    assert identity_secret(database, made.id) == secret, "a change of looks leaves the secret alone"


def test_the_default_site_always_exists_and_can_be_changed(database: Database) -> None:
    for name in ("", "default"):
        assert find_site(database, name) == Site("default", "")
    assert identity_secret(database, "") == ""
    made, _ = create_site(database, "Shop", actor="anna")
    change_site(database, replace(Site("default", ""), pre_chat=("email",)), actor="anna")
    assert [site.id for site in all_sites(database)] == ["default", made.id]
    found = find_site(database, "")
    assert found is not None and found.pre_chat == ("email",)
    assert new_identity_secret(database, "", actor="anna") == identity_secret(database, "default") != ""


def test_secrets_are_long_different_and_replaced_whole(database: Database) -> None:
    sites = [create_site(database, "Shop", actor="anna") for _ in range(20)]
    assert len({site.id for site, _ in sites} | {secret for _, secret in sites}) == 40
    site, before = sites[0]
    after = new_identity_secret(database, site.id, actor="anna")
    assert len(before) == len(after) == 43 and before != after == identity_secret(database, site.id)
    with database.read() as connection:
        audit = connection.exec_driver_sql("SELECT actor, action, subject, detail FROM audit").all()
    assert ("anna", "site", site.id, "new secret") in [tuple(row) for row in audit]
    assert not any(secret in str(audit) for secret in (before, after))


def test_unknown_sites_are_refused(database: Database) -> None:
    assert find_site(database, "nowhere") is None
    for act in (
        lambda: change_site(database, Site("nowhere", "x"), actor="anna"),
        lambda: new_identity_secret(database, "nowhere", actor="anna"),
    ):
        with pytest.raises(UnknownSite, match="frontdesk sites list"):
            act()


@pytest.mark.parametrize(
    ("given", "origin"),
    [
        ("https://shop.example", "https://shop.example"),
        ("https://shop.example/", "https://shop.example"),
        ("HTTPS://SHOP.EXAMPLE:443", "https://shop.example"),
        ("http://localhost:3000", "http://localhost:3000"),
        ("http://shop.example:80", "http://shop.example"),
        ("https://shop.example:80", "https://shop.example:80"),
        ("https://bücher.example", "https://xn--bcher-kva.example"),
        ("https://例え.jp", "https://xn--r8jz45g.jp"),
        ("https://shop.example.", "https://shop.example"),
        ("http://[::1]:8080", "http://[::1]:8080"),
    ],
)
def test_an_origin_is_kept_as_browsers_write_it(given: str, origin: str) -> None:
    assert origin_of(given) == origin


@pytest.mark.parametrize(
    "given",
    [
        "null", "*", "", "https://", "https://*.example", "https://shop.example/path", "https://shop.example?x",
        "https://shop.example#x", "ftp://shop.example", "file:///etc", "javascript:alert(1)", "shop.example",
        "https://user@shop.example", "https://shop.example:99999", "https://shop.example:x", "https://a..example",
        "https://-a.example", "https://a b.example", "https://straße.example", "chrome-extension://abcdef",
        "https://shop.example\n.evil.example", "//shop.example", "https://[::1", "https://" + "a" * 300 + ".example",
    ],
)  # fmt: skip
def test_what_is_no_origin_is_refused_by_name(database: Database, given: str) -> None:
    assert origin_of(given) is None
    with pytest.raises(FrontdeskError, match=r"origin: .* is none; write one such as https://shop.example"):
        create_site(database, "Shop", origins=[given], actor="anna")
    assert len(all_sites(database)) == 1


def test_every_problem_of_a_site_is_told_at_once(database: Database) -> None:
    made, _ = create_site(database, "Shop", actor="anna")
    wrong = replace(
        made,
        name="",
        origins=("x",),
        link_hosts=("https://x",),
        theme=Theme(colour="red", text="x" * 500),
        hours=(Hours(7, "09:00", "17:00"), Hours(0, "17:00", "09:00"), Hours(0, "9:00", "10:00")),
        time_zone="Mars/Base",
    )
    with pytest.raises(FrontdeskError) as caught:
        change_site(database, wrong, actor="anna")
    told = str(caught.value).splitlines()
    assert [line.partition(":")[0] for line in told] == [
        "name", "origin", "link host", "colour", "text", "hours", "hours", "hours", "time zone",
    ]  # fmt: skip
    assert find_site(database, made.id) == made


def test_hosts_are_names_and_nothing_else() -> None:
    assert [host_of(text) for text in ("Help.Example", "bücher.example", "*.example", "a/b", "")] == [
        "help.example", "xn--bcher-kva.example", None, None, None,
    ]  # fmt: skip


BERLIN = replace(
    Site("s", "S"),
    time_zone="Europe/Berlin",
    hours=(*(Hours(day, "09:00", "17:00") for day in range(5)), Hours(4, "20:00", "24:00"), Hours(5, "00:00", "01:00")),
)


@pytest.mark.parametrize(
    ("moment", "expected"),
    [
        ("2026-01-05T07:59", False),  # Monday 08:59 in winter
        ("2026-01-05T08:00", True),
        ("2026-01-05T15:59", True),
        ("2026-01-05T16:00", False),
        ("2026-07-06T07:00", True),  # an hour earlier in summer
        ("2026-07-06T15:00", False),
        ("2026-01-09T22:59", True),  # Friday until midnight
        ("2026-01-09T23:59", True),  # which is Saturday in Berlin
        ("2026-01-10T00:00", False),
        ("2026-01-11T12:00", False),
    ],
)
def test_hours_are_meant_by_the_clock_of_the_site(moment: str, expected: bool) -> None:
    assert is_open(BERLIN, datetime.fromisoformat(moment).replace(tzinfo=UTC)) is expected


def test_a_site_without_hours_is_always_open() -> None:
    site = Site("s", "S")
    assert (
        is_open(site, datetime.now(UTC)) and hours_text(site) is None and next_opening(site, datetime.now(UTC)) is None
    )


def test_hours_in_words_and_the_next_opening() -> None:
    assert hours_text(BERLIN) == ("Mon-Thu 09:00-17:00; Fri 09:00-17:00, 20:00-24:00; Sat 00:00-01:00 (Europe/Berlin)")
    sunday = datetime(2026, 1, 11, 12, tzinfo=UTC)
    assert next_opening(BERLIN, sunday) == datetime(2026, 1, 12, 8, tzinfo=UTC)
    assert next_opening(BERLIN, datetime(2026, 1, 5, 12, tzinfo=UTC)) is None


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 23), st.integers(1, 60)), max_size=20))
def test_hours_read_back_from_what_is_written(spans: list[tuple[int, int, int]]) -> None:
    hours = {Hours(day, f"{hour:02}:00", f"{hour:02}:{minute - 1:02}") for day, hour, minute in spans}
    written = hours_lines(sorted(hours, key=lambda one: (one.day, one.opens)))
    assert {one for line in written for one in hours_of(line)} == hours


@pytest.mark.parametrize("line", ["", "Mon", "Mon-Fri", "Mon-Fri 9-17", "Fri-Mon 09:00-17:00", "Mon 09:00-10:00, x"])
def test_hours_that_are_none_are_quoted(line: str) -> None:
    with pytest.raises(FrontdeskError, match=re.escape(repr(line))):
        hours_of(line)
