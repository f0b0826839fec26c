"""What `--role` takes. Apart from the roles themselves, whose libraries take a second to load."""

from collections.abc import Iterable

INGEST = "ingest"


def deliver_role(platform: str) -> str:
    return f"deliver:{platform}"


def role_names(platforms: Iterable[str]) -> list[str]:
    """All roles where these platforms are enabled."""
    return [INGEST, *(deliver_role(platform) for platform in platforms)]
