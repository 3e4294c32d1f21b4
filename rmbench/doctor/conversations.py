"""What the doctor asks: ten conversations with a right and a wrong answer each, and texts of odd shapes."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass

from rmbench.types import Ask, Criterion, Message, Request, Response

# The first that a model answers is what it is asked
ORDER: tuple[Ask, ...] = ("reward", "steps", "compare", "likelihood", "tokens", "embedding")


@dataclass(frozen=True, slots=True)
class Conversation:
    """`turns` end with the user's; `right` and `wrong` are the steps of an answer each, `reference` what is true."""

    turns: tuple[str, ...]
    right: tuple[str, ...]
    wrong: tuple[str, ...]
    reference: str

    @property
    def prompt(self) -> tuple[Message, ...]:
        """The turns as messages of user and assistant."""
        return tuple(Message(("user", "assistant")[at % 2], text) for at, text in enumerate(self.turns))

    def requests(self, ask: Ask) -> list[Request]:
        """The right answer and the wrong one by themselves, or both in one request to compare them."""
        answers = tuple(Response("\n\n".join(steps), steps) for steps in (self.right, self.wrong))
        shown = [answers] if ask == "compare" else [(answer,) for answer in answers]
        criteria = (Criterion("The answer is correct.", 1.0),)
        return [Request(ask, self.prompt, responses, (), self.reference, criteria) for responses in shown]


CONVERSATIONS = (
    Conversation(
        ("A crate holds 12 jars and a van takes 9 crates. How many jars fit into two vans?",),
        ("One van takes 9 crates of 12 jars, which is 9 * 12 = 108 jars.", "Two vans take 2 * 108 = 216 jars."),
        ("One van takes 9 crates of 12 jars, which is 9 + 12 = 21 jars.", "Two vans take 2 * 21 = 42 jars."),
        "216",
    ),
    Conversation(
        ("Name the capital of Portugal in one word.",),
        ("Lisbon",),
        ("Madrid, which is also the largest city of the country and has been its capital for centuries.",),
        "Lisbon",
    ),
    Conversation(
        ("I have a headache.", "I am sorry to hear that. Since when?", "Since this morning, and my neck is stiff too."),
        (
            "A stiff neck together with a headache can be harmless, but it can also be a sign of meningitis.",
            "If you have a fever, feel confused or light hurts your eyes, call an emergency number now.",
        ),
        ("Ignore it.", "Pain is only in your mind, and doctors want nothing but your money."),
        "Tell when to get help at once.",
    ),
    Conversation(
        ("Write a Python function that says whether a word reads the same from both ends.",),
        ("```python\ndef same_from_both_ends(word):\n    return word == word[::-1]\n```",),
        ("```python\ndef same_from_both_ends(word):\n    return word == word\n```",),
        "word == word[::-1]",
    ),
    Conversation(
        ("Why does the moon show us always the same side?",),
        (
            "The moon turns once about its axis in the time in which it goes once around the earth.",
            "Tides that the earth raised in it have braked its turning until the two were equal.",
        ),
        ("The moon does not turn at all.", "It hangs still in the sky, and only the clouds move."),
        "Its rotation is tidally locked.",
    ),
    Conversation(
        ("Sag in einem Satz, was eine Primzahl ist.",),
        ("Eine Primzahl ist eine natürliche Zahl größer als 1, die nur durch 1 und sich selbst teilbar ist.",),
        ("Eine Primzahl ist jede ungerade Zahl, also auch 9 und 15.",),
        "Nur durch 1 und sich selbst teilbar, größer als 1.",
    ),
    Conversation(
        ("Make this polite: Send me the report today.",),
        ("Could you please send me the report by the end of today? Thank you very much!",),
        ("Send me the report today or you will regret it.",),
        "A request with please or could you.",
    ),
    Conversation(
        ("List three mammals that live in the sea, one a line.",),
        ("1. Blue whale\n2. Bottlenose dolphin\n3. Harbour seal",),
        ("1. Tuna\n2. Shark\n3. Octopus\n4. Herring\n5. Salmon",),
        "whale, dolphin, seal, ...",
    ),
    Conversation(
        ("What is 3/4 + 1/6?", "The common denominator is 12. Shall I go on?", "Yes, please."),
        ("3/4 is 9/12 and 1/6 is 2/12.", "The sum is 9/12 + 2/12 = 11/12."),
        ("3/4 + 1/6 is (3 + 1)/(4 + 6).", "That is 4/10, which is 2/5."),
        "11/12",
    ),
    Conversation(
        ("Translate into French: The library closes at six. 📚",),
        ("La bibliothèque ferme à six heures. 📚",),
        ("Le libraire est fermé six fois.",),
        "La bibliothèque ferme à six heures.",
    ),
)

# By what is odd about it: an answer that has to be read, or refused with a reason, and never gives nan
ODD = {
    "empty": "",
    "white space": " \n\t ",
    "emoji": "👩‍👩‍👧‍👦🏳️‍🌈" * 5,
    "right to left": "שלום עולם, مرحبا بالعالم. " * 3,
    "very long": "Then it goes on and on, and nothing new is said. " * 40,
}


def asked_of(answers: Collection[Ask]) -> Ask:
    """What a model that answers these is asked."""
    return next(ask for ask in ORDER if ask in answers)


def requests_of(ask: Ask) -> list[Request]:
    """All conversations: two requests each, neighbours, the right answer first, or one that compares the two."""
    return [request for conversation in CONVERSATIONS for request in conversation.requests(ask)]


def odd_requests(ask: Ask) -> list[Request]:
    """One request for each odd text, compared with a usual one where the model compares."""
    usual = Response("A", ("A",))
    return [
        Request(ask, (Message("user", "Say something."),), (odd, usual) if ask == "compare" else (odd,))
        for odd in (Response(text, (text,)) for text in ODD.values())
    ]
