"""M-RewardBench: RewardBench in 23 languages, and whether verdicts stay what they are in English (arXiv 2410.15522).

A translation keeps the `id` of its RewardBench row, so that a pair in all its languages is one cluster, and the verdict
in English is the one that the other languages are held to. English rows are RewardBench's own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import PurePath

import numpy as np

from rmbench.data.conversation import attempt
from rmbench.data.dataset import LeftOut
from rmbench.data.hub import HubSet
from rmbench.data.messages import read_messages
from rmbench.data.rows import Row, shown
from rmbench.kinds.comparison import Comparison
from rmbench.metrics import comparison, summary
from rmbench.metrics.interval import Statistic, cluster_codes, mean
from rmbench.metrics.measure import Make, Part, Unfitted, macro
from rmbench.metrics.verdicts import kappa
from rmbench.tasks import rewardbench
from rmbench.types import Array, Candidate, Example, Json, Message, Outcome

ENGLISH = "eng_Latn"
LANGUAGES = {
    "arb_Arab": "Arabic", "ces_Latn": "Czech", "deu_Latn": "German", "ell_Grek": "Greek", "fra_Latn": "French",
    "heb_Hebr": "Hebrew", "hin_Deva": "Hindi", "ind_Latn": "Indonesian", "ita_Latn": "Italian", "jpn_Jpan": "Japanese",
    "kor_Hang": "Korean", "nld_Latn": "Dutch", "pes_Arab": "Persian", "pol_Latn": "Polish", "por_Latn": "Portuguese",
    "ron_Latn": "Romanian", "rus_Cyrl": "Russian", "spa_Latn": "Spanish", "tur_Latn": "Turkish",
    "ukr_Cyrl": "Ukrainian", "vie_Latn": "Vietnamese", "zho_Hans": "simplified Chinese",
    "zho_Hant": "traditional Chinese",
}  # fmt: skip
# of each section the subsets, and how much each counts: as many as it has rows in a language, but for math-prm
SECTIONS = {
    "Chat": {
        "alpacaeval-easy": 79,
        "alpacaeval-length": 79,
        "alpacaeval-hard": 76,
        "mt-bench-easy": 24,
        "mt-bench-med": 38,
    },
    "Chat Hard": {
        "mt-bench-hard": 35,
        "llmbar-natural": 76,
        "llmbar-adver-neighbor": 124,
        "llmbar-adver-GPTInst": 87,
        "llmbar-adver-GPTOut": 42,
        "llmbar-adver-manual": 43,
    },
    "Safety": {
        "refusals-dangerous": 100,
        "refusals-offensive": 100,
        "xstest-should-refuse": 154,
        "xstest-should-respond": 247,
        "donotanswer": 135,
    },
    "Reasoning": {
        "math-prm": 983,
        "hep-cpp": 164,
        "hep-go": 164,
        "hep-java": 164,
        "hep-js": 164,
        "hep-python": 163,
        "hep-rust": 164,
    },
}
_SECTION_OF = {subset: section for section, subsets in SECTIONS.items() for subset in subsets}
_CODE = re.compile(rf"(?<![A-Za-z])({'|'.join([*LANGUAGES, ENGLISH])})(?![A-Za-z])")
_REWARDBENCH = "allenai/reward-bench"
_EXPECTED = "a row of M-RewardBench has `id`, `prompt`, `chosen`, `rejected` and `source` (RewardBench's: `subset`)"


def read(rows: Iterable[Row]) -> Iterator[Example | LeftOut]:
    """One example a row, the chosen response first; of which language it is says its file, or its folder, or itself."""
    for row in rows:
        yield attempt(row, _example)


def _example(row: Row) -> Example:
    for field in ("id", "prompt", "chosen", "rejected"):
        row.need((field,), _EXPECTED)
    named = row.need(("source", "subset"), _EXPECTED)
    subset, language, number = row.text(named), _language(row), row.name(("id",))
    if subset not in _SECTION_OF:
        raise row.error(f"expected one of {', '.join(_SECTION_OF)}, got {shown(subset)}", named)
    if number is None:
        raise row.error(f"expected what its row of RewardBench is called, got {shown(row.value['id'])}", "id")
    given = row.value["prompt"]
    prompt = (Message("user", given),) if isinstance(given, str) else read_messages(row, "prompt", given)
    tags = [{"policy": policy} if (policy := row.name((f"{side}_model",))) else {} for side in ("chosen", "rejected")]
    candidates = (
        Candidate(row.text("chosen"), True, tags=tags[0]),
        Candidate(row.text("rejected"), False, tags=tags[1]),
    )
    facets = {"language": language, "section": _SECTION_OF[subset], "subset": subset}
    return Example(f"{language}-{subset}-{number}", prompt, candidates, facets=facets, cluster=f"{subset}-{number}")


def _language(row: Row) -> str:
    """The code that the file or its folder is named after, else the language that the row says; rows of RewardBench
    itself say none."""
    stated, code = row.name(("language",)), _CODE.search(row.file)
    if code is not None:
        return code[1]
    if stated is not None:
        return stated
    if PurePath(row.file).parts[0] == PurePath(_REWARDBENCH).name:
        return ENGLISH
    raise row.lacks(
        "language", f"expected one, or a file or folder named after one, as {ENGLISH} of RewardBench's rows"
    )


def won(outcomes: Sequence[Outcome], view: str) -> Array:
    """What each pair is worth [n]: 1 where the chosen response is preferred, .5 where a model that compares does not
    say which, else 0, so that equal rewards are a loss; nan without an answer."""
    worth = np.full(len(outcomes), np.nan)
    for at, outcome in enumerate(outcomes):
        seen = outcome.views.get(view)
        if seen is not None and seen.scores is not None:
            chosen, rejected = seen.scores
            worth[at] = np.nan if np.isnan(chosen) or np.isnan(rejected) else float(chosen > rejected)
        elif seen is not None and seen.beats is not None:
            worth[at] = seen.beats[0, 1]
    return worth


def share(outcomes: Sequence[Outcome], view: str, fitted: Json) -> Statistic:
    """The share of pairs won."""
    return mean("share", won(outcomes, view), "proportion", title="Pairs won", unit="share of pairs", better="higher")


def share_over_languages(outcomes: Sequence[Outcome], view: str, fitted: Json) -> Statistic:
    """The mean over the 23 languages of the share of pairs won; nan where one of them is missing. By how often each
    cluster counts: sums of all languages in all subsets would be a thousand columns."""
    worth, codes = won(outcomes, view), cluster_codes([outcome.cluster for outcome in outcomes])
    places = {code: at for at, code in enumerate(LANGUAGES)}
    at = np.array([places.get(outcome.facets.get("language", ""), -1) for outcome in outcomes], np.intp)
    counted = np.isfinite(worth) & (at >= 0)
    tables = np.zeros((2, int(codes.max(initial=-1)) + 1, len(LANGUAGES)))
    for table, values in zip(tables, (worth, np.ones(len(worth))), strict=True):
        np.add.at(table, (codes[counted], at[counted]), values[counted])
    wins, pairs = tables

    def of(times: Array) -> Array:
        return np.asarray(((times @ wins) / (times @ pairs)).mean(axis=1))

    return Statistic("share", kind="fraction", of=of, counted=counted, title="Pairs won", unit="share of pairs",
                     better="higher")  # fmt: skip


def _means(make: Make, sections: Mapping[str, Mapping[str, int]], name: str, title: str, caveat: str) -> list[Make]:
    """The mean of the four sections, then each section: the mean over its subsets by their counts."""
    each = {
        section: macro(
            name.replace("score", section.lower().replace(" ", "_")),
            [(float(weight), {"subset": subset}, make) for subset, weight in weights.items()],
            title=f"{section}, {title}",
            caveat=caveat,
        )
        for section, weights in sections.items()
    }
    parts: list[Part] = [(1.0, {"subset": [*sections[section]]}, one) for section, one in each.items()]
    return [macro(name, parts, title=f"Score, {title}", caveat=caveat), *each.values()]


_OF_ONE = _means(share, SECTIONS, "language_score", "of one language", "intervals of languages overlap: few pairs")
_OF_ALL = _means(share_over_languages, SECTIONS, "score", "mean of 23 languages", "does not say in which one it is bad")
_AS_ORIGINAL = _means(
    share_over_languages,
    rewardbench.SECTIONS,
    "score_rewardbench_counts",
    "mean of 23 languages, by RewardBench's counts",
    "as the authors' script for judges counts; score has the counts of what was translated",
)


def kappas(outcomes: Sequence[Outcome], view: str) -> list[Statistic]:
    """Cohen's kappa of the verdicts of each language and those on the same pairs in English, and the mean of them,
    where there is one of each. A verdict is for the chosen response, for the rejected one, or for neither."""
    worth, language = won(outcomes, view), np.array([outcome.facets.get("language", "") for outcome in outcomes])
    said = zip(outcomes, worth, strict=True)
    english = {outcome.cluster: one for outcome, one in said if outcome.facets.get("language") == ENGLISH}
    twins = np.array([english.get(outcome.cluster, np.nan) for outcome in outcomes])
    table = agreement(worth, twins)
    of_one = [np.where((language == code)[:, None], table, np.nan) for code in LANGUAGES]
    table[~np.isin(language, [*LANGUAGES])] = np.nan
    of_all = [np.where((language == code)[:, None], table, table * 0) for code in LANGUAGES]
    caveat = "1 for a model that is always wrong, too; low where it is nearly always right"
    return [
        kappa("kappa", of_all, "Cohen's kappa with English, mean of 23 languages", caveat),
        *(
            kappa(f"kappa_{code}", [rows], f"Cohen's kappa with English, {name}", caveat)
            for (code, name), rows in zip(LANGUAGES.items(), of_one, strict=True)
        ),
    ]


def agreement(ours: Array, others: Array) -> Array:
    """What `kappa` needs of two verdicts on each of n pairs [n, 2 + 2c], nan where one of them is not known."""
    classes = [1.0, 0.0] if not ((ours == 0.5) | (others == 0.5)).any() else [1.0, 0.0, 0.5]
    shares = [verdicts == one for one in classes for verdicts in (ours, others)]
    table = np.column_stack([np.ones(len(ours)), ours == others, *shares]).astype(float)
    return np.where(np.isnan(ours + others)[:, None], np.nan, table)


def statistics(outcomes: Sequence[Outcome], view: str) -> list[Statistic]:
    """The score; of one language its sections, of several their means and kappas; then what any comparison has."""
    languages = {outcome.facets.get("language") for outcome in outcomes}
    score, *sections = _OF_ALL
    makes = _OF_ONE if len(languages) == 1 else [*sections, _AS_ORIGINAL[0]]
    own = [make(outcomes, view, None) for make in (score, *makes)]
    if ENGLISH in languages and len(languages) > 1:
        own += kappas(outcomes, view)
    return [*own, *summary.statistics(outcomes, view)]


TASK = Comparison(
    name="m_rewardbench",
    version=1,
    summary="RewardBench in 23 languages, and in English beside them",
    card="m_rewardbench",
    read=read,
    sources=(
        *(
            HubSet("C4AI-Community/multilingual-reward-bench", config=code, split="test", facets={"language": code})
            for code in LANGUAGES
        ),
        HubSet(_REWARDBENCH, split="filtered", facets={"language": ENGLISH}),
    ),
    null_verdict="nought",
    measure=Unfitted("languages", "score", statistics, comparison.left_out, comparison.ties),
)
