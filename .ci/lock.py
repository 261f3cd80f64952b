"""Writes requirements.lock: every part of pyproject.toml with its hashes, but for torch and what only CUDA pulls in."""

import re
import subprocess
import sys
from pathlib import Path

BESIDE_THE_LOCK = re.compile(r"(torch|triton|nvidia-[a-z0-9-]+|cuda-[a-z]+)==")
HEAD = "# Every part with its hashes, made by `make lock`. torch is pinned beside it: its wheel differs by machine.\n"

resolved = subprocess.run(
    [
        *(sys.executable, "-m", "uv", "pip", "compile", "--quiet", "--generate-hashes", "--no-header"),
        *("--extra", "dev", "--python-version", "3.11", "pyproject.toml"),
    ],
    check=True,
    capture_output=True,
    text=True,
).stdout
parts = re.split(r"(?m)^(?=[a-z0-9])", resolved)
Path("requirements.lock").write_text(HEAD + "".join(p for p in parts if p and not BESIDE_THE_LOCK.match(p)))
