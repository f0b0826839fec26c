"""All of these tests run on virtual time."""

from collections.abc import Callable, Mapping

import pytest

from tests.delivery.virtual_time import VirtualLoop


def pytest_asyncio_loop_factories(config: pytest.Config, item: pytest.Item) -> Mapping[str, Callable[[], VirtualLoop]]:
    return {"virtual": VirtualLoop}
