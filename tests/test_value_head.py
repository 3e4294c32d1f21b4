"""Value heads beside causal language models, as LLaMA-Factory and TRL save them."""

from __future__ import annotations

from pathlib import Path

import causal
import pytest
import torch
from ask_models import score
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM

from rmbench.errors import ModelError, UsageError
from rmbench.models import classifier, value_head
from rmbench.models.spec import open_model
from rmbench.types import Message, Request, Response

ASKED = [Request("reward", (Message("user", "Hi"),), (Response(text),)) for text in ("Yes, so it is.", "No.")]


def saved(folder: Path, layout: str, name: str, width: int = 64) -> Path:
    """A causal model whose head lies in a file beside the weights, or among them."""
    causal.make(folder)
    head = {f"{name}.weight": torch.linspace(-1, 1, width)[None], f"{name}.bias": torch.full((1,), 0.5)}
    weights = {} if layout == "beside" else load_file(folder / "model.safetensors")
    file = folder / ("value_head.safetensors" if layout == "beside" else "model.safetensors")
    save_file({**weights, **head}, file, metadata={"format": "pt"})
    return folder


@pytest.mark.parametrize(
    ("layout", "name"), [("beside", "v_head.summary"), ("among", "v_head.summary"), ("among", "value_head")]
)
def test_a_value_head_reads_the_last_state_behind_the_last_norm(tmp_path: Path, layout: str, name: str) -> None:
    folder = saved(tmp_path / "rm", layout, name)
    opened = open_model(str(folder))
    assert opened.subject.family == "value_head"
    own = AutoModelForCausalLM.from_pretrained(folder)
    with opened.started("cpu") as model, torch.inference_mode():
        ids = [torch.tensor([list(one.ids)]) for one in model.encode(ASKED)]
        states = [own(one, output_hidden_states=True).hidden_states[-1][0, -1] for one in ids]
        expected = [float(state @ torch.linspace(-1, 1, 64)) + 0.5 for state in states]
        assert [reward.value for reward in score(model, ASKED)] == pytest.approx(expected, abs=1e-4)
        assert next(model.rule.head.parameters()).dtype == torch.float32


def test_what_is_no_value_head_is_said(tmp_path: Path) -> None:
    wide = saved(tmp_path / "wide", "beside", "v_head.summary", width=32)
    with pytest.raises(ModelError, match=r"v_head.summary.weight has the shape \[1, 32\]; expected \[1, 64\]"):
        value_head.open(str(wide), {}).start("cpu")
    none = causal.make(tmp_path / "none")
    (none / "value_head.bin").write_bytes(b"pickled")
    with pytest.raises(ModelError, match=r"no value_head.safetensors, .*value_head.bin is not read"):
        value_head.open(str(none), {})
    with pytest.raises(UsageError, match=r"write FAMILY:.*; value_head.bin is not read, because"):
        open_model(str(none))
    with pytest.raises(UsageError, match="value_head has no option 'pooling'"):
        value_head.open(str(none), {"pooling": "hf"})
    with pytest.raises(ModelError, match="a LlamaForCausalLM with a value head: write value_head:"):
        classifier.open(str(wide), {})


@pytest.mark.parametrize("name", ["score", "reward_head", "v_head.0", "transformer.regression"])
def test_a_head_that_no_family_reads_is_named_with_its_shape(tmp_path: Path, name: str) -> None:
    folder = saved(tmp_path / "rm", "among", name)
    named = rf"among its weights {name}.bias \[1\], {name}.weight \[1, 64\], which no family reads"
    with pytest.raises(UsageError, match=rf"LlamaForCausalLM in its config.*; {named}"):
        open_model(str(folder))
    with pytest.raises(ModelError, match=f"a LlamaForCausalLM, which has no reward head; .*; {named}"):
        classifier.open(str(folder), {})
