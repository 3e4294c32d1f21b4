"""Data sets of the `datasets` library, in memory or as `save_to_disk` left them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from rmbench.errors import DataError

SPLITS = "dataset_dict.json"


def is_saved(folder: Path) -> bool:
    """Whether a folder is what `Dataset.save_to_disk` writes."""
    return (folder / "state.json").is_file() and (folder / "dataset_info.json").is_file()


def read_saved(folder: Path) -> Iterator[tuple[int, Any]]:
    """Number and value of each row that `save_to_disk` wrote. Raises DataError."""
    import datasets

    try:
        loaded = datasets.load_from_disk(str(folder))
        yield from enumerate(with_images_as_bytes(loaded), 1)
    except Exception as error:  # pyarrow, json and datasets each raise their own
        cause = str(error).partition("\n")[0]
        raise DataError(f"{folder.name}: not a readable saved data set: {type(error).__name__}: {cause}") from error


def with_images_as_bytes(dataset: Any) -> Any:
    """The same data set: an image as a decoded object has neither a hash nor its bytes."""
    return dataset.cast(_undecoded(dataset.features)) if _has_images(dataset.features) else dataset


def _has_images(feature: Any) -> bool:
    import datasets

    if isinstance(feature, datasets.Image):
        return True
    if isinstance(feature, dict):
        return any(map(_has_images, feature.values()))
    inner = feature[0] if isinstance(feature, list) else getattr(feature, "feature", None)
    return inner is not None and _has_images(inner)


def _undecoded(feature: Any) -> Any:
    """The same features with every image as its bytes."""
    import datasets

    if isinstance(feature, datasets.Image):
        return datasets.Image(decode=False)
    if isinstance(feature, dict):
        return type(feature)({name: _undecoded(inner) for name, inner in feature.items()})
    if isinstance(feature, list):
        return [_undecoded(feature[0])]
    if getattr(feature, "feature", None) is not None:
        return type(feature)(_undecoded(feature.feature), length=feature.length)
    return feature
