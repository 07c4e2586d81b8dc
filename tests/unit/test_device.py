import pytest
import torch

from mentallam.device import compute_device, on_gpu


@pytest.mark.parametrize(("cuda", "kind"), [(True, "cuda"), (False, "cpu")])
def test_cuda_or_the_cpu_and_nothing_else(monkeypatch: pytest.MonkeyPatch, cuda: bool, kind: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: cuda)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: True)
    assert compute_device().type == kind
    assert on_gpu() == cuda
