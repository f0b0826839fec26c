"""What every company registry promises: one suite for the twin and for Postgres."""

from typing import Any
from uuid import UUID, uuid4

import pytest

from delivery_log.contract import CompanyPlatform
from tests.delivery_log.conftest import Books

A, B = UUID(int=1), UUID(int=2)


def entry(company: UUID, platform: str, organization: str = "org", **values: Any) -> CompanyPlatform:
    return CompanyPlatform(company_id=company, platform=platform, organization_id=organization, **values)


async def organization_of(books: Books, delivery: UUID) -> str:
    return str((await books.backend.row(delivery))["organization_id"])


async def test_entries_are_created_changed_and_listed_in_order(books: Books) -> None:
    await books.companies.set_company_platforms([])
    await books.companies.set_company_platforms([entry(B, "benevity"), entry(A, "workday"), entry(A, "goodera")])
    await books.companies.set_company_platforms([entry(A, "workday", "other", enabled=False)])
    expected = [entry(A, "goodera"), entry(A, "workday", "other", enabled=False), entry(B, "benevity")]
    assert await books.companies.company_platforms() == expected
    assert await books.companies.company_platforms(A) == expected[:2]
    assert await books.companies.company_platforms(uuid4()) == []


async def test_of_one_key_twice_in_a_call_the_last_counts(books: Books) -> None:
    await books.companies.set_company_platforms([entry(A, "goodera", "first"), entry(A, "goodera", "last")])
    assert await books.companies.company_platforms() == [entry(A, "goodera", "last")]


async def test_deliveries_not_yet_attempted_go_to_the_new_organization(books: Books) -> None:
    waiting = await books.pending("benevity", A)
    elsewhere = await books.pending("goodera", A)
    others = await books.pending("benevity", B)
    await books.companies.set_company_platforms([entry(A, "benevity", "new")])
    assert await organization_of(books, waiting) == "new"
    assert await organization_of(books, elsewhere) == "org"
    assert await organization_of(books, others) == "org"


async def test_a_delivery_that_failed_with_a_known_fate_goes_to_the_new_organization(books: Books) -> None:
    delivery = await books.pending("benevity", A)
    await books.finish(
        delivery, await books.begin(delivery), outcome="throttled", counted=False, then="later", fate_known=True
    )
    await books.companies.set_company_platforms([entry(A, "benevity", "new")])
    assert await organization_of(books, delivery) == "new"


async def test_what_may_have_had_its_effect_keeps_its_organization(books: Books) -> None:
    uncertain = await books.pending("benevity", A)
    await books.finish(
        uncertain, await books.begin(uncertain), outcome="uncertain", counted=True, then="later", fate_known=False
    )
    leased = await books.pending("benevity", A)
    await books.begin(leased)
    lease_lost = await books.pending("benevity", A)
    await books.begin(lease_lost)
    done = await books.delivered("t1", "benevity", A)
    await books.backend.pass_time(3_600)
    await books.companies.set_company_platforms([entry(A, "benevity", "new")])
    for delivery in (uncertain, leased, lease_lost, done):
        assert await organization_of(books, delivery) == "org"


async def test_a_text_that_cannot_be_held_is_a_value_error(books: Books) -> None:
    with pytest.raises(ValueError, match=r"cannot hold|text"):
        await books.companies.set_company_platforms([entry(A, "benevity"), entry(B, "benevity", "a\0b")])
    assert await books.companies.company_platforms() == []
