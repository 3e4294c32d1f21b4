"""Prompts that ask for one sentence under stated constraints: at most so many words, two of them given.

They are one long series, drawn from a fixed seed: the bundled pool answers the first of them, and whatever is trained
or tried on others takes later ones.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import islice
from random import Random

BUNDLED = 60
_SEED = 16
_PASSED_OVER = {"sentence-047", "sentence-051", "sentence-056"}  # a sample said what nobody wants to hand on
_LIMITS = {"tight": range(8, 12), "middle": range(12, 16), "loose": range(16, 21)}
_WORDINGS = (
    "Write one sentence of at most {limit} words that contains the words {first} and {second}.",
    "In one sentence of no more than {limit} words, use the words {first} and {second}.",
    "Use the words {first} and {second} in a single sentence. It must not be longer than {limit} words.",
    "Give me a single sentence with the words {first} and {second} in it. Stay within {limit} words.",
    "Please write exactly one sentence, {limit} words or fewer, in which the words {first} and {second} both appear.",
    "Compose one sentence that includes the word {first} as well as the word {second}. The maximum is {limit} words.",
    "I need one sentence with the words {first} and {second}, and it may have up to {limit} words.",
    "Tell me something in one sentence. Use the words {first} and {second}, and at most {limit} words in all.",
)
_WORDS = (
    "anchor", "apron", "attic", "bakery", "barrel", "basket", "beacon", "bicycle", "blanket", "bottle",
    "branch", "bridge", "brother", "bucket", "butter", "button", "camera", "candle", "canyon", "carpet",
    "castle", "cellar", "chapel", "cherry", "chimney", "circus", "coffee", "comet", "copper", "cottage",
    "cousin", "curtain", "dentist", "desert", "doctor", "dolphin", "donkey", "drawer", "engine", "evening",
    "falcon", "farmer", "feather", "fence", "ferry", "flute", "forest", "fountain", "garden", "ginger",
    "glacier", "glove", "guitar", "hammer", "harbour", "harvest", "helmet", "honey", "island", "jacket",
    "juggler", "kettle", "kitchen", "ladder", "lantern", "lemon", "letter", "library", "lizard", "marble",
    "market", "meadow", "mirror", "mountain", "museum", "mustard", "needle", "neighbour", "notebook", "ocean",
    "onion", "orchard", "oven", "paddle", "painter", "parrot", "pebble", "pencil", "pepper", "piano",
    "pillow", "pirate", "planet", "pocket", "potato", "puddle", "quilt", "rabbit", "railway", "ribbon",
    "river", "rooster", "sailor", "scarf", "shadow", "shoemaker", "silver", "snowflake", "spider", "station",
    "storm", "sugar", "tailor", "teacher", "thunder", "ticket", "tunnel", "turtle", "umbrella", "valley",
    "village", "violin", "wagon", "walnut", "whistle", "willow", "window", "winter", "wizard", "zipper",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt: one sentence of 1 to `limit` words, `words` among them. `subset` says how much room that leaves."""

    id: str
    subset: str
    prompt: str
    words: tuple[str, str]
    limit: int


def prompts() -> Iterator[Asked]:
    """The series, each two words once. Of three that follow one another, one is of each subset."""
    rng, seen = Random(_SEED), set[frozenset[str]]()  # noqa: S311
    subsets = list(_LIMITS)
    while len(seen) < len(_WORDS) * (len(_WORDS) - 1) // 2:
        first, second = rng.sample(_WORDS, 2)
        wording, subset = rng.choice(_WORDINGS), subsets[len(seen) % len(subsets)]
        limit = rng.choice(_LIMITS[subset])
        if frozenset((first, second)) not in seen:
            seen.add(frozenset((first, second)))
            prompt = wording.format(limit=limit, first=first, second=second)
            yield Asked(f"sentence-{len(seen):03}", subset, prompt, (first, second), limit)


def bundled() -> list[Asked]:
    """Those that the bundled pool answers: the first of the series, but for three that were passed over whole."""
    return list(islice((one for one in prompts() if one.id not in _PASSED_OVER), BUNDLED))
