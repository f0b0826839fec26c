"""Where a page of a listing ended: the sort key of its last row, opaque to callers, so that new rows move nothing."""

import base64
import binascii
from datetime import datetime
from uuid import UUID


def write_cursor(created_at: datetime, identifier: UUID) -> str:
    """URL-safe text without padding."""
    return base64.urlsafe_b64encode(f"{created_at.isoformat()}|{identifier}".encode()).decode().rstrip("=")


def read_cursor(cursor: str) -> tuple[datetime, UUID]:
    """Raises ValueError on anything that `write_cursor` did not make."""
    try:
        padded = cursor + "=" * (-len(cursor) % 4)
        moment, bar, identifier = base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii").partition("|")
        created_at = datetime.fromisoformat(moment)
        if not bar or created_at.tzinfo is None:
            raise ValueError(cursor)
        return created_at, UUID(identifier)
    except (ValueError, binascii.Error):
        raise ValueError("the cursor is none of ours") from None
