"""Tables of what each signal must hear, and of the near misses it must leave alone."""

from __future__ import annotations

import time

import pytest

from bot.conversation.signals import SIGNALS, SignalKind, find_signals, place_named


def kinds(text: str) -> set[str]:
    return {entity.kind for entity in find_signals(text)}


@pytest.mark.parametrize(
    "text",
    [
        "human", "a person please", "AGENT!", "talk to a human", "Can I speak to a real person please?",
        "I'd like to speak with one of your staff", "let me talk to someone", "connect me to an agent",
        "transfer me to your manager", "put me through to customer service", "I want a human",
        "get me a representative",
        "is there a real person I can ask", "stop, give me a person", "I hate this bot", "a human not a bot",
        "need a person now", "转人工", "人工", "人工客服", "我要找真人", "请帮我转接客服", "想和真人聊聊",
        "叫你们经理来", "找个活人", "請幫我轉接客服", "我想跟真人說話", "叫你們經理來",
        "我要跟人工客服讲",
    ],
)  # fmt: skip
def test_a_person_is_asked_for(text: str) -> None:
    assert "wants_person" in kinds(text)


@pytest.mark.parametrize(
    "text",
    [
        "Are you a real person?", "am I talking to a human?", "is this a human or a bot",
        "I spoke to an agent yesterday and she promised a refund", "after talking to your staff I bought two",
        "I don't want to talk to an agent",
        "I don’t want to talk to an agent", "do I need a person to sign for it", "can someone else pick up my parcel",
        "someone stole my parcel", "can I give it to someone as a gift", "are your agents there on sunday",
        "what does the agent commission cost", "the person at the door", "my personal data", "superhuman lamp",
        "人工智能手表", "人工费多少", "是人工还是自动回复", "不要转人工", "你是真人吗", "昨天和客服说过了",
        "这是手工做的吗", "人工客服几点上班",
        "客服电话是多少",
    ],
)  # fmt: skip
def test_a_person_is_not_asked_for(text: str) -> None:
    assert "wants_person" not in kinds(text)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("this is fucking ridiculous", "strong"),
        ("worst company ever", "strong"),
        ("You people are useless", "strong"),
        ("I will sue you", "strong"),
        ("totally unacceptable", "strong"),
        ("what a scam", "strong"),
        ("垃圾公司", "strong"),
        ("你们太过分了", "strong"),
        ("骗子！", "strong"),
        ("😡", "strong"),
        ("where is it!!!", "mild"),
        ("a bit disappointed", "mild"),
        ("太慢了", "mild"),
        ("騙子！", "strong"),
        ("太過分了", "strong"),
        ("is this e-mail a scam?", ""),
        ("got a scam text message", ""),
        ("这条短信是骗子吗", ""),
        ("垃圾桶怎么买", ""),
        ("再不退款我打12315", "strong"),
        ("订单号是12315678", ""),
        ("order 4123155", ""),
        ("滚筒洗衣机能洗吗", ""),
        ("the worst weather this tent can take", ""),
        ("is the lamp too angry looking", ""),
    ],
)
def test_anger(text: str, value: str) -> None:
    assert [entity.value for entity in find_signals(text) if entity.kind == "angry"] == ([value] if value else [])


@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        ("never_mind", ["never mind", "No, forget it.", "cancel", "ok nvm thanks", "actually, don't bother", 
            "don’t bother", "算了", "不用了谢谢", "没事了", "那算了吧", "沒事了", "不用了謝謝"]),
        ("yes", ["yes", "Yes please!", "ok", "sure, thanks", "go ahead", "好的", "可以，谢谢", "嗯嗯", "是的",
            "👍", "🙏🙏"]),
        ("no", ["no", "nope", "no thanks", "that's all, thanks", "that’s all, thanks", "不用", "没有了谢谢", "不是"]),
        ("has_none", ["没有", "没有了", "没有。"]),
        ("none_of_these", ["none of these", "neither", "something else", "no, something else", "都不是",
            "都不是！", "其他"]),
        ("follow_up", ["and for Canada?", "what about batteries", "how long does it take?", "to Sweden?",
            "那到加拿大呢？", "如果坏了呢", "这个多少钱"]),
    ],
)  # fmt: skip
def test_short_answers(kind: SignalKind, texts: list[str]) -> None:
    for text in texts:
        assert kind in kinds(text), text


@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        ("never_mind", ["cancel my order", "never mind the colour, is it waterproof?", "stop the delivery",
            "取消订单", "不用了的灯能退吗"]),
        ("yes", ["yes it is broken", "ok so where is my order", "is it ok to wash it", "好多了", "可以退货吗",
            "好像坏了", "要一个帐篷"]),
        ("no", ["no idea where it is", "no light comes on", "不亮了", "没有收到货", "不是我下的单"]),
        ("has_none", ["没有收到货", "没有订单号怎么办"]),
        ("none_of_these", ["none of my lamps work", "其他颜色有吗"]),
        ("follow_up", ["Where is my order?", "How do I return a lamp?", "怎么退货"]),
    ],
)  # fmt: skip
def test_longer_messages_are_not_short_answers(kind: SignalKind, texts: list[str]) -> None:
    for text in texts:
        assert kind not in kinds(text), text


def test_the_span_is_what_was_heard() -> None:
    text = "  My tent broke. Let me talk to a person now."
    (signal,) = [entity for entity in find_signals(text) if entity.kind == "wants_person"]
    assert text[signal.start : signal.end] == "talk to a person"
    assert signal.why == "asks to talk to a person"


@pytest.mark.parametrize(
    "text",
    ["o" * 4000, "no " * 1500 + "x", "嗯" * 4000, "好" * 150 + "x", "ok " * 50 + "z", "talk to a " + "real " * 800,
     "a " * 2000, "y" * 158 + "!", "and " * 40, "no,no," * 26],
)  # fmt: skip
def test_no_text_takes_long(text: str) -> None:
    """Patterns that backtrack without end would hang the service: a planted (a+)+ takes minutes on these."""
    start = time.process_time()
    find_signals(text)
    assert time.process_time() - start < 0.5


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("2", 1), ("２", 1), ("option 2, please", 1), ("the second one, thanks", 1), ("no. 2", 1),
        ("I mean the second", 1),
        ("选2", 1), ("我选第二个", 1), ("第二个吧", 1), ("第二個，谢谢", 1), ("我要第二个", 1),
        ("最后一个吧", 2), ("the last one", 2),
        ("no one", None), ("要2个", None), ("second hand", None), ("4", None),
    ],
)  # fmt: skip
def test_an_option_is_named_by_its_place(text: str, place: int | None) -> None:
    assert place_named(text, 3) == place


def test_every_kind_has_both_languages() -> None:
    chinese = {
        signal.kind for signal in SIGNALS if any("一" <= character <= "龥" for character in signal.pattern.pattern)
    }
    assert chinese == {signal.kind for signal in SIGNALS}
    assert len(SIGNALS) >= 20
