"""A plan is told in a small part of the time that it tells, and what telling it took is not lost."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import pytest
from checkpoints import make
from started import start_classifier

from rmbench.cli._plan import print_plans
from rmbench.forwards import fastpath
from rmbench.models import classifier
from rmbench.models.spec import load_model
from rmbench.scoring import Asking, Session, Store, explain
from rmbench.types import Message, Question, Request, Response

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make(
        tmp_path_factory.mktemp("explain") / "deep", "llama", num_hidden_layers=16, max_position_embeddings=2048
    )


def asked(prompts: int, answers: int, words: int) -> list[Question]:
    made = []
    for i in range(prompts):
        prompt = (Message("user", f"{i} " + "two trains leave at noon and " * words),)
        made += [Question(Request("reward", prompt, (Response(f"{i} {j} " + "hours " * j),))) for j in range(answers)]
    return made


class Work:
    """Operations of linear layers, token by token, of all that runs."""

    def __init__(self, network: Any) -> None:
        import torch

        self.done = 0
        for module in network.modules():
            if isinstance(module, torch.nn.Linear):
                module.register_forward_hook(self._count)

    def _count(self, module: Any, given: Any, made: Any) -> None:
        self.done += module.weight.numel() * given[0].shape[:-1].numel()

    def of(self, what: Any) -> int:
        before = self.done
        what()
        return self.done - before


@pytest.mark.parametrize("questions", [asked(16, 4, 12), asked(1, 12, 50), asked(60, 1, 6)])
def test_a_plan_takes_less_than_a_tenth_of_what_it_tells_about(folder: Path, questions: list[Question]) -> None:
    model = start_classifier(folder)
    work = Work(model.backbone)
    fastpath._routes.clear()
    checked = work.of(lambda: Session(model, Asking()).explain({"t": questions[:0]}))
    told = work.of(lambda: Session(model, Asking()).explain({"t": questions}))
    scored = work.of(lambda: Session(model, Asking()).ask(questions))
    assert checked == 0
    assert 0 < told < scored / 10


def test_what_a_check_found_while_a_plan_was_told_is_kept_for_the_run(folder: Path, tmp_path: Path) -> None:
    questions = asked(20, 4, 12)
    with Store(tmp_path / "rewards.sqlite") as store:
        for ask in ("explain", "ask"):
            opened = classifier.open(str(folder), {}, None)
            with Session(opened, Asking(store, device="cpu")) as session:
                if ask == "explain":
                    (plan,) = session.explain({"t": questions})
                    assert "shared" in plan.ways
                else:
                    with patch.object(fastpath, "hidden_states", side_effect=AssertionError("checked again")):
                        session.ask(questions)


@pytest.mark.parametrize("changed", ["rmbench", "torch", "threads"])
def test_a_verdict_is_not_that_of_another_version_or_machine(folder: Path, tmp_path: Path, changed: str) -> None:
    import torch

    from rmbench.scoring import verdicts

    questions, own = asked(20, 4, 12), verdicts.version
    threads = 3 if changed == "threads" else torch.get_num_threads()
    with Store(tmp_path / "rewards.sqlite") as store:
        with Session(classifier.open(str(folder), {}, None), Asking(store, device="cpu")) as session:
            session.explain({"t": questions})
        other = Session(classifier.open(str(folder), {}, None), Asking(store, device="cpu"))
        with (
            patch.object(verdicts, "version", lambda name: "0.0" if name == changed else own(name)),
            patch.object(torch, "get_num_threads", lambda: threads),
            patch.object(fastpath, "hidden_states", wraps=fastpath.hidden_states) as runs,
            other as session,
        ):
            session.explain({"t": questions})
        assert runs.call_count > 0


def test_a_plan_tells_each_task_apart_and_what_two_share_is_of_the_first(capsys: Any) -> None:
    some, all_of_them = asked(3, 2, 5), asked(5, 2, 5)
    plan = explain.Explanation("m", rate=10.0, runs_forwards=True)
    (found,) = Session(load_model("length"), Asking()).explain({"some": some, "all": all_of_them})
    assert [(t.rows, t.requests, t.known, t.left) for t in found.tasks.values()] == [(6, 6, 0, 6), (10, 10, 6, 4)]
    assert (found.requests, found.stored, found.left) == (16, 0, 10)
    plan.add("long", explain.TaskPlan(5, 10, 2, 8, tokens=12_000, cost=90_000.0), 2)
    plan.add("done", explain.TaskPlan(5, 10, 10, 0), 10)
    print_plans([plan, found], as_json=False)
    lines = [line.split() for line in capsys.readouterr().out.splitlines()]
    assert ["long", "5", "10", "2", "8", "12,000", "2.5", "h"] in lines
    assert ["done", "5", "10", "10", "0", "0", "0.0", "s"] in lines
    assert ["all", "10", "20", "12", "8", "12,000", "2.5", "h"] in lines
    assert ["some", "6", "6", "0", "6", "-", "-"] in lines


def test_a_plan_shows_the_first_request_where_the_model_can() -> None:
    told = explain.Explanation("m")
    model = SimpleNamespace(shown=lambda request: SimpleNamespace(lines=lambda: [f"asked {request}"]))
    window = [SimpleNamespace(request="first", item=SimpleNamespace(error="none"))]
    with (
        patch.object(explain, "windows", lambda *_: iter([window])),
        patch.object(explain, "budget_of", lambda *_: SimpleNamespace(pace=None, limit=1)),
    ):
        explain.explain_forwards(model, {"t": []}, None, told)  # type: ignore[arg-type]
    assert told.first == ("asked first",)
