"""Changes a checkpoint file by file and field by field, and shows fingerprint and reward before and after.

    python benchmarks/fingerprints.py [--layout sharded]

A reward that moved under an old fingerprint would be served from the store for another model: none may.
"""

from __future__ import annotations

import argparse
import json
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from checkpoints import make

TEXTS = ("What is 37 + 58?", "</s> It is 95, because 30 + 50 = 80.\n\nSTEP 2: 7 + 8 = 15.")
Change = Callable[[Path], None]


@dataclass(frozen=True)
class Row:
    """A change and what came of it: a reward, or the line that refused it."""

    layout: str
    change: str
    kept: bool
    before: tuple[float, ...]
    after: tuple[float, ...] | str

    @property
    def moved(self) -> bool:
        return isinstance(self.after, tuple) and any(
            abs(a - b) > 1e-6 for a, b in zip(self.before, self.after, strict=True)
        )


# Where the weights of a model may lie


def single(folder: Path) -> Path:
    make(folder, "llama")
    return folder


def sharded(folder: Path) -> Path:
    return _in_shards(make(folder, "llama"), "{}")


def in_subfolder(folder: Path) -> Path:
    return _in_shards(make(folder, "llama"), "shards/{}")


def outside(folder: Path) -> Path:
    return _in_shards(make(folder, "llama"), "../beside/{}")


def under_another_name(folder: Path) -> Path:
    make(folder, "llama")
    (folder / "model.safetensors").rename(folder / "mine.safetensors")
    edit(folder / "config.json", transformers_weights="mine.safetensors")
    return folder


def adapted(folder: Path) -> Path:
    """An adapter on a base that lies beside it, with a tokenizer of its own."""
    _adapter(make(folder / "base", "llama"), folder / "adapter")
    for name in ("tokenizer.json", "tokenizer_config.json", "chat_template.jinja"):
        shutil.copy(folder / "base" / name, folder / "adapter" / name)
    return folder / "adapter"


def adapter_inside(folder: Path) -> Path:
    """A whole model with an adapter in its own folder."""
    make(folder, "llama")
    _adapter(folder, folder)
    return folder


def value_head_beside(folder: Path) -> Path:
    """A causal language model with its head in a file beside it, as LLaMA-Factory saves it."""
    import torch
    from safetensors.torch import save_file
    from transformers import AutoConfig, AutoModelForCausalLM

    make(folder, "llama")
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder)).save_pretrained(folder)
    head = {"v_head.summary.weight": torch.full((1, 64), 0.1), "v_head.summary.bias": torch.zeros(1)}
    save_file(head, folder / "value_head.safetensors")
    return folder


LAYOUTS: Mapping[str, Callable[[Path], Path]] = {
    one.__name__: one
    for one in (
        single,
        sharded,
        in_subfolder,
        outside,
        under_another_name,
        adapted,
        adapter_inside,
        value_head_beside,
    )
}


def _in_shards(folder: Path, place: str) -> Path:
    from safetensors.torch import load_file, save_file

    weights = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    names = sorted(weights)
    shards = {place.format("one.safetensors"): names[::2], place.format("two.safetensors"): names[1::2]}
    for file, held in shards.items():
        (folder / file).parent.mkdir(exist_ok=True)
        save_file({name: weights[name] for name in held}, folder / file, metadata={"format": "pt"})
    index = {"metadata": {}, "weight_map": {name: file for file, held in shards.items() for name in held}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))
    return folder


def _adapter(base: Path, folder: Path) -> None:
    import peft
    import torch
    from transformers import AutoModelForSequenceClassification

    own = AutoModelForSequenceClassification.from_pretrained(base)
    config = peft.LoraConfig(r=4, target_modules=["q_proj", "v_proj"], task_type="SEQ_CLS", modules_to_save=["score"])
    model = peft.get_peft_model(own, config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        for name, weight in model.named_parameters():
            if "lora_B" in name or "modules_to_save" in name:
                torch.nn.init.normal_(weight, 0, 0.2)
    model.save_pretrained(folder)
    edit(folder / "adapter_config.json", base_model_name_or_path=base.name)


# What may be changed of it


def edit(file: Path, **fields: Any) -> None:
    file.write_text(json.dumps({**json.loads(file.read_text()), **fields}))


def changes(folder: Path) -> Iterator[tuple[str, Change]]:
    """Every file and every field of a checkpoint that is there, each changed in one way that it can take."""
    home = folder.parent
    for file in sorted(path for path in home.rglob("*") if path.is_file()):
        name = str(file.relative_to(home))
        if file.suffix == ".safetensors":
            yield f"{name}: a tensor", _on(file, _tensor)
        elif file.suffix == ".jinja":
            yield f"{name}: a word", _on(file, lambda path: path.write_text("Well. " + path.read_text()))
        elif file.name.endswith(".index.json"):
            yield f"{name}: another shard", _on(file, _another_shard)
        elif file.suffix == ".json":
            content = json.loads(file.read_text())
            for field, value in content.items():
                if (other := _other(field, value)) is not None:
                    yield f"{name}: {field}", _on(file, _edited(field, other))
    for name, fields in _ADDED.items():
        for field, value in fields.items():
            if (folder / name).exists():
                yield f"{folder.name}/{name}: + {field}", _on(folder / name, _edited(field, value))


def _edited(field: str, value: Any) -> Change:
    return lambda file: edit(file, **{field: value})


# Fields that are not there and that move what is read where they are
_ADDED: Mapping[str, Mapping[str, Any]] = {
    "tokenizer_config.json": {
        "split_special_tokens": True,
        "model_input_names": ["input_ids", "token_type_ids", "attention_mask"],
        "add_bos_token": False,
        "add_prefix_space": True,
        "do_lower_case": True,
        "chat_template": "{{ messages[-1].content }}",
        "truncation_side": "left",
    },
    "config.json": {"transformers_weights": "other.safetensors", "quantization_config": None, "head_dim": 8},
    "adapter_config.json": {"rank_pattern": {"q_proj": 2}, "alpha_pattern": {"q_proj": 1}, "use_rslora": True},
}


def _on(file: Path, change: Callable[[Path], Any]) -> Change:
    place = file.parts[-3:]

    def made(home: Path) -> None:
        target = next(path for path in home.rglob(file.name) if path.parts[-len(place) :][-2] == place[-2])
        change(target)

    return made


def _tensor(file: Path) -> None:
    from safetensors.torch import load_file, save_file

    weights = load_file(file)
    name = next((name for name in sorted(weights) if "norm" in name or "lora_B" in name), sorted(weights)[0])
    weights[name] = weights[name] * 1.5 + 0.1
    save_file(weights, file, metadata={"format": "pt"})


def _another_shard(file: Path) -> None:
    """The same names in a copy of a shard whose tensors are others."""
    index = json.loads(file.read_text())
    first = min(index["weight_map"].values())
    copy = first.replace("one", "three")
    shutil.copy(file.parent / first, file.parent / copy)
    _tensor(file.parent / copy)
    index["weight_map"] = {name: copy if shard == first else shard for name, shard in index["weight_map"].items()}
    file.write_text(json.dumps(index))


def _other(field: str, value: Any) -> Any:
    """Another value of the same type; None where a field has none that loads."""
    match value:
        case bool():
            return not value
        case int():
            return value + 1
        case float():
            return value * 2 + 0.1
        case [*first, _]:
            return first
        case {"rope_theta": _}:
            return {**value, "rope_theta": 100.0}
    named = {"hidden_act": "relu", "dtype": "bfloat16", "eos_token": "<pad>", "bos_token": "<unk>"}
    return {"type": "Lowercase"} if field == "normalizer" else named.get(field)


# What comes of it


def rows(layouts: Mapping[str, Callable[[Path], Path]], only: Callable[[str], bool] = lambda _: True) -> Iterator[Row]:
    """One row a change; each is made on a fresh copy of the checkpoint."""
    for layout, lay in layouts.items():
        with tempfile.TemporaryDirectory() as home:
            folder = lay(Path(home, "plain", "rm"))
            mark, before = judged(folder)
            relative = folder.relative_to(Path(home, "plain"))
            for name, change in list(changes(folder)):
                if not only(name):
                    continue
                copy = Path(shutil.copytree(Path(home, "plain"), Path(home, "changed")))
                change(copy)
                changed_mark, after = judged(copy / relative)
                yield Row(layout, name, changed_mark == mark, before, after)
                shutil.rmtree(copy)


def judged(folder: Path) -> tuple[str | None, Any]:
    """The fingerprint of a checkpoint, and its rewards of two texts or the line that refuses it."""
    from rmbench.errors import RmbenchError
    from rmbench.models.spec import open_model
    from rmbench.types import Message, Request, Response

    mark = None
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            opened: Any = open_model(str(folder))
            mark = opened.fingerprint
            with opened.started("cpu") as model:
                asked = [Request("reward", (Message("user", "Hi"),), (Response(text),)) for text in TEXTS]
                return mark, tuple(_alone(model, one) for one in asked)
        except RmbenchError as error:
            return mark, str(error).splitlines()[0]


def _alone(model: Any, request: Any) -> float:
    import torch

    (encoded,) = model.encode([request])
    if encoded.error:
        return float("nan")
    types = {} if encoded.type_ids is None else {"token_type_ids": torch.tensor([encoded.type_ids])}
    try:
        with torch.inference_mode():
            states = model.backbone(input_ids=torch.tensor([list(encoded.ids)]), **types).last_hidden_state[0]
    except TypeError:  # types that the architecture does not take
        return float("nan")
    return float(model.read([states[list(encoded.reads)]], [encoded])[0].value)


def main() -> None:
    """Prints the table; exits with 1 where a reward moved under an old fingerprint."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--layout", choices=LAYOUTS, action="append")
    given = parser.parse_args()
    wrong = 0
    print("| layout | change | fingerprint | rewards before | after |\n|---|---|---|---|---|")
    for row in rows({name: LAYOUTS[name] for name in given.layout or LAYOUTS}):
        wrong += row.kept and row.moved
        after = row.after if isinstance(row.after, str) else " ".join(f"{value:.5f}" for value in row.after)
        before = " ".join(f"{value:.5f}" for value in row.before)
        print(f"| {row.layout} | {row.change} | {'OLD' if row.kept else 'new'} | {before} | {after[:100]} |")
    print(f"\n{wrong} rewards moved under an old fingerprint")
    sys.exit(bool(wrong))


if __name__ == "__main__":
    main()
