"""The GPU image has the CUDA that the pinned onnxruntime-gpu is built for."""

from __future__ import annotations

import re
from importlib import metadata

import pytest

from models.pinned import CUDA_MAJOR, CUDNN_MAJOR, LIBRARIES, ONNXRUNTIME_GPU
from tests.docs.pages import ROOT

DOCKERFILE = (ROOT / "docker" / "Dockerfile.gpu").read_text(encoding="utf-8")
PINNED = (ROOT / "requirements" / "gpu.txt").read_text(encoding="utf-8")


def test_the_image_begins_with_that_cuda_and_cudnn() -> None:
    (base,) = re.findall(r"^FROM (\S+)", DOCKERFILE, re.MULTILINE)
    assert re.fullmatch(rf"nvidia/cuda:{CUDA_MAJOR}\.\d+\.\d+-cudnn-runtime-ubuntu24\.04", base)
    assert LIBRARIES[0] == f"libcudart.so.{CUDA_MAJOR}"


@pytest.mark.parametrize("name", ["docker/Dockerfile.gpu", "docs/deploy.md"])
def test_what_is_said_of_the_image_is_so(name: str) -> None:
    text = (ROOT / name).read_text(encoding="utf-8")
    assert set(re.findall(r"CUDA (\d+)", text)) == {str(CUDA_MAJOR)}
    assert set(re.findall(r"cuDNN (\d+)", text)) == {str(CUDNN_MAJOR)}


def test_another_onnxruntime_is_not_pinned_without_a_look_at_its_cuda() -> None:
    (version,) = re.findall(r"^onnxruntime-gpu==(\S+)", PINNED, re.MULTILINE)
    assert version.startswith(f"{ONNXRUNTIME_GPU}."), (
        f"onnxruntime-gpu {version} is pinned: see which CUDA and cuDNN its metadata asks for (extras `cuda` and "
        "`cudnn`), and put that in models/pinned.py and docker/Dockerfile.gpu"
    )


def test_an_onnxruntime_gpu_that_is_installed_asks_for_that_cuda() -> None:
    try:
        wheel = metadata.distribution("onnxruntime-gpu")
    except metadata.PackageNotFoundError:
        pytest.skip("onnxruntime-gpu is not installed")
    if not wheel.version.startswith(f"{ONNXRUNTIME_GPU}."):
        pytest.skip(f"onnxruntime-gpu {wheel.version} is not the pinned one")
    wanted = " ".join(wheel.requires or [])
    assert f"nvidia-cuda-runtime~={CUDA_MAJOR}." in wanted
    assert f"nvidia-cudnn-cu{CUDA_MAJOR}~={CUDNN_MAJOR}." in wanted
