"""Which company goes by which id on which platform: reading and checking what operators say."""

from collections.abc import Iterable, Sequence
from uuid import UUID

import msgspec

from connectors.registry import PLATFORMS
from delivery_log.contract import CompanyPlatform
from delivery_log.storable import check_text

_LONGEST_ORGANIZATION = 512
_LONGEST_LINE = 64 * 1024


class CompanyError(ValueError):
    """What is wrong with an entry, in one sentence."""


class Wrong(msgspec.Struct, frozen=True):
    line: int
    reason: str


class CompanyView(msgspec.Struct, frozen=True, rename="camel"):
    """An entry as the API shows it."""

    company_id: UUID
    platform: str
    organization_id: str
    enabled: bool


class _Line(msgspec.Struct, forbid_unknown_fields=True):
    company: UUID
    platform: str
    organization: str
    enabled: bool = True


_decoder = msgspec.json.Decoder(_Line)


def view(entry: CompanyPlatform) -> CompanyView:
    return CompanyView(entry.company_id, entry.platform, entry.organization_id, entry.enabled)


def entry(company: str | UUID, platform: str, organization: str, *, enabled: bool = True) -> CompanyPlatform:
    """Raises CompanyError where the ledger or a platform could not use it."""
    try:
        company_id = company if isinstance(company, UUID) else UUID(company)
    except ValueError:
        raise CompanyError("the company must be a UUID") from None
    if platform not in PLATFORMS:
        raise CompanyError(f"the platform must be one of {', '.join(PLATFORMS)}")
    try:
        check_text(organization)
    except ValueError as error:
        raise CompanyError(f"the organization is {error}") from None
    if not organization.strip() or organization != organization.strip() or len(organization) > _LONGEST_ORGANIZATION:
        raise CompanyError(
            f"the organization must have 1 to {_LONGEST_ORGANIZATION} characters and no spaces around it"
        )
    return CompanyPlatform(company_id=company_id, platform=platform, organization_id=organization, enabled=enabled)


def read_companies(lines: Iterable[bytes]) -> tuple[list[CompanyPlatform], list[Wrong]]:
    """JSON lines `{company, platform, organization, enabled}` → entries, and every line that is none.

    A company's platform may stand in the file once: of two entries nobody could say which one was meant.
    """
    entries: list[CompanyPlatform] = []
    wrong: list[Wrong] = []
    first_at: dict[tuple[UUID, str], int] = {}
    for number, line in enumerate(lines, start=1):
        text = line.removeprefix(b"\xef\xbb\xbf").strip() if number == 1 else line.strip()
        if not text:
            continue
        try:
            read = _read(text)
        except CompanyError as error:
            wrong.append(Wrong(number, str(error)))
            continue
        before = first_at.setdefault((read.company_id, read.platform), number)
        if before != number:
            wrong.append(Wrong(number, f"line {before} has this company and platform already"))
            continue
        entries.append(read)
    return entries, wrong


def _read(text: bytes) -> CompanyPlatform:
    if len(text) > _LONGEST_LINE:
        raise CompanyError(f"the line has more than {_LONGEST_LINE} bytes")
    try:
        line = _decoder.decode(text)
    except msgspec.ValidationError as error:
        raise CompanyError(str(error)[:200]) from None
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, ValueError):
        raise CompanyError("the line is no JSON object") from None
    return entry(line.company, line.platform, line.organization, enabled=line.enabled)


def views(entries: Sequence[CompanyPlatform]) -> list[CompanyView]:
    return [view(one) for one in entries]
