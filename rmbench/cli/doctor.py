"""`rmbench doctor`: is this machine ready?"""

from __future__ import annotations

import shutil

import click

from rmbench.cli import EXIT_FAILED, debug_option


@click.command()
@debug_option
def command() -> int:
    """Check versions, devices, the cache folder and what is optional; exit 1 where something is broken."""
    problems = [*_versions(), *_devices(), *_cache(), *_extras()]
    click.echo("\nready" if not problems else f"\nnot ready: {'; '.join(problems)}")
    return EXIT_FAILED if problems else 0


def _versions() -> list[str]:
    from rmbench.results.provenance import environment

    for name, version in environment().items():
        _line(name, version)
    return []


def _devices() -> list[str]:
    try:
        import torch
    except ImportError as error:
        return [f"torch cannot be imported ({error})"]
    from rmbench.device import devices

    _line("threads", str(torch.get_num_threads()))
    for name, device in devices().items():
        if name != "cpu":
            _line(name, device.described())
    if list(devices()) == ["cpu"]:
        _line("devices", "cpu only")
    return []


def _cache() -> list[str]:
    from rmbench.cache import cache_folder
    from rmbench.errors import ResultError
    from rmbench.scoring import Store

    folder = cache_folder()
    try:
        with Store(folder / "rewards.sqlite") as store:
            _line("store", f"{store.count():,} rewards in {folder}")
    except ResultError as error:
        _line("store", "broken")
        return [str(error)]
    free = shutil.disk_usage(folder).free / 2**30
    _line("free disk", f"{free:,.1f} GiB")
    return [f"under 0.1 GiB free in {folder}"] if free < 0.1 else []


def _extras() -> list[str]:
    from importlib.util import find_spec

    for package, use in (("peft", "LoRA and other adapters"), ("accelerate", "models larger than one GPU")):
        _line(package, "installed" if find_spec(package) else f"not installed ({use})")
    return []


def _line(name: str, value: str) -> None:
    click.echo(f"{name:>14}  {value}")
