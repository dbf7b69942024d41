"""Pruned ResNets have shortcuts of few channels, whose gradients oneDNN gets wrong channels last.

With its AVX2 code, which this test asks for, the process died of a broken heap after some of these steps.
"""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

_TRAINED = """
import torch
from torch import nn
from coppice_api.prunejob import FineTune
from coppice_pruner.data import digits
from coppice_pruner.training import fine_tune

torch.manual_seed(0)
torch.set_num_threads(1)
model = nn.Sequential(nn.Conv2d(1, 4, 3, padding=1), nn.ReLU(), nn.Conv2d(4, 16, 1, stride=2), nn.ReLU(),
                      nn.Flatten(), nn.Linear(256, 10))
with torch.backends.mkldnn.flags(enabled={mkldnn}):
    fine_tune(model, digits(), FineTune(epochs=4, learning_rate="0.001", batch_size=64), seed=0)
    print(sum(float(item.detach().double().abs().sum()) for item in model.parameters()))
"""


def test_a_narrow_shortcut_is_fine_tuned_to_the_weights_that_torchs_own_convolution_gives() -> None:
    sums = []
    for mkldnn in (True, False):
        done = subprocess.run(
            [sys.executable, "-c", _TRAINED.format(mkldnn=mkldnn)],
            env={**os.environ, "ONEDNN_MAX_CPU_ISA": "AVX2"}, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        assert done.returncode == 0, done.stderr[-1000:]
        sums.append(float(done.stdout))
    assert sums[0] == pytest.approx(sums[1], rel=1e-4)
