"""The customer's language: by script, by detector when long, by the conversation when short."""

from __future__ import annotations

import pytest

from bot.conversation.language import language_of

KNOWN = ("en", "zh")


@pytest.mark.parametrize(
    ("text", "spoken", "expected"),
    [
        ("Where is my order?", "", "en"),
        ("hi", "", "en"),
        ("退款什么时候到账", "", "zh"),
        ("我的 order 什么时候 ship", "", "zh"),
        ("你好", "en", "zh"),
        ("ok", "zh", "zh"),
        ("NL-204881", "zh", "zh"),
        ("li@mail.example.com", "zh", "zh"),
        ("邮箱是li.ming@mail.example.com", "", "zh"),
        ("https://shop.example/my/order/page", "zh", "zh"),
        ("123", "zh", "zh"),
        ("👍", "zh", "zh"),
        ("", "zh", "zh"),
        ("", "", "en"),
        ("where is order", "zh", "en"),
        ("How do I return the lamp that I bought?", "zh", "en"),
        ("ランプを返品したいです", "", "ja"),
        ("램프를 반품하고 싶어요", "", "ko"),
        ("Где мой заказ?", "", "ru"),
        ("Où est ma commande, je ne l'ai toujours pas reçue ?", "", "fr"),
        ("Ich möchte meine Bestellung stornieren, bitte", "en", "de"),
        ("I live at 中山路 10, where is my order please", "", "en"),
        ("Larkmoor Basin 4 tent pole", "en", "en"),
    ],
)
def test_language(text: str, spoken: str, expected: str) -> None:
    assert language_of(text, spoken, KNOWN) == expected


def test_a_company_without_english_assumes_its_first_language() -> None:
    assert language_of("hallo", "", ("de", "fr")) == "de"
    assert language_of("...", "", ("zh",)) == "zh"
    assert language_of("LM482913", "", ("zh", "en")) == "zh"
    assert language_of("hello there", "", ("zh",)) == "en"
