"""`frontdesk sites`: the websites that show the widget, from the command line."""

from __future__ import annotations

import json
from pathlib import Path

from bot.storage.database import Database
from bot.storage.sites import Hours, find_site, identity_secret
from tests.bot.cli.conftest import Run
from tests.bot.cli.test_bad_input import refused


def test_a_site_is_made_shown_changed_and_listed(frontdesk: Run, home: Path) -> None:
    made = json.loads(
        frontdesk(
            "sites", "add", "Larkmoor shop", "--origin", "https://Shop.example/", "--origin", "http://localhost:3000",
            "--hours", "Mon-Fri 09:00-17:00", "--hours", "sat 10:00-14:00", "--time-zone", "Europe/Berlin",
            "--ask", "email", "--link-host", "help.example", "--identity-required", "--json",
        ).out
    )  # fmt: skip
    secret = made.pop("secret")
    assert json.loads(frontdesk("sites", "show", made["id"], "--json").out) == made
    assert made["origins"] == ["https://shop.example", "http://localhost:3000"]
    assert (made["pre_chat"], made["identity_required"], made["link_hosts"]) == (["email"], True, ["help.example"])
    with Database(home / "frontdesk.sqlite3") as database:
        found = find_site(database, made["id"])
        assert found is not None
        assert found.hours == (*(Hours(day, "09:00", "17:00") for day in range(5)), Hours(5, "10:00", "14:00"))
        assert identity_secret(database, made["id"]) == secret
    shown = frontdesk("sites", "show", made["id"]).out
    assert "Mon-Fri 09:00-17:00; Sat 10:00-14:00 (Europe/Berlin)" in shown and secret not in shown
    changed = frontdesk("sites", "change", made["id"], "--origin", "", "--hours", "", "--anonymous", "--json")
    assert json.loads(changed.out) == made | {"origins": [], "hours": [], "identity_required": False}
    listed = frontdesk("sites", "list").out.splitlines()
    assert listed == [
        "default  (our own chat page)  our own origin only",
        f"{made['id']}  Larkmoor shop  our own origin only",
    ]


def test_a_secret_is_shown_when_it_is_made_and_only_then(frontdesk: Run, home: Path) -> None:
    first = frontdesk("sites", "secret", "default").out.strip()
    second = json.loads(frontdesk("sites", "secret", "default", "--json").out)["secret"]
    assert len(first) == len(second) == 43 and first != second
    with Database(home / "frontdesk.sqlite3") as database:
        assert identity_secret(database, "") == second
    assert second not in frontdesk("sites", "show", "default").out + frontdesk("sites", "list", "--json").out


def test_what_a_site_cannot_be_is_told_with_the_cure_and_nothing_is_made(frontdesk: Run) -> None:
    refused(frontdesk("sites", "add", "Shop", "--origin", "https://*.example"), "https://shop.example")
    refused(frontdesk("sites", "add", "Shop", "--hours", "weekdays"), "Mon-Fri 09:00-17:00")
    refused(frontdesk("sites", "add", "Shop", "--hours", "Fri-Mon 09:00-17:00"), "begins on Monday")
    refused(frontdesk("sites", "add", "Shop", "--hours", "Mon 17:00-09:00"), "closing comes after opening")
    refused(frontdesk("sites", "add", "Shop", "--ask", "phone"), "name and email")
    refused(frontdesk("sites", "add", "Shop", "--time-zone", "Mars"), "Europe/Berlin")
    refused(frontdesk("sites", "add", "  "), "1 to 200 characters")
    for command in ("show", "change", "secret"):
        refused(frontdesk("sites", command, "nowhere"), "frontdesk sites list")
    assert frontdesk("sites", "list").out.splitlines() == ["default  (our own chat page)  our own origin only"]
