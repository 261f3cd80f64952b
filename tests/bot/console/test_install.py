"""Setting up a site: what is saved is what the record allows, and nothing typed is lost to a mistake."""

from __future__ import annotations

import pytest

from bot.storage.sites import Hours, Site, all_sites, create_site, find_site
from tests.bot.channels.office import Office
from tests.bot.console.staff import Member, at_work

LOOK = {"name": "Our shop", "colour": "#1f5fbf", "origins": "https://shop.example"}


@pytest.fixture
def lead(office: Office) -> Member:
    return at_work(office, "lead")


@pytest.fixture
def site(office: Office) -> Site:
    return create_site(office.database, "Our shop", origins=["https://shop.example"], actor="test")[0]


def saved(office: Office, site: Site) -> Site:
    found = find_site(office.database, site.id)
    assert found is not None
    return found


def test_a_form_becomes_the_site(office: Office, lead: Member, site: Site) -> None:
    given = {
        **LOOK,
        "origins": "https://Shop.example, https://www.shop.example:8443/\nhttps://müller.example",
        "link_hosts": "help.example\ndocs.example",
        "hours": "Mon-Tue 09:00-12:30, 13:30-17:00\n\n sat 10:00-14:00 ",
        "time_zone": "Europe/Berlin",
        "ask_email": "1",
    }
    assert lead.post(f"/install/{site.id}", **given).headers["location"] == f"/console/install/{site.id}?saved=1"
    now = saved(office, site)
    assert now.origins == ("https://shop.example", "https://www.shop.example:8443", "https://xn--mller-kva.example")
    assert now.link_hosts == ("help.example", "docs.example") and now.pre_chat == ("email",)
    halves = [("09:00", "12:30"), ("13:30", "17:00")]
    assert now.hours == (*(Hours(day, *half) for day in (0, 1) for half in halves), Hours(5, "10:00", "14:00"))
    assert now.time_zone == "Europe/Berlin"
    page = lead.get(f"/install/{site.id}").text
    assert "Mon-Tue 09:00-12:30, 13:30-17:00\nSat 10:00-14:00</textarea>" in page
    assert 'name="time_zone" value="Europe/Berlin"' in page
    lead.post(f"/install/{site.id}", **LOOK)
    assert saved(office, site).hours == (), "an emptied field means always"


@pytest.mark.parametrize(
    ("field", "value", "named"),
    [
        ("hours", "weekdays", "weekdays"),
        ("hours", "Mon-Fri 17:00-09:00", "17:00"),
        ("time_zone", "Berlin", "Berlin"),
        ("link_hosts", "help.example:443", "help.example:443"),
        ("link_hosts", "*.example", "*.example"),
        ("origins", "https://shop.example/path", "https://shop.example/path"),
        ("colour", "red", "red"),
        ("name", " ", "Name"),
    ],
)
def test_what_is_wrong_is_named_and_what_was_typed_stays(
    office: Office, lead: Member, site: Site, field: str, value: str, named: str
) -> None:
    answer = lead.post(f"/install/{site.id}", **{**LOOK, "greeting": "Typed with care", field: value})
    assert answer.status_code == 422
    problem = answer.text.partition('role="alert">')[2].partition("</p>")[0]
    assert named in problem
    assert 'value="Typed with care"' in answer.text and value.strip() in answer.text.replace(problem, "")
    assert saved(office, site) == site


def test_as_many_addresses_as_a_site_may_have_fit_into_the_form(office: Office, lead: Member, site: Site) -> None:
    many = [f"https://shop-number-{number:02}.of-our-company.example.com" for number in range(50)]
    hosts = [address.removeprefix("https://") for address in many]
    given = {**LOOK, "origins": "\n".join(many), "link_hosts": "\n".join(hosts)}
    assert lead.post(f"/install/{site.id}", **given).status_code == 303
    assert saved(office, site).origins == tuple(many) and saved(office, site).link_hosts == tuple(hosts)
    assert lead.post("/install", name="All of them", origins="\n".join(many)).status_code == 200


def test_a_site_that_cannot_be_is_not_made(office: Office, lead: Member) -> None:
    before = all_sites(office.database)
    answer = lead.post("/install", name="Other", origins="shop.example")
    assert answer.status_code == 422 and "shop.example" in answer.text
    assert all_sites(office.database) == before
