"""The company of `company.py`, learnt once for all tests of this folder that have it served."""

from __future__ import annotations

from tests.bot.company import company, learnt  # noqa: F401
from tests.finetune.conftest import base_folder, halved, tiny  # noqa: F401
