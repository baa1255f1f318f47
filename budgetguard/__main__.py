"""What ``python -m budgetguard`` runs: the same as the ``budgetguard`` command."""

from __future__ import annotations

from budgetguard.cli import main

if __name__ == "__main__":
    main()
