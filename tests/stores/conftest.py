import pytest

pytest.register_assert_rewrite("budgetguard.testing")
