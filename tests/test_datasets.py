"""Behaviour of `papers.datasets`: the drawn glyphs, the handwritten digits, and the real image datasets where they are."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from papers import datasets

SHARED = Path(__file__).resolve().parent.parent.parent / "shared" / "data"


@pytest.fixture(scope="session")
def real_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of real datasets: the one the environment names, or one laid out from the data beside the checkout."""
    if os.environ.get(datasets.DATA_VARIABLE):
        folder = datasets.data_folder()
        assert folder is not None
        return folder
    if not (SHARED / "unpack.py").exists():
        pytest.skip(f"no real data: {datasets.DATA_VARIABLE} is not set and there is no {SHARED}")
    folder = tmp_path_factory.mktemp("data")
    subprocess.run([sys.executable, str(SHARED / "unpack.py"), str(folder)], check=True, capture_output=True)
    return folder


def test_glyphs_are_64_by_64_colour_images_of_at_least_twenty_classes() -> None:
    images, labels = datasets.drawn_glyphs(300, seed=3)
    assert images.shape == (300, 64, 64, 3) and images.dtype == np.uint8
    assert labels.shape == (300,) and labels.dtype == np.int64
    assert len(datasets.GLYPHS) >= 20 and set(labels) == set(range(len(datasets.GLYPHS)))
    assert all(len(np.unique(image.reshape(-1, 3), axis=0)) >= 2 for image in images), "an image without a glyph"


def test_the_same_seed_gives_the_same_bytes_on_every_machine() -> None:
    images, labels = datasets.drawn_glyphs(48, seed=0)
    digest = hashlib.sha256(images.tobytes() + labels.astype("<i8").tobytes()).hexdigest()
    assert digest == "85c94d77cc6c7d3ad87f1c4e0832863b5e80f3ad51cfeb2cbed0e131f8d6c284"


def test_a_smaller_set_is_the_beginning_of_a_larger_one_and_other_seeds_draw_others() -> None:
    small, large, other = (datasets.drawn_glyphs(n, seed)[0] for n, seed in ((10, 5), (25, 5), (10, 6)))
    assert np.array_equal(small, large[:10])
    assert not np.array_equal(small, other)


def test_classes_and_size_are_the_callers_choice() -> None:
    images, labels = datasets.drawn_glyphs(40, size=32, classes=["heart", "star"])
    assert images.shape == (40, 32, 32, 3) and set(labels) == {0, 1}
    still, labels = datasets.drawn_glyphs(40, classes=["disc"], pose=0)
    shapes = {(image != image[0, 0]).any(-1).tobytes() for image in still}
    assert len(shapes) == 1, "without pose, a glyph always covers the same pixels"


def test_an_unknown_glyph_is_refused_by_name() -> None:
    with pytest.raises(ValueError, match="no glyph is named unicorn"):
        datasets.drawn_glyphs(1, classes=["star", "unicorn"])


def test_glyphs_take_seconds_by_the_thousand() -> None:
    import time

    started = time.process_time()
    datasets.drawn_glyphs(1000)
    assert time.process_time() - started < 5


def test_handwritten_digits_span_the_byte() -> None:
    images, labels = datasets.handwritten_digits()
    assert images.shape == (1797, 8, 8) and images.dtype == np.uint8
    assert images.min() == 0 and images.max() == 255 and set(labels) == set(range(10))


def test_array_images_hand_pil_images_to_their_transform() -> None:
    images, labels = datasets.drawn_glyphs(3)
    image, label = datasets.ArrayImages(images, labels, transform=lambda image: (image.mode, image.size))[1]
    assert image == ("RGB", (64, 64)) and label == labels[1]
    assert datasets.ArrayImages(*datasets.handwritten_digits())[0][0].mode == "L"
    with pytest.raises(ValueError, match="3 images and 2 labels"):
        datasets.ArrayImages(images, labels[:2])


def test_the_data_folder_is_the_given_one_else_the_environments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(datasets.DATA_VARIABLE, raising=False)
    assert datasets.data_folder("") is None
    monkeypatch.setenv(datasets.DATA_VARIABLE, str(tmp_path))
    assert datasets.data_folder("") == tmp_path
    (tmp_path / "other").mkdir()
    assert datasets.data_folder(tmp_path / "other") == tmp_path / "other"
    monkeypatch.setenv(datasets.DATA_VARIABLE, str(tmp_path / "gone"))
    with pytest.raises(FileNotFoundError, match=datasets.DATA_VARIABLE):
        datasets.data_folder("")


@pytest.mark.parametrize("name", datasets.REAL_IMAGES)
def test_a_dataset_that_is_not_there_says_what_to_do(name: str, tmp_path: Path) -> None:
    with pytest.raises(datasets.DatasetUnavailable, match=r"download=True|img_align_celeba\.zip"):
        datasets.real_images(name, tmp_path)
    with pytest.raises(datasets.DatasetUnavailable, match="DATA_DIR"):
        datasets.real_images(name, None)


def test_a_host_that_refuses_celeba_is_no_traceback_but_advice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from torchvision.datasets import CelebA

    def refuse(self: CelebA) -> None:
        raise RuntimeError("The daily quota of the file img_align_celeba.zip is exceeded")

    monkeypatch.setattr(CelebA, "download", refuse)
    with pytest.raises(datasets.DatasetUnavailable, match=r"quota.*img_align_celeba\.zip.*folder of your own images"):
        datasets.real_images("celeba", tmp_path, download=True)


def test_an_unknown_dataset_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no dataset is named 'imagenet'"):
        datasets.real_images("imagenet", tmp_path)


@pytest.mark.parametrize(
    ("name", "train", "count", "mode", "size"),
    [
        ("mnist", True, 60_000, "L", (28, 28)),
        ("mnist", False, 10_000, "L", (28, 28)),
        ("fashion_mnist", True, 60_000, "L", (28, 28)),
        ("cifar10", True, 50_000, "RGB", (32, 32)),
        ("cifar10", False, 10_000, "RGB", (32, 32)),
    ],
)
def test_the_real_datasets_open_without_a_download(
    name: str, train: bool, count: int, mode: str, size: tuple[int, int], real_data: Path
) -> None:
    dataset = datasets.real_images(name, real_data, train=train)
    image, label = dataset[count - 1]
    assert len(dataset) == count and image.mode == mode and image.size == size and label in range(10)  # type: ignore[arg-type]
