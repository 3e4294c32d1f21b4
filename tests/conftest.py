"""Every test has its own cache folder, no network and no terminal."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

os.environ["HF_HUB_OFFLINE"] = "1"


@pytest.fixture(autouse=True)
def _own_cache(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RMBENCH_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.setenv("COLUMNS", "120")  # whatever terminal tests are started from


@pytest.fixture
def one_thread() -> Iterator[None]:
    """Torch on one thread: many forwards of tiny models wait for each other's threads longer than they run."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture
def rmbench_data() -> Path:
    """The folder of real data by others; tests that want it are skipped without it."""
    folder = os.environ.get("RMBENCH_DATA")
    if not folder:
        pytest.skip("RMBENCH_DATA is not set")
    return Path(folder)
