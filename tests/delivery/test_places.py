import asyncio

import pytest

from delivery.places import Places

pytestmark = pytest.mark.fast


async def test_a_place_goes_to_whoever_asked_first() -> None:
    places, order = Places(1), []

    async def one(number: int) -> None:
        async with places:
            order.append(number)
            await asyncio.sleep(0)

    await asyncio.gather(*(one(number) for number in range(5)))
    assert order == [0, 1, 2, 3, 4]


async def test_never_more_inside_than_places() -> None:
    places, inside, most = Places(3), 0, 0

    async def one() -> None:
        nonlocal inside, most
        async with places:
            inside += 1
            most = max(most, inside)
            await asyncio.sleep(0)
            inside -= 1

    await asyncio.gather(*(one() for _ in range(50)))
    assert most == 3


@pytest.mark.parametrize("let_in_first", [True, False])
async def test_who_is_cancelled_while_waiting_keeps_no_place(let_in_first: bool) -> None:
    places = Places(1)
    await places.acquire()
    waiting = asyncio.create_task(places.acquire())
    await asyncio.sleep(0)
    if let_in_first:
        places.release()  # let in, and cancelled before it ran
        waiting.cancel()
    else:
        waiting.cancel()
        places.release()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    async with asyncio.timeout(1):
        await places.acquire()
