"""What all errors of logbroker have in common."""

from collections.abc import Mapping
from typing import Any, ClassVar


class LogbrokerError(Exception):
    """Something went wrong in logbroker."""

    code: ClassVar[str] = "INTERNAL"
    retriable: ClassVar[bool] = False

    def __init__(self, detail: str | None = None, /, **fields: Any) -> None:
        self.detail = detail if detail is not None else (type(self).__doc__ or "").strip()
        self.fields: Mapping[str, Any] = fields
        super().__init__(self.detail)

    @property
    def request_id(self) -> str | None:
        """The id of the HTTP request that was refused, as it stands in the broker's log; None in process."""
        return self.fields.get("request_id")
