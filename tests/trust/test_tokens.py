"""A token is worth nothing but what it was made for: this permit, on this account, once."""

from __future__ import annotations

import base64
import random
import zlib
from dataclasses import replace
from functools import partial
from typing import Any

import pytest

from budgetguard import AsyncGuard, Guard, PermitError
from budgetguard._tokens import Token
from budgetguard.providers import UdioPro, Vidu
from budgetguard.testing import FakeUdio
from tests.support.permits import HoldingScene, said
from tests.support.scene import PATIENT
from tests.support.vidu import KEY, quick
from tests.support.ways import Way

pytestmark = pytest.mark.anyio
SECRET = b"a secret of ours, thirty-two long"


async def refused(way: Way, guard: Any, token: str, **given: Any) -> str:
    with pytest.raises(PermitError) as error:
        await way.finished(guard, token, **given)
    return str(error.value)


async def test_a_token_is_worth_nothing_on_any_other_account(way: Way) -> None:
    scene = HoldingScene(way)
    permit = await scene.get(35)
    given: dict[str, Any] = {"store": scene.store, "inner": scene.fake.transport()}
    strangers = {
        "another key": way.guard(Vidu(), api_key="vda_another", **given),
        "another provider": way.guard(
            UdioPro(concurrency=1), api_key=KEY, store=scene.store, inner=FakeUdio().transport()
        ),
        "a secret": way.guard(Vidu(), api_key=KEY, fingerprint_key=SECRET, **given),
        "a name": way.guard(Vidu(), api_key=KEY, accounts={"studio": [KEY]}, **given),
    }
    for who, guard in strangers.items():
        assert "another account" in await refused(way, guard, permit.token), who
        assert "another account" in await refused(way, guard, permit.token, key="vda_third"), who
    assert await scene.held() == (35, 1, 0)
    assert await way.finished(scene.guard, permit.token)


async def test_the_same_name_under_another_secret_is_another_account_to_a_token(way: Way) -> None:
    scene = HoldingScene(way)
    given: dict[str, Any] = {
        "store": scene.store,
        "api_key": KEY,
        "inner": scene.fake.transport(),
        "policy": quick(**PATIENT),
    }
    ours, theirs = (
        way.guard(Vidu(), accounts={"studio": [KEY]}, fingerprint_key=secret, **given)
        for secret in (SECRET, SECRET[::-1])
    )
    permit = await said(ours.reserve(35))
    assert "was changed" in await refused(way, theirs, permit.token)
    assert await way.finished(ours, permit.token)


async def test_no_part_of_a_token_can_be_exchanged(way: Way) -> None:
    scene = HoldingScene(way)
    mine, other = await scene.get(35), await scene.get(20)
    await said(other.settle(task_id="T"))
    good, theirs = Token.loads(mine.token), Token.loads(other.token)
    forged = [
        replace(good, task_id="T"),
        replace(good, id=theirs.id),
        replace(theirs, id=good.id),
        replace(theirs, task_id=""),
        replace(good, seal=theirs.seal),
        replace(good, seal=bytes(12)),
        replace(good, id="", task_id="T"),
        replace(good, id=f"{good.id}\x1fT"),
        Token("0" * 25, "T", good.seal),
    ]
    for token in forged:
        assert "was changed" in await refused(way, scene.guard, token.dumps()), token
    assert await scene.held() == (55, 1, 1)


async def test_no_bit_of_a_token_can_be_turned_even_by_one_who_mends_its_check(way: Way) -> None:
    scene = HoldingScene(way)
    permit = await scene.get(35)
    raw = base64.urlsafe_b64decode(permit.token[4:] + "=" * (-len(permit.token[4:]) % 4))
    for bit in range(8 * len(raw)):
        changed = bytearray(raw)
        changed[bit // 8] ^= 1 << bit % 8
        plain = "bg1." + base64.urlsafe_b64encode(changed).decode().rstrip("=")
        assert "cut short or changed" in await refused(way, scene.guard, plain)
        changed[:4] = zlib.crc32(changed[4:]).to_bytes(4, "big")
        mended = "bg1." + base64.urlsafe_b64encode(changed).decode().rstrip("=")
        if mended != permit.token:
            assert await refused(way, scene.guard, mended)
    assert await scene.held() == (35, 1, 0)
    assert await way.finished(scene.guard, permit.token), "and as it was given it is good"


async def test_no_part_cut_off_or_added_leaves_a_token(way: Way) -> None:
    scene = HoldingScene(way)
    permit = await scene.get(35)
    for length in range(len("bg1."), len(permit.token)):
        await refused(way, scene.guard, permit.token[:length])
    for more in ("A", "AAAA", "=", " ", "\n", "\x00", permit.token, permit.token[4:]):
        await refused(way, scene.guard, permit.token + more)
    assert await scene.held() == (35, 1, 0)


async def test_made_up_tokens_end_nothing(way: Way) -> None:
    scene = HoldingScene(way)
    await scene.get(35)
    dice = random.Random(7)
    seal = partial(scene.guard.engine._fingerprints.seal, scene.guard.account_name(KEY))
    for _ in range(300):
        await refused(way, scene.guard, "bg1." + base64.urlsafe_b64encode(dice.randbytes(dice.randrange(90))).decode())
        guess = Token(f".{dice.randbytes(12).hex()}", "", dice.randbytes(12))
        assert "was changed" in await refused(way, scene.guard, guess.dumps())
        # Even one who could seal would have to guess the name.
        assert not await way.finished(scene.guard, guess.sealed(seal).dumps())
    assert await scene.held() == (35, 1, 0)


async def test_a_token_used_again_and_again_ends_nothing_more(way: Way) -> None:
    scene = HoldingScene(way)
    first, later = await scene.get(35), await scene.get(20)
    assert await way.finished(scene.guard, first.token, charge=30)
    before = await scene.held()
    for _ in range(5):
        assert not await way.finished(scene.another(), first.token, charge=1)
        assert not await way.finished(scene.another(), first.token, state="failed")
    assert await scene.held() == before
    assert await way.finished(scene.guard, later.token)


@pytest.mark.parametrize("kind", [Guard, AsyncGuard])
def test_a_token_has_96_bits_that_no_other_has(kind: Any) -> None:
    engine = kind(Vidu(), api_key=KEY).engine
    account = engine.account(KEY)
    names = [Token.loads(engine.token(account, engine.permit(None, 0, None, ()).id)).id for _ in range(4096)]
    assert len(set(names)) == 4096
    assert {len(name) for name in names} == {len(names[0])}
    drawn = [int(name[-24:], 16) for name in names]
    for bit in range(96):
        # 4096 fair throws: 2048 and 32 to either side; nine times that is once in 10^18.
        assert abs(sum(number >> bit & 1 for number in drawn) - 2048) < 288, bit
