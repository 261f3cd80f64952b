"""One matter from the first question to the stars, with two people at two browsers at the same time.

A customer in the widget on a shop's page, and an agent at the inbox.
"""

from __future__ import annotations

from pathlib import Path

from playwright.sync_api import expect

from bot.storage.conversations import find_conversation
from tests.bot.browser.conftest import Open
from tests.bot.browser.console import at_console
from tests.bot.browser.stands import Stand, ask, open_panel, write


def test_from_a_question_to_a_person_a_file_and_five_stars(
    open_page: Open, open_widget: Open, stand: Stand, tmp_path: Path
) -> None:
    agent = at_console(open_page, stand.office, "agent", "Anna B.", url=stand.service.url)
    customer = open_widget()
    assert customer.evaluate("location.origin") != agent.evaluate("location.origin")
    ask(customer, "When does my refund arrive?")
    conversation = stand.conversation
    customer.get_by_role("button", name="Talk to a person").click()
    customer.locator(".standing", has_text="Waiting for a person").wait_for()

    line = agent.locator(f'.item[href*="{conversation}"]')
    expect(line).to_contain_text("Asked for a person")
    line.click()
    expect(agent.locator("#story .said.customer")).to_contain_text("When does my refund arrive?")
    agent.click("#act-take")
    customer.locator(".standing", has_text="You are talking to Anna B.").wait_for()

    agent.fill("#text", "Good morning! Can I see the receipt?")
    agent.press("#text", "Control+Enter")
    said = customer.locator(".said.agent")
    expect(said).to_contain_text("Good morning! Can I see the receipt?")
    expect(said.locator(".name")).to_have_text("Anna B.")
    write(customer, "Here it is:")
    expect(agent.locator("#story .said.customer").last).to_contain_text("Here it is:")
    expect(customer.locator(".typing")).to_have_count(0)

    receipt = tmp_path / "receipt.pdf"
    receipt.write_bytes(b"%PDF-1.7\n" + bytes(2_000))
    customer.locator("input[type=file]").set_input_files(receipt)
    customer.get_by_role("button", name="Download receipt.pdf").wait_for()
    sent = agent.locator("#story a.file", has_text="receipt.pdf")
    expect(sent).to_be_visible()
    with agent.expect_download() as download:
        sent.click()
    assert Path(download.value.path()).read_bytes() == receipt.read_bytes()

    # what is said while the customer looks elsewhere waits for them
    customer.get_by_role("button", name="Close chat").first.click()
    agent.fill("#text", "Your money is on its way.")
    agent.press("#text", "Control+Enter")
    customer.locator(".badge", has_text="1").wait_for()
    open_panel(customer)
    expect(customer.locator(".said.agent").last).to_contain_text("Your money is on its way.")
    expect(customer.locator(".badge")).to_have_text("")

    agent.click("#act-resolve")
    customer.locator(".state", has_text="This conversation has ended.").wait_for()
    customer.get_by_role("radio", name="5 of 5 stars").check()
    customer.get_by_label("Anything to add? (optional)").fill("Quick, thank you")
    customer.get_by_role("button", name="Send rating").click()
    customer.get_by_text("Thank you for your rating.").wait_for()
    assert find_conversation(stand.office.database, conversation).status == "resolved"
    with stand.office.database.read() as connection:
        found = connection.exec_driver_sql(
            "SELECT stars, comment FROM ratings WHERE conversation_id = ?", (conversation,)
        )
        assert tuple(found.one()) == (5, "Quick, thank you")

    customer.reload()
    customer.locator(".customer", has_text="Here it is:").wait_for()
    expect(customer.locator(".log .said")).to_have_count(6)
    expect(customer.locator(".rating")).to_have_count(0)
