"""Turns that no assistant makes."""

from __future__ import annotations

from bot.fallback import failure
from tests.bot.conversation.fakes import message


def test_a_failure_is_told_in_the_customers_language() -> None:
    english, chinese = failure(message("Where is my parcel?")), failure(message("我的 parcel 到哪了"))
    assert english.reply.text.startswith("Sorry, something went wrong on our side.")
    assert chinese.reply.text.startswith("抱歉，我们这边出了点问题")
    assert [turn.parts[0].understanding.language for turn in (english, chinese)] == ["en", "zh"]
