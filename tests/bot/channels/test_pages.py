"""The public pages, as they leave the service."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from starlette.testclient import TestClient

from bot.channels.web.pages import ASSETS, FOLDER
from retriever.passages import Document, Section
from tests.bot.channels.office import Office, laid_out

PAGES = ("/", "/articles/returns/refunds.md")


@pytest.mark.parametrize("path", PAGES)
def test_a_page_may_run_and_load_only_what_we_ship(client: TestClient, path: str) -> None:
    answer = client.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    policy = dict(part.strip().partition(" ")[::2] for part in answer.headers["content-security-policy"].split(";"))
    assert policy["default-src"] == "'none'"
    assert {policy[kind] for kind in ("script-src", "style-src", "img-src", "connect-src")} == {"'self'"}
    assert {policy[kind] for kind in ("base-uri", "form-action", "frame-ancestors")} == {"'none'"}
    assert (policy["require-trusted-types-for"], policy["trusted-types"]) == ("'script'", "'none'")
    assert "unsafe" not in str(policy)
    assert answer.headers["x-content-type-options"] == "nosniff"
    assert answer.headers["x-frame-options"] == "DENY"
    assert answer.headers["referrer-policy"] == "no-referrer"
    assert "set-cookie" not in answer.headers


@pytest.mark.parametrize("path", PAGES)
def test_a_page_has_nothing_inline_and_everything_it_names_is_there(client: TestClient, path: str) -> None:
    html = client.get(path).text
    assert not re.search(r"<script(?![^>]*\bsrc=)|<style|\son\w+=|\sstyle=|javascript:", html)
    named = re.findall(r'(?:src|href)="(/assets/[^"]+)"', html)
    assert len(named) >= 2
    for address in named:
        answer = client.get(address)
        assert answer.status_code == 200
        assert "immutable" in answer.headers["cache-control"]
        assert answer.headers["content-type"] == ASSETS[address.rpartition("/")[2]]


def test_scripts_import_only_what_is_served(client: TestClient) -> None:
    version = re.findall(r"/assets/(\w+)/", client.get("/").text)[0]
    imported = {name for asset in ASSETS if asset.endswith(".js") for name in imports(asset)}
    assert imported == {"message.js", "stream.js", "words.js"}
    assert all(client.get(f"/assets/{version}/{name}").status_code == 200 for name in imported)


def imports(asset: str) -> list[str]:
    return re.findall(r'from "\./([\w.]+)"', (FOLDER / asset).read_text("utf-8"))


def test_an_old_address_of_a_file_is_not_kept_for_ever(client: TestClient) -> None:
    assert client.get("/assets/an-older-version/chat.js").headers["cache-control"] == "no-cache"


def test_every_file_of_the_page_is_served_or_rendered() -> None:
    templates = {"chat.html", "article.html"}
    assert {path.name for path in FOLDER.iterdir()} == set(ASSETS) | templates


def test_no_script_and_no_template_can_turn_text_into_markup() -> None:
    """The articles module is the only place where text becomes HTML; this looks at all the others."""
    bad = re.compile(
        r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\(|new Function|\|\s*safe\b|Markup\("
    )
    kinds = (".js", ".ts", ".tsx", ".html", ".py")
    ours = [path for path in FOLDER.parent.rglob("*") if "node_modules" not in path.parts]
    looked = [path for path in ours if path.suffix in kinds and path.parent.name != "tests"]
    assert {path.suffix for path in looked} == set(kinds)
    assert len(looked) > 40
    guilty = {path.name for path in looked if bad.search(path.read_text("utf-8"))}
    assert guilty == {"articles.py"}


def test_the_words_of_the_page_are_the_same_in_every_language() -> None:
    source = (FOLDER / "words.js").read_text("utf-8")
    english, chinese = (re.findall(r"^ {2,4}(\w+):", part, re.M) for part in source.split("const ZH")[:2])
    assert len(english) > 40
    assert english == chinese


def test_the_company_and_its_questions_are_on_the_page_escaped(office: Office, client: TestClient) -> None:
    html = client.get("/").text
    assert "<h1>Larkmoor Outfitters</h1>" in html
    starters = re.search(r'data-starters="([^"]*)"', html)
    assert starters
    assert json.loads(starters[1].replace("&#34;", '"').replace("&#39;", "'"))["zh"][0] == "我的退款什么时候到账？"


def test_an_article_opens_with_anchors_at_its_passages(client: TestClient) -> None:
    html = client.get("/articles/returns/refunds.md").text
    assert html.count("<h1>") == 1
    assert re.findall(r'id="(p-\w+)"', html) == ["p-inspect", "p-money", "p-before"]


def test_an_article_without_a_heading_gets_its_title(office: Office, client: TestClient) -> None:
    office.shelf.put(Document("faq.csv#q1", "Are dogs <welcome>?", "Yes, on a lead.", (Section((), 0, 15),)))
    html = client.get("/articles/faq.csv%23q1").text
    assert "<h1>Are dogs &lt;welcome&gt;?</h1>" in html
    assert html.count("<h1>") == 1


def test_articles_that_are_not_public_are_not_there(office: Office, client: TestClient) -> None:
    office.shelf.put(laid_out("staff/secret.md", "Secret", ("", "The margin is 40 %."), audience="staff"))
    answer = client.get("/articles/staff/secret.md")
    assert answer.status_code == 404
    assert answer.content == client.get("/articles/none.md").content


@pytest.mark.parametrize(
    "source", ["../../etc/passwd", "..%2f..%2fetc%2fpasswd", "%00", "%ff%fe", "a" * 3000, "'\"><script>"]
)
def test_a_source_is_a_name_and_never_a_path(client: TestClient, source: str) -> None:
    assert client.get(f"/articles/{source}").status_code == 404


def test_chat_page_picture_in_the_readme_is_small() -> None:
    picture = Path(__file__).parents[3] / "docs" / "chat.png"
    assert 10_000 < picture.stat().st_size < 200_000
