"""Who a signed-in customer is: what proves it, and every way in which something does not."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import re
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import jwt
import pytest
from starlette.testclient import TestClient

from bot.channels.web.identity import identity_by_hash, identity_by_token
from bot.channels.web.problems import Problem
from bot.storage.conversations import find_conversation
from bot.storage.handover import current
from bot.storage.sites import Hours, Site, change_site, create_site, new_identity_secret
from bot.storage.visitors import Identity, find_visitor
from tests.bot.channels.office import API, Office, Scripted, open_office

SECRET = "s" * 43
OTHER = "o" * 43
SITE = Site("shop-1", "Shop")
NOW = datetime(2026, 11, 29, 12, tzinfo=UTC)
AT = NOW.timestamp()
GOOD = {"sub": "anna", "aud": "shop-1", "exp": AT + 600, "iat": AT}
PUBLIC_KEY = b"-----BEGIN PUBLIC KEY-----\nMFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE\n-----END PUBLIC KEY-----\n"


def signed(secret: str = SECRET, algorithm: str = "HS256", **changed: object) -> str:
    claims = {name: value for name, value in (GOOD | changed).items() if value is not None}
    return jwt.encode(claims, secret, algorithm)


def by_hand(header: dict[str, object], key: bytes, digest: str = "sha256") -> str:
    """A token put together without the library, so that it may say anything of itself."""

    def part(value: bytes) -> str:
        return base64.urlsafe_b64encode(value).rstrip(b"=").decode()

    said = f"{part(json.dumps(header).encode())}.{part(json.dumps(GOOD).encode())}"
    return f"{said}.{part(hmac.new(key, said.encode(), digest).digest()) if key else ''}"


def refusal(token: str, site: Site = SITE, secret: str = SECRET, now: datetime = NOW) -> str:
    with pytest.raises(Problem) as caught:
        identity_by_token(token, site, secret, now)
    assert caught.value.status == 401
    return caught.value.detail


def test_a_signed_identity_names_the_customer() -> None:
    assert identity_by_token(signed(), SITE, SECRET, NOW) == Identity("anna")
    told = signed(name=" Anna\u202e ", email="anna@example.com", aud=["other", "shop-1"])
    assert identity_by_token(told, SITE, SECRET, NOW) == Identity("anna", "Anna", "anna@example.com")
    assert identity_by_token(by_hand({"alg": "HS256"}, SECRET.encode()), SITE, SECRET, NOW) == Identity("anna")


@pytest.mark.parametrize(
    "token",
    [
        by_hand({"alg": "none"}, b""),
        by_hand({"alg": "None", "typ": "JWT"}, b""),
        by_hand({"alg": "none"}, SECRET.encode()),
        by_hand({"alg": "HS512"}, SECRET.encode(), "sha512"),
        by_hand({"alg": "HS384"}, SECRET.encode(), "sha384"),
        by_hand({"alg": "RS256"}, SECRET.encode()),
        by_hand({"alg": "RS256"}, PUBLIC_KEY),  # a public key taken for a shared secret
        by_hand({"alg": "ES256"}, SECRET.encode()),
        by_hand({"alg": "HS256"}, PUBLIC_KEY),
        by_hand({"alg": "HS256"}, b""),
        by_hand({"alg": "HS256"}, OTHER.encode()),
        by_hand({"alg": "HS256", "crit": ["x"], "x": 1}, SECRET.encode()),
        by_hand({}, SECRET.encode()),
        by_hand({"alg": ["HS256"]}, SECRET.encode()),
        by_hand({"alg": "HS256", "jwk": {"kty": "oct", "k": "b28"}, "kid": "../../dev/null"}, b"\0"),
        signed(OTHER),
        signed()[:-2],
        signed() + "A",
        "a.b.c",
        "..",
        "",
    ],
)
def test_no_other_algorithm_key_or_form_is_a_signature(token: str) -> None:
    assert "does not prove who the customer is" in refusal(token)


def test_a_token_for_another_site_is_refused_also_with_the_same_secret() -> None:
    assert "'shop-1'" in refusal(signed(aud="shop-2"))
    assert "'shop-2'" in refusal(signed(), replace(SITE, id="shop-2"))
    assert "lacks `aud`" in refusal(signed(aud=None))


@pytest.mark.parametrize("sub", ["", " anna", "a" * 257, "a\x00b", "a\u202eb", "\ud800", 42, ["anna"]])
def test_an_id_that_is_no_id_is_refused(sub: object) -> None:
    assert "user's id" in refusal(signed(sub=sub))


def test_claims_that_nobody_reads_here_may_be_anything() -> None:
    assert identity_by_token(signed(jti=7, role=["admin"]), SITE, SECRET, NOW) == Identity("anna")


@pytest.mark.parametrize("name", ["sub", "exp"])
def test_what_it_needs_is_told(name: str) -> None:
    assert f"lacks `{name}`" in refusal(signed(**{name: None}))


@pytest.mark.parametrize(
    ("claims", "words"),
    [
        ({"exp": AT - 61}, "expired 61 seconds ago by our clock"),
        ({"exp": AT - 3_600}, "expired 3,600 seconds ago by our clock; .* set the clock of the server that signs"),
        ({"iat": AT + 3_600, "exp": AT + 4_200}, "begins 3,600 seconds from now by our clock; set the clock"),
        ({"nbf": AT + 61}, "begins 61 seconds from now"),
        ({"exp": AT + 24 * 3600 + 61}, "more than 24 hours ahead"),
        ({"exp": 10**18}, "more than 24 hours ahead"),
        ({"exp": "soon"}, "number"),
        ({"exp": True}, "number"),
        ({"exp": float("nan")}, "expired"),
    ],
)
def test_times_are_told_apart_from_a_wrong_clock(claims: dict[str, object], words: str) -> None:
    with pytest.raises(Problem) as caught:
        identity_by_token(signed(**claims), SITE, SECRET, NOW)
    assert re.search(words, caught.value.detail), caught.value.detail


@pytest.mark.parametrize(
    "claims", [{"exp": AT - 59}, {"iat": AT + 59}, {"nbf": AT + 59}, {"exp": AT + 24 * 3600 + 59}, {"iat": None}]
)
def test_clocks_may_be_a_minute_apart(claims: dict[str, object]) -> None:
    assert identity_by_token(signed(**claims), SITE, SECRET, NOW).user_id == "anna"


def test_the_older_form_is_the_hex_hmac_of_the_id() -> None:
    good = hmac.new(SECRET.encode(), b"anna", hashlib.sha256).hexdigest()
    assert identity_by_hash("anna", good, SITE, SECRET) == Identity("anna")
    assert identity_by_hash("anna", good.upper(), SITE, SECRET) == Identity("anna")
    for user, given, secret in (
        ("ben", good, SECRET),
        ("anna", good, OTHER),
        ("anna", good[:-1], SECRET),
        ("anna", "", SECRET),
        ("anna", hashlib.sha256(b"anna").hexdigest(), SECRET),
        ("anna", "字" * 64, SECRET),
        ("anna", hmac.new(b"", b"anna", hashlib.sha256).hexdigest(), ""),
    ):
        with pytest.raises(Problem) as caught:
            identity_by_hash(user, given, SITE, secret)
        assert caught.value.status == 401


def test_a_site_without_a_secret_takes_no_identity_at_all() -> None:
    assert "frontdesk sites secret shop-1" in refusal(by_hand({"alg": "HS256"}, b""), secret="")


# -- over HTTP --------------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def office(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Office]:
    with open_office(tmp_path_factory.mktemp("identity"), Scripted()) as office:
        yield office


@pytest.fixture(scope="module")
def http(office: Office) -> Iterator[TestClient]:
    with office.client() as http:
        yield http


def identity(site: Site, secret: str, user: str = "anna", **claims: object) -> str:
    now = datetime.now(UTC).timestamp()
    return signed(secret, sub=user, aud=site.id, exp=now + 600, iat=now, **claims)


def bearer(opened: dict[str, str]) -> dict[str, str]:
    return {"Authorization": f"Bearer {opened['token']}"}


def test_a_known_customer_comes_back_on_another_device(office: Office, http: TestClient) -> None:
    site, secret = create_site(office.database, "Shop", actor="test")
    body = {"site": site.id, "identity": identity(site, secret, name="Anna"), "resume": True}
    first = http.post(f"{API}/conversations", json=body)
    assert first.status_code == 201
    again = http.post(f"{API}/conversations", json=body)
    assert again.status_code == 200
    assert again.json()["conversation_id"] == first.json()["conversation_id"]
    assert again.json()["token"] != first.json()["token"]
    listed = http.get(f"{API}/conversations", headers=bearer(again.json())).json()["conversations"]
    assert [one["conversation_id"] for one in listed] == [first.json()["conversation_id"]]


def test_both_forms_name_the_same_customer(office: Office, http: TestClient) -> None:
    site, secret = create_site(office.database, "Shop", actor="test")
    old = hmac.new(secret.encode(), b"anna", hashlib.sha256).hexdigest()
    first = http.post(f"{API}/conversations", json={"site": site.id, "identity": identity(site, secret)}).json()
    second = http.post(
        f"{API}/conversations",
        json={"site": site.id, "user_id": "anna", "identity_hash": old, "resume": True},
    )
    assert (second.status_code, second.json()["conversation_id"]) == (200, first["conversation_id"])


def test_signing_in_in_the_middle_keeps_the_conversation_and_ends_the_old_token(
    office: Office, http: TestClient
) -> None:
    site, secret = create_site(office.database, "Shop", actor="test")
    before = http.post(f"{API}/conversations", json={"site": site.id}).json()
    body = {"site": site.id, "identity": identity(site, secret), "resume": True}
    after = http.post(f"{API}/conversations", json=body, headers=bearer(before))
    assert (after.status_code, after.json()["conversation_id"]) == (200, before["conversation_id"])
    place = f"{API}/conversations/{before['conversation_id']}"
    assert http.get(place, headers=bearer(before)).status_code == 404
    assert http.get(place, headers=bearer(after.json())).status_code == 200


def test_the_next_user_of_the_browser_gets_nothing(office: Office, http: TestClient) -> None:
    site, secret = create_site(office.database, "Shop", actor="test")
    annas = http.post(f"{API}/conversations", json={"site": site.id, "identity": identity(site, secret)}).json()
    body = {"site": site.id, "identity": identity(site, secret, "ben"), "resume": True}
    bens = http.post(f"{API}/conversations", json=body, headers=bearer(annas))
    assert bens.status_code == 201
    place = f"{API}/conversations/{annas['conversation_id']}"
    assert http.get(place, headers=bearer(bens.json())).status_code == 404
    assert http.post(f"{place}/token", headers=bearer(bens.json())).status_code == 404
    listed = http.get(f"{API}/conversations", headers=bearer(bens.json())).json()["conversations"]
    assert [one["conversation_id"] for one in listed] == [bens.json()["conversation_id"]]


def test_a_bad_identity_opens_nothing_not_even_an_anonymous_conversation(office: Office, http: TestClient) -> None:
    site, secret = create_site(office.database, "Shop", actor="test")
    other, _ = create_site(office.database, "Other", actor="test")
    with office.database.read() as connection:
        before = connection.exec_driver_sql("SELECT count(*) FROM conversations").scalar()
    for body in (
        {"site": site.id, "identity": identity(site, OTHER)},
        {"site": other.id, "identity": identity(site, secret)},
        {"site": site.id, "user_id": "anna", "identity_hash": "0" * 64},
        {"identity": identity(site, secret)},
    ):
        answer = http.post(f"{API}/conversations", json=body)
        assert (answer.status_code, answer.json()["title"]) == (401, "Identity refused")
        assert secret not in answer.text
    for body in (
        {"site": site.id, "user_id": "anna"},
        {"site": site.id, "identity_hash": "0" * 64},
        {"site": site.id, "identity": identity(site, secret), "user_id": "anna", "identity_hash": "0" * 64},
    ):
        assert http.post(f"{API}/conversations", json=body).status_code == 422
    with office.database.read() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM conversations").scalar() == before


def test_a_new_secret_ends_the_identities_of_the_old_one(office: Office, http: TestClient) -> None:
    site, secret = create_site(office.database, "Shop", actor="test")
    old = identity(site, secret)
    new_identity_secret(office.database, site.id, actor="test")
    assert http.post(f"{API}/conversations", json={"site": site.id, "identity": old}).status_code == 401


def test_a_site_may_be_for_signed_in_customers_only(office: Office, http: TestClient) -> None:
    site, secret = create_site(office.database, "Members", actor="test")
    change_site(office.database, replace(site, identity_required=True), actor="test")
    office.application.state.door.sites.refresh()  # as it does by itself within a second
    refused = http.post(f"{API}/conversations", json={"site": site.id})
    assert (refused.status_code, refused.json()["title"]) == (401, "Identity required")
    assert (
        http.post(f"{API}/conversations", json={"site": site.id, "identity": identity(site, secret)}).status_code == 201
    )


def test_what_the_visitor_says_before_the_chat_is_kept(office: Office, http: TestClient) -> None:
    form = {"name": " Anna  B. ", "email": "anna@example.com"}
    opened = http.post(f"{API}/conversations", json={"pre_chat": form}).json()
    found = find_visitor(office.database, find_conversation(office.database, opened["conversation_id"]).visitor)
    assert found is not None and (found.name, found.email, found.user_id) == ("Anna B.", "anna@example.com", None)
    for bad in ({"email": "no address"}, {"name": "x" * 201}, {"phone": "1"}, {"name": "a\ud800"}):
        body = json.dumps({"pre_chat": bad}).encode()
        headers = {"Content-Type": "application/json"}
        assert http.post(f"{API}/conversations", content=body, headers=headers).status_code == 422


def test_the_secret_is_in_no_answer(office: Office, http: TestClient) -> None:
    site, secret = create_site(office.database, "Shop", actor="test")
    assert secret not in http.get(f"{API}/sites/{site.id}").text
    assert secret not in http.get("/openapi.json").text


@pytest.mark.parametrize("is_in", [True, False])
def test_why_a_person_is_awaited_says_whether_anybody_is_in(office: Office, http: TestClient, is_in: bool) -> None:
    """Always in; or on the weekday three days from now alone."""
    opens = datetime.now(UTC) + timedelta(days=3)
    site, _ = create_site(office.database, "Shop", actor="test")
    if not is_in:
        change_site(office.database, replace(site, hours=(Hours(opens.weekday(), "00:00", "24:00"),)), actor="test")
    office.application.state.door.sites.refresh()
    shown = http.get(f"{API}/sites/{site.id}").json()
    assert (shown["open"], shown["opens_at"]) == (is_in, None if is_in else f"{opens:%Y-%m-%d}T00:00:00Z")
    opened = http.post(f"{API}/conversations", json={"site": site.id}).json()
    headers = {"Authorization": f"Bearer {opened['token']}"}
    assert http.post(f"{API}/conversations/{opened['conversation_id']}/handover", headers=headers).status_code == 200
    with office.database.read() as connection:
        record = current(connection, opened["conversation_id"])
    assert record is not None and record.reason == ("asked" if is_in else "hours")
