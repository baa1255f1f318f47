import subprocess
import sys

import httpx
import pytest

from budgetguard.testing import FakeUdio, FakeVidu
from budgetguard.testing.pytest_plugin import FakeUdioFactory, FakeViduFactory


def test_a_test_gets_a_vidu_that_is_served(fake_vidu: FakeVidu) -> None:
    answer = httpx.get(f"{fake_vidu.url}/ent/v2/credits", headers={"Authorization": "Token k"})
    assert answer.json()["remains"][0]["credit_remain"] == 500


def test_a_test_gets_a_udio_that_is_served(fake_udio: FakeUdio) -> None:
    answer = httpx.get(f"{fake_udio.url}/api/v2/credits", headers={"Authorization": "Bearer k"})
    assert answer.json()["data"]["credits"] == 500


def test_a_factory_makes_as_many_as_a_test_needs(
    fake_vidu_factory: FakeViduFactory, fake_udio_factory: FakeUdioFactory
) -> None:
    fakes = [fake_vidu_factory(credits=7, limit=1, mode="reject"), fake_vidu_factory(), fake_udio_factory(credits=9)]
    assert len({fake.url for fake in fakes}) == 3
    assert [fake.credits for fake in fakes] == [7, 500, 9]


def test_the_fixtures_of_a_test_are_gone_in_the_next(
    pytestconfig: pytest.Config, tmp_path_factory: pytest.TempPathFactory
) -> None:
    folder = tmp_path_factory.mktemp("user")
    (folder / "test_user.py").write_text(
        "import threading\n"
        "def test_one(fake_vidu): assert fake_vidu.url\n"
        "def test_two(): assert threading.active_count() == 1\n",
        encoding="utf-8",
    )
    command = [sys.executable, "-m", "pytest", "-q", "-W", "error", "-p", "no:cacheprovider", str(folder)]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


def test_loading_the_plugin_imports_no_server() -> None:
    code = (
        "import sys, budgetguard.testing.pytest_plugin\n"
        "heavy = {'starlette', 'uvicorn', 'budgetguard.testing.vidu', 'budgetguard.testing.server'}\n"
        "assert not heavy & set(sys.modules), heavy & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-W", "error", "-c", code], check=True, timeout=60)


def test_the_face_of_the_package_loads_what_it_names_and_nothing_else() -> None:
    import budgetguard.testing as face

    assert {"FakeVidu", "FakeUdio", "Journal"} <= set(dir(face))
    for name in face.__all__:
        assert getattr(face, name).__name__ == name
    with pytest.raises(AttributeError, match="no attribute 'FakeSora'"):
        face.FakeSora  # noqa: B018
