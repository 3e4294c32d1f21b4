"""A tiny checkpoint of every family that reads one, and what each is asked: what `test_conformance` holds them to.

A family that a package registers, and that needs no source, is held to what any model has to keep.
"""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import causal
import pair_models
import torch
from checkpoints import make
from gated_checkpoints import armorm
from safetensors.torch import load_file, save_file

from rmbench.checkpoints.opened import OPTIONS as CHECKPOINT_OPTIONS
from rmbench.plugins import MODELS, PluginGroup, load, names
from rmbench.types import Ask, Message, Request, Response

# What reads files or code of the user's, and has tests of its own
OF_THE_USER = frozenset({"python", "scores"})
WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class Case:
    """One family on a tiny checkpoint: `written` makes it from a seed, and `auto` is the class of its weights.

    That is empty where none of transformers has its weights by their names.
    `options` stand behind the `source`, `{folder}` in both being the folder itself. `packed` is whether the fast path
    takes it.
    """

    family: str
    written: Callable[[Path, int], Path]
    auto: str
    ask: Ask = "reward"
    options: Mapping[str, Any] = field(default_factory=dict)
    packed: bool = True
    name: str = ""
    source: str = "{folder}"

    def __str__(self) -> str:
        return self.name or self.family

    def spec(self, folder: Path, **options: Any) -> str:
        """The model in a folder, as on the command line."""
        given = {**self.options, **options}
        words = "&".join(f"{name}={str(value).format(folder=folder)}" for name, value in given.items())
        return f"{self.family}:{self.source.format(folder=folder)}" + (f"?{words}" if words else "")


def classifier(architecture: str) -> Callable[[Path, int], Path]:
    return lambda folder, seed: make(folder, architecture, seed=seed)


def language_model(folder: Path, seed: int) -> Path:
    """A causal language model whose weights are of a seed."""
    if not (folder / WEIGHTS).exists():
        causal.make(folder)
    if seed:
        changed(folder, lambda name, weight: weight + 0.02 * drawn(name, weight, seed))
    return folder


def value_head(folder: Path, seed: int) -> Path:
    language_model(folder, seed)
    head = {"v_head.summary.weight": torch.linspace(-1, 1, 64)[None].roll(seed), "v_head.summary.bias": torch.ones(1)}
    save_file(head, folder / "value_head.safetensors", metadata={"format": "pt"})
    return folder


def gated(folder: Path, seed: int) -> Path:
    """As ArmoRM, its head and gate in a file beside the weights."""
    if not (folder / WEIGHTS).exists():
        armorm(folder)
        weights = load_file(folder / WEIGHTS)
        beside = {name: weights.pop(name) for name in list(weights) if not name.startswith("model.")}
        save_file(beside, folder / "value_head.safetensors", metadata={"format": "pt"})
        save_file(weights, folder / WEIGHTS, metadata={"format": "pt"})
    if seed:
        for file in (WEIGHTS, "value_head.safetensors"):
            changed(folder, lambda name, weight: weight + 0.02 * drawn(name, weight, seed), file)
    return folder


def token_classifier(folder: Path, seed: int) -> Path:
    """A token classifier with two labels, as TRL's PRMTrainer makes it."""
    import transformers

    language_model(folder, 0)
    config = transformers.AutoConfig.from_pretrained(folder, num_labels=2)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        transformers.AutoModelForTokenClassification.from_config(config).save_pretrained(folder)
    return folder


def with_reference(folder: Path, seed: int) -> Path:
    """A policy, and in it the model that it was trained from."""
    language_model(folder, 0)
    if not (folder / "reference").exists():
        copied(folder, folder.with_name(f"{folder.name} reference")).rename(folder / "reference")
        changed(folder, lambda name, weight: weight + 0.02 * drawn(name, weight, 7))
    return language_model(folder, seed)


def comparing(folder: Path, seed: int) -> Path:
    """A language model that answers which of two is better, and the template that asks it."""
    (language_model(folder, seed) / "compare.jinja").write_text(
        "{{ messages[-1].content }}\nA: {{ responses[0] }}\nB: {{ responses[1] }}\nBetter:"
    )
    return folder


def of_pairs(make: Callable[[Path], Path]) -> Callable[[Path, int], Path]:
    """A pairwise model whose weights are of a seed."""

    def written(folder: Path, seed: int) -> Path:
        make(folder)
        if seed:
            changed(folder, lambda name, weight: weight + 0.02 * drawn(name, weight, seed))
        return folder

    return written


def changed(folder: Path, change: Callable[[str, torch.Tensor], torch.Tensor], file: str = WEIGHTS) -> None:
    """Writes the weights of a folder anew, each as `change` makes it of its name and what it was."""
    weights = {name: change(name, weight) for name, weight in load_file(folder / file).items()}
    save_file({name: weight.contiguous() for name, weight in weights.items()}, folder / file,
              metadata={"format": "pt"})  # fmt: skip


def drawn(name: str, weight: torch.Tensor, seed: int) -> torch.Tensor:
    """Random numbers like a weight, its own at every seed."""
    made = torch.Generator().manual_seed(seed * 1009 + sum(name.encode()))
    return torch.randn(weight.shape, generator=made)


def copied(folder: Path, target: Path) -> Path:
    return Path(shutil.copytree(folder, target))


CASES = (
    Case("classifier", classifier("llama"), "AutoModelForSequenceClassification"),
    Case("classifier", classifier("bert"), "AutoModelForSequenceClassification", name="classifier, an encoder"),
    Case("value_head", value_head, "AutoModelForCausalLM"),
    Case("value_head", gated, "AutoModel", options={"entry": "armorm", "bos": "one"}, name="value_head, gated"),
    Case("process", token_classifier, "AutoModelForTokenClassification", "steps"),
    Case("process", language_model, "AutoModelForCausalLM", "steps",
         {"good": "1", "bad": "0", "step_tag": ";"}, name="process, two tokens"),
    Case("likelihood", language_model, "AutoModelForCausalLM", "likelihood"),
    Case("dpo", with_reference, "AutoModelForCausalLM", options={"reference": "{folder}/reference"}),
    Case("yesno", language_model, "AutoModelForCausalLM", options={"yes": "1", "no": "0"}),
    Case("pairwise", comparing, "AutoModelForCausalLM", "compare", {"template": "{folder}/compare.jinja"}),
    Case("pairwise", of_pairs(pair_models.pairrm), "", "compare", packed=False, name="pairwise, pieces"),
    Case("pairwise", of_pairs(pair_models.gpm), "", "compare", name="pairwise, embeddings"),
    Case("ensemble", value_head, "", options={"how": "and"}, source="{folder},length"),
    Case("transform", value_head, "", options={"how": "sigmoid"}),
)  # fmt: skip
READY = tuple(case for case in CASES if case.family in names(MODELS))


def of_checkpoints() -> list[str]:
    """The families that are installed and read checkpoints."""
    every = ((name, family(name)) for name in names(MODELS))
    return [name for name, one in every if one is not None and CHECKPOINT_OPTIONS.keys() <= one.OPTIONS.keys()]


def without_source(group: PluginGroup = MODELS) -> list[str]:
    """The families whose name is a model, and those that cannot be asked: each test says by its name which it is."""
    every = ((name, family(name, group)) for name in names(group))
    return [name for name, one in every if one is None or getattr(one, "SOURCE", "required") == "none"]


def family(name: str, group: PluginGroup = MODELS) -> Any:
    """The family of that name, None where it cannot be loaded."""
    try:
        return load(group, name)
    except Exception:  # a package may raise anything when it is imported
        return None


PROMPTS = ("Why is the sky blue?", "What is 37 + 58? Answer in one word, please.")
ANSWERS = ("Because of the air.\n\nIt scatters light.", "95", "Two hours are 120 minutes.\n\nSo 165, I am sorry.")
ODD = (
    "", " ", "\n\n", "nan", "inf -inf NaN 1e999", "🙂🙃" * 20, "👩‍👩‍👧‍👦 e\u0301", "שלום עולם, مرحبا \u202eabc\u202c",
    "\x00\x07\ufeff\ufffd", "</s><s><pad><|user|>\n[CLS][SEP]", "{{ 1 / 0 }}{% endfor %}",
    "\ud7ff\uffff" + chr(0x10FFFF),
)  # fmt: skip


def asked(ask: Ask, texts: Sequence[str] = ANSWERS, prompts: Sequence[str] = PROMPTS) -> list[Request]:
    """Each text as an answer to each prompt, in the form that a family is asked."""
    return [request(ask, prompt, text) for prompt in prompts for text in texts]


def request(ask: Ask, prompt: str, text: str) -> Request:
    steps = tuple(text.split("\n\n")) if ask == "steps" else None
    shown = [Response(text, steps)]
    if ask == "compare":
        shown.append(Response("No, it is not."))
    return Request(ask, (Message("user", prompt),), tuple(shown))
