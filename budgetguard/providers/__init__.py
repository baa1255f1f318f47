"""Adapters: what each provider's requests and answers mean. Pure; one may serve every thread and process."""

from budgetguard.providers.udio import UdioPro
from budgetguard.providers.vidu import Vidu

__all__ = ["UdioPro", "Vidu"]
