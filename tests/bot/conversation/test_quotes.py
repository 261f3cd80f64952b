"""What is quoted, compared with what a careful agent would copy from the article."""

from __future__ import annotations

from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bot.conversation.quotes import MOST_SENTENCES, best_sentence, choose_quotes
from tests.bot.conversation.fakes import hit

LONG = (
    "Lamps of this series were drawn by hand in 1961. They are made in two towns on the coast of Norway.\n\n"
    "The cable is two metres long. A longer one of four metres costs 90 kr. Ask for it when you order.\n\n"
    "Dust the shade with a dry cloth. Never use water on paper shades. Wipe glass shades with a damp cloth once a "
    "month and dry them at once. Metal may be polished with a little oil, but only when the lamp has been off for an "
    "hour, because warm oil smells and leaves marks that cannot be taken off again without the help of our workshop."
)


def quoted(question: str, text: str, context: str = "", heading: Sequence[str] = ("Care",)) -> str:
    (quote, *_) = choose_quotes(question, context, [hit(text, heading=heading)])
    return (f"{quote.heading}: " if quote.heading else "") + quote.text


def test_a_short_passage_is_quoted_whole() -> None:
    assert quoted("how long?", "Five years. Bulbs are not covered.") == "Five years. Bulbs are not covered."


def test_the_paragraph_that_answers_is_quoted_whole() -> None:
    assert quoted("how long is the cable", LONG) == (
        "The cable is two metres long. A longer one of four metres costs 90 kr. Ask for it when you order."
    )


def test_of_a_long_paragraph_the_sentences_that_answer() -> None:
    assert quoted("can I use water on a paper shade", LONG) == "Never use water on paper shades."
    assert quoted("polish metal with oil", LONG).startswith("Metal may be polished with a little oil")


def test_the_best_sentence_is_the_one_with_most_of_the_question() -> None:
    found = [hit("The red cable is two metres long. Green ones are short.", heading=("Care",)), hit("Lamps.")]

    def share(question: str) -> float:
        return best_sentence(question, found[0].passage, found)

    assert share("red cable") == 1
    # "red" and "green" are in one sentence of three each, so they weigh the same; no sentence holds both.
    assert share("red or green?") == pytest.approx(0.5)
    assert share("care of a red cable") == 1, "the heading counts"
    assert share("red zeppelin") == pytest.approx(0.5), "what nobody holds weighs as much as the rarest"
    assert share("zeppelin") == share("is it?") == 0


def test_a_gap_is_shown() -> None:
    answer = quoted("dust the shade with a dry cloth, or wipe glass shades with a damp cloth?", LONG)
    assert answer == (
        "Dust the shade with a dry cloth. … Wipe glass shades with a damp cloth once a month and dry them at once."
    )


def test_without_a_shared_word_the_beginning_answers() -> None:
    assert quoted("qqq", LONG).startswith("Lamps of this series")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("It lasts five years.", "A – Care: It lasts five years."),
        ("These are not covered.", "A – Care: These are not covered."),
        ("它保修五年。", "A – Care: 它保修五年。"),
        ("Item 5 lasts.", "Item 5 lasts."),
    ],
)
def test_what_leans_on_the_heading_gets_it(text: str, expected: str) -> None:
    assert quoted("how long?", text) == expected


def test_what_leans_on_the_sentence_before_gets_that() -> None:
    text = LONG + " Halogen bulbs grow hot enough to burn. They must never touch paper."
    assert quoted("must bulbs never touch it", text).endswith(
        "Halogen bulbs grow hot enough to burn. They must never touch paper."
    )


STEPS = "1. Switch the lamp off.\n2. Wait ten minutes.\n3. Turn the bulb out.\n4. Turn the new one in."


def test_a_list_is_quoted_whole_with_the_line_that_opens_it() -> None:
    text = f"{LONG}\n\nTo change a bulb:\n\n{STEPS}\n\nOld bulbs are recycled."
    assert quoted("turn the bulb out", text) == f"To change a bulb:\n\n{STEPS}"


def test_the_line_that_opens_a_list_brings_the_list() -> None:
    text = f"{LONG}\n\nNobody needs tools. To swap:\n\n{STEPS}"
    assert quoted("how to swap", text) == f"To swap:\n\n{STEPS}"


def test_a_list_without_such_a_line_gets_the_heading() -> None:
    assert quoted("bulb", STEPS) == f"A – Care: {STEPS}"


def test_of_an_endless_list_the_opening_and_the_best_item() -> None:
    items = "\n".join(f"- Lamp number {n} has the colour that its maker, by the sea, liked." for n in range(40))
    text = f"These are our lamps:\n{items}\n- The lighthouse is red and white."
    assert quoted("which is red and white, the lighthouse?", text) == (
        "A – Care: These are our lamps:\n…\n- The lighthouse is red and white."
    )


def test_a_table_keeps_its_header() -> None:
    table = "Country | Cost\nSweden | 99 kr\nFinland | 149 kr. With care."
    assert quoted("cost to Finland", f"{LONG}\n\n{table}\n\nAll prices include tax.") == table


def test_an_answered_question_is_quoted_whole() -> None:
    (quote,) = choose_quotes("how", "", [hit(LONG)])
    assert len(quote.text) < len(LONG)
    faq = hit(LONG)
    object.__setattr__(faq.passage, "question", "How do I care for it?")
    (quote,) = choose_quotes("how", "", [faq])
    assert quote.text == LONG


def test_a_second_passage_is_quoted_only_for_what_the_first_does_not_say() -> None:
    sweden = hit("Parcels to Sweden cost 99 kr.", 0.9, name="one")
    returns = hit("Returns from Sweden are free within thirty days.", 0.8, name="two")
    same = hit("Parcels to Sweden cost little.", 0.85, name="three")
    assert [q.passage.id for q in choose_quotes("what do parcels to Sweden cost", "", [sweden, same])] == ["one"]
    both = choose_quotes("cost of parcels, and free returns within how many days?", "", [sweden, returns])
    assert [q.passage.id for q in both] == ["one", "two"]


def test_a_passage_of_another_document_is_quoted_beside_the_first() -> None:
    first, other = hit("Lamps last five years.", 0.5, source="a.md"), hit("Ask the shop.", 0.4, source="b.md")
    quotes = choose_quotes("how long do lamps last", "", [first, other])
    assert [quote.passage.source for quote in quotes] == ["a.md", "b.md"]


def test_between_equals_the_one_with_the_words_is_quoted() -> None:
    late = hit("If a payment fails we try again.", 0.86, name="late")
    early = hit("You may pay the plan off early without a fee.", 0.85, name="early")
    assert choose_quotes("can I pay the plan off early", "", [late, early])[0].passage.id == "early"


def test_the_question_before_helps_one_that_leans_on_it() -> None:
    text = LONG.replace("\n\n", " ")
    assert quoted("and how is that?", text, context="tell me about the cable") == "The cable is two metres long."
    # But it does not outweigh the question itself.
    dust = quoted("and to dust it?", text, context="how long is the cable when I order it")
    assert dust == "Dust the shade with a dry cloth."


def test_a_scorer_has_its_say() -> None:
    def likes_oil(question: str, pieces: Sequence[str]) -> list[float]:
        return [1.0 if "oil" in piece else 0.0 for piece in pieces]

    (quote,) = choose_quotes("how do I keep it shiny", "", [hit(LONG)], likes_oil)
    assert "polished with a little oil" in quote.text


@given(
    st.text(alphabet="ab .,:\n-1|It。吗退款?", max_size=400),
    st.text(alphabet="ab 退款It", max_size=30),
)
def test_every_word_quoted_stands_in_the_passage(text: str, question: str) -> None:
    """Promise one: nothing is said that no passage says."""
    for quote in choose_quotes(question, "", [hit(text or "x")]):
        for span in quote.spans:
            assert quote.passage.text[span.start : span.end] in quote.text
        rest = quote.text
        for span in quote.spans:
            rest = rest.replace(quote.passage.text[span.start : span.end], "", 1)
        assert not any(character.isalnum() for character in rest) or not quote.spans
        assert quote.text


def test_prose_is_kept_short() -> None:
    text = " ".join(
        f"The lamp number {n} is red and its cable is long, as cables of that year were." for n in range(30)
    )
    (quote,) = choose_quotes("red lamp cable", "", [hit(text)])
    assert len(quote.spans) <= MOST_SENTENCES


FACTS = "Weight | 89 g, with bag 97 g\nSize | 8 x 5 cm\nPower | 2.6 kW\nBoils one litre | 4 min\nWarranty | 5 years"
HOURS = (
    "Store | Weekdays | Sunday\nOslo, Storgata 1 | 10-20 | closed\nBergen, Bryggen 5 | 9-18 | 11-17\nMoss | 9-17 | -"
)


@pytest.mark.parametrize(
    ("question", "table", "expected"),
    [
        ("what does it weigh?", FACTS, "Weight | 89 g, with bag 97 g"),
        ("how long is the warranty", FACTS, "Warranty | 5 years"),
        ("are you open on sundays in Bergen", HOURS, "Store | Weekdays | Sunday\n…\nBergen, Bryggen 5 | 9-18 | 11-17"),
        ("is it any good", FACTS, FACTS),
        ("when are your stores open", HOURS, HOURS),
        ("does 5 mean anything", HOURS, HOURS),
    ],
)
def test_of_a_table_the_rows_that_are_asked_for(question: str, table: str, expected: str) -> None:
    assert quoted(question, table, heading=()).removeprefix("A: ") == expected


def test_a_row_may_have_been_named_before() -> None:
    assert quoted("and the price of that?", HOURS, "do you have a shop in Moss?", heading=()).endswith(
        "\n…\nMoss | 9-17 | -"
    )


def test_of_one_article_the_passage_under_the_heading_that_asks_the_same() -> None:
    facts, lasts = hit(FACTS, 0.82, name="facts"), hit("About an hour on a small flame.", 0.8, name="lasts")
    object.__setattr__(lasts.passage, "heading", ("How long a canister lasts",))
    assert choose_quotes("how long does a canister last", "", [facts, lasts])[0].passage.id == "lasts"
