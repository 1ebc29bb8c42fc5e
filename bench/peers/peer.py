# SPDX-License-Identifier: Apache-2.0
"""Import this in place of torch: PyTorch on the processor alone, as cpu_only.sh left it."""
import logging
import os

os.environ.pop("CUDA_HOME", None)  # where a machine has the toolkit, PyTorch would ask for its devices
os.environ.update(HF_HUB_OFFLINE="1", TRANSFORMERS_NO_ADVISORY_WARNINGS="1")
import torch

# A build without CUDA has this same answer; the one wheel there is asks a CUDA library that is not there and dies.
torch.cuda.is_current_stream_capturing = lambda: False
torch._logging.set_logs(all=logging.ERROR)  # it warns of what only matters with a GPU
