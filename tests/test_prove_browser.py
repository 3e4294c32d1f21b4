"""The run report in a browser without a network: plots are drawn, nothing complains, and what data hold stays text."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import pytest
from optimisation_reports import simulated

import rmbench
from rmbench.report import optimisation, page
from rmbench.runs.loading import load_tasks
from rmbench.runs.respond import evaluate_policy
from rmbench.types import Reward

pytestmark = pytest.mark.prove

HOSTILE = (
    "<script>document.title='hacked'</script>"
    "<img src=x onerror=\"document.title='hacked'\">"
    "</script><svg onload=\"document.title='hacked'\"></svg>{{ 7 * 7 }}"
)
# Where every request would go is a proxy that is not there
FLAGS = [
    "--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--enable-logging=stderr", "--v=0", "--virtual-time-budget=20000",
    "--host-resolver-rules=MAP * ~NOTFOUND", "--proxy-server=127.0.0.1:9",
]  # fmt: skip


def longest(prompt: str, response: str) -> float:
    return len(response)


class Compares:
    """Prefers the longer response, of every third prompt the one that is shown first; of every fifth nobody."""

    answers = frozenset({"compare"})
    fingerprint = None

    def rewards(self, requests: Any) -> Any:
        for index, request in enumerate(requests):
            first, second = (len(shown.text) for shown in request.responses)
            turn = len(request.prompt[0].text) + first * second
            if turn % 5 == 0:
                yield index, Reward((float("nan"), float("nan")), status="refused", detail=f"{HOSTILE}")
            else:
                yield index, Reward((1.0, 0.0) if turn % 3 == 0 else (float(first > second), float(first <= second)))


class Elements(HTMLParser):
    """Every element of a document with its attributes, and for each plot how many marks it has."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.marks: dict[str, int] = {}
        self._plot = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.elements.append((tag, given))
        if given.get("data-spec"):
            self._plot = given["data-spec"] or ""
            self.marks[self._plot] = 0
        if tag in ("path", "line", "rect") and given.get("aria-roledescription"):
            self.marks[self._plot] += 1


def chromium() -> str:
    for name in ("chromium", "chromium-browser", "google-chrome"):
        if found := shutil.which(name):
            return found
    pytest.fail("no chromium found; expected one on PATH, as `apt-get install chromium` puts there")


@dataclass(frozen=True)
class Visit:
    """The document after its scripts ran, what they and the policy complained of, and what the page asked for."""

    dom: str
    complaints: list[str]
    requests: list[str]


def browse(path: Path, width: int = 1400) -> Visit:
    log = path.with_name("net.json")
    with TemporaryDirectory() as profile:
        own = [f"--user-data-dir={profile}", f"--log-net-log={log}", f"--window-size={width},1000"]
        command = [chromium(), *FLAGS, *own, "--dump-dom", path.as_uri()]
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120)
    complaints = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    asked = [event["params"] for event in json.loads(log.read_text())["events"] if "url" in event.get("params", {})]
    # A page from a file has the origin null; the browser's own housekeeping has none
    requests = [each["url"] for each in asked if each.get("initiator") == "null" and "://" in each["url"]]
    return Visit(done.stdout, complaints, requests)


def report(folder: Path, tasks: Sequence[str] = ("preference", "best_of_n", "length_bias")) -> Path:
    """The page of two models on pairs, one of which is hostile, and on bundled groups and probes."""
    rows = [
        {
            "id": f"{HOSTILE}{i}",
            "subset": f"{HOSTILE} {i % 2}",
            "prompt": f"p{i} {HOSTILE}",
            "chosen": "r" * (3 + i % 3 * 4),
            "rejected": HOSTILE * (1 + i),
        }
        for i in range(30)
    ]
    data = folder / "rows.jsonl"
    data.write_text("".join(json.dumps(row) + "\n" for row in rows))
    loaded = load_tasks(tasks, data={"preference": data})
    models = (longest, "random", Compares())
    results = [result for model in models for result in rmbench.evaluate(model, loaded)]
    results += written(folder)
    texts = {each.task.name: {example.id: example for example in each.data.examples} for each in loaded}
    page.write(results, texts, folder / "report.html")
    return folder / "report.html"


def written(folder: Path) -> list[rmbench.TaskResult]:
    """What a policy wrote, some of it hostile and some cut by a cap."""
    rows = [
        {"prompt": f"{HOSTILE}{n}", "output": f"{HOSTILE} {n}", "tokens": 30 * n + 9, "cap": 1000,
         "finish": "length" if n > 25 else "stop"}
        for n in range(30)
    ]  # fmt: skip
    file = folder / "outputs.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return evaluate_policy(f"outputs:{file}", ["lengths"], data={"lengths": file})


@pytest.mark.parametrize("width", [1400, 500])
def test_every_plot_is_drawn_and_nothing_complains(width: int, tmp_path: Path) -> None:
    path = report(tmp_path)
    due = path.read_text(encoding="utf-8").count("data-spec=")
    visit = browse(path, width)
    assert visit.complaints == []
    assert 'data-drawn="yes"' in visit.dom
    marks = Elements(visit.dom).marks
    assert len(marks) == due >= 12
    assert min(marks.values()) >= 2, marks


def test_what_a_response_holds_stays_text(tmp_path: Path) -> None:
    visit = browse(report(tmp_path))
    assert re.findall(r"<title>(.*?)</title>", visit.dom) == ["rmbench: preference, best_of_n, length_bias, lengths"]
    elements = Elements(visit.dom).elements
    assert not [tag for tag, _ in elements if tag in ("img", "iframe", "object", "embed", "link")]
    assert not [name for _, given in elements for name in given if name.startswith("on")]
    assert "{{ 7 * 7 }}" in visit.dom


def test_the_page_asks_nothing_of_the_network(tmp_path: Path) -> None:
    visit = browse(report(tmp_path))
    assert visit.requests == []
    places = {
        value
        for _, given in Elements(visit.dom).elements
        for name, value in given.items()
        if name in ("src", "href", "srcset", "action", "data", "poster", "xlink:href")
    }
    assert places
    assert all(place and place.startswith("#") for place in places)


@pytest.mark.parametrize("width", [1400, 500])
def test_the_page_of_optimised_rewards_is_drawn_and_their_names_stay_text(width: int, tmp_path: Path) -> None:
    path = tmp_path / "optimisation.html"
    optimisation.write(simulated((HOSTILE, "x" * 3000, "demo")), path)
    due = path.read_text(encoding="utf-8").count("data-spec=")
    visit = browse(path, width)
    assert visit.complaints == []
    assert visit.requests == []
    page = Elements(visit.dom)
    assert len(page.marks) == due == 1 + 3 * 7
    assert min(page.marks.values()) >= 2, page.marks
    assert not [tag for tag, _ in page.elements if tag in ("img", "iframe", "object", "embed", "link")]
    assert re.findall(r"<title>(.*?)</title>", visit.dom)[0] == "rmbench: optimising rewards on gsm8k_samples"


def test_a_request_of_a_page_would_be_seen(tmp_path: Path) -> None:
    path = tmp_path / "asks.html"
    path.write_text('<!doctype html><img src="https://example.invalid/asked.png">')
    assert browse(path).requests == ["https://example.invalid/asked.png"]


def test_a_script_that_got_into_the_page_would_be_seen_and_the_policy_stops_it(tmp_path: Path) -> None:
    path = report(tmp_path, ["preference"])
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("<main>", f"<main>{HOSTILE}"), encoding="utf-8")
    visit = browse(path)
    assert [tag for tag, _ in Elements(visit.dom).elements if tag == "img"]
    assert any("Content Security Policy" in line for line in visit.complaints)
    assert "<title>hacked</title>" not in visit.dom
    path.write_text(re.sub(r"<meta http-equiv=.*?>", "", path.read_text(encoding="utf-8")), encoding="utf-8")
    assert "<title>hacked</title>" in browse(path).dom
