"""What the card of a set states by a command: counts in its front matter, and a block of what an audit finds."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from rmbench.audit.examples import SubsetAudit, TaskAudit, audit_examples
from rmbench.audit.findings import DETECTABLE, Finding, counted
from rmbench.audit.near import near_duplicates
from rmbench.data.cards import counts
from rmbench.data.dataset import Dataset
from rmbench.kinds.base import Task

BEGIN, END = "<!-- rmbench audit --card -->", "<!-- end of rmbench audit -->"
_LOOKED_FOR = ("duplicates", "near duplicates", "opposite labels", "equal candidates", "empty", "cut")
_MOST = 40  # values of a facet: one that has more is left to --json, and to no line of the front matter
_WIDTH = 118


@dataclass(frozen=True, slots=True)
class Audited:
    """One set of a card: what is counted in it, how the command was called, and what that found.

    One that is not `readable` has scores without texts, of which an audit knows little.
    """

    figures: Mapping[str, Any]
    call: str
    audit: TaskAudit
    near: Sequence[Finding]
    readable: bool


def audited(task: Task, data: Dataset, path: str | None = None) -> Audited:
    """What a card states of the examples of a task, read from `path` where they are not the task's own."""
    call = f"rmbench audit {task.name}{'' if path is None else f' --data {task.name}={path}'} --card"
    source = {"task": task.name, "data": path} if path else {}
    return Audited(
        source | counts(data),
        call,
        audit_examples(task.name, task, data),
        near_duplicates({task.name: data}),
        task.subject == "policy" or any(one.text for example in data.examples for one in example.candidates),
    )


def entry(figures: Mapping[str, Any]) -> str:
    """What is counted of one set as YAML, on one line or several; nothing of what is empty or has very many values."""
    import yaml

    stated = {name: one for name, one in figures.items() if not isinstance(one, Mapping) or 0 < len(one) <= _MOST}
    text = yaml.safe_dump(stated, default_flow_style=True, sort_keys=False, width=_WIDTH - 8, allow_unicode=True)
    return re.sub(r"\n +", "\n       ", str(text).strip())


def block(sets: Sequence[Audited], across: Sequence[Finding] = ()) -> str:
    """The audit of the sets of a card, as Markdown between two comments; `across` is what they share with others."""
    subsets = [one for each in sets for one in each.audit.subsets]
    legend = ["Always: the headline of the rule, or the figure named; * above chance."] * any(
        one.rules for one in subsets
    )
    if any(least is not None for one in subsets for least in one.detectable.values()):
        legend.append(f"Detectable: {DETECTABLE}.")
    shared = "\n".join(f"- across {finding.where}: {finding.told}" for finding in across)
    parts = [BEGIN, "## Audit", *(_part(one) for one in sets), shared, " ".join(legend), END]
    return "\n\n".join(part for part in parts if part)


def _part(one: Audited) -> str:
    audit = one.audit
    sizes = {"example": audit.examples, "candidate": audit.candidates, "cluster": audit.subsets[0].clusters}
    size = ", ".join(counted(size, what) for what, size in sizes.items())
    findings = [finding for finding in [*audit.findings, *one.near] if finding.kind != "rule"]
    kinds = {finding.kind for finding in findings}
    lines = [f"- {finding.kind}: {finding.told}" for finding in findings]
    none = [kind for kind in _LOOKED_FOR if kind not in kinds]
    lines += [f"- none: {', '.join(none)}"] if none and one.readable else []
    lines += [f"- {note}" for note in audit.notes]
    return "\n\n".join([f"`{one.call}`: {size}; headline `{audit.headline}`.", "\n".join(lines), _table(audit)])


def _table(audit: TaskAudit) -> str:
    whole = audit.subsets[0]
    shares = [share for share, least in whole.detectable.items() if least is not None]
    heading = ["subset", "n", *(f"always {rule}" for rule in whole.rules), *(f"detectable at {one}" for one in shares)]
    values = Counter(_facet(one) for one in audit.subsets)
    rows = [heading, ["---", *["--:"] * (len(heading) - 1)]]
    rows += [_row(one, audit.headline, list(whole.rules), shares)
             for one in audit.subsets if values[_facet(one)] <= _MOST]  # fmt: skip
    rows += [[f"{count:,} of the facet {facet}: `--json`", *[""] * (len(heading) - 1)]
             for facet, count in values.items() if count > _MOST]  # fmt: skip
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)


def _facet(one: SubsetAudit) -> str:
    return one.subset.partition("=")[0]


def _row(one: SubsetAudit, headline: str, rules: Sequence[str], shares: Sequence[str]) -> list[str]:
    name = one.subset if one.metric == headline else f"{one.subset} ({one.metric})"
    scores = [_share(one.rules.get(rule)) + ("*" if rule in one.beaten else "") for rule in rules]
    return [name, f"{one.n:,}", *scores, *(_share(one.detectable[share]) for share in shares)]


def _share(value: float | None) -> str:
    return "" if value is None else f"{value:.3f}"
