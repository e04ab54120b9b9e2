"""Privacy: which data may leave the process, and in which form. The last step before a capture is encoded."""

import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gnomon_producer.errors import Dropped, kind_of

Event = dict[str, Any]
"""The fields that `before_send` gets and may change: `request_id`, `cluster`, `stratum`, `segments`, `features`,
`prediction`, `error`. Features that are not listed are not in it.
"""
BeforeSend = Callable[[Event], Mapping[str, Any] | None]

EVENT_KEYS = ("request_id", "cluster", "stratum", "segments", "features", "prediction", "error")


@dataclass(frozen=True)
class Privacy:
    """Hashes the fields named in `hmac_fields` with HMAC-SHA256 (hex), then calls `before_send` with the capture.

    The fields are `request_id`, `cluster`, names of segments, names of string features. Strata and segments are then
    made from pseudonyms; the same key gives the same pseudonym, so joins still work.
    """

    before_send: BeforeSend | None = None
    hmac_key: bytes | None = None
    hmac_fields: frozenset[str] = frozenset()

    def identifier(self, name: str, value: str) -> str:
        """Return one identifier in the form in which it may be sent."""
        return self._pseudonym(value) if name in self.hmac_fields else value

    def hashed(self, group: Mapping[str, Any]) -> dict[str, Any]:
        """Return features or segments with the named ones hashed; raise Dropped if one is not a text."""
        return {
            name: self._pseudonym(value) if name in self.hmac_fields and value is not None else value
            for name, value in group.items()
        }

    def shown(self, event: Event) -> Event:
        """Return the result of `before_send`; raise Dropped if it cannot be determined."""
        if self.before_send is None:
            return event
        try:
            answer = self.before_send(event)
            if answer is not None:
                return {key: answer[key] for key in EVENT_KEYS}
        except Exception as error:
            raise Dropped("privacy_error", f"{kind_of(error)} of before_send") from None
        raise Dropped("privacy_error", "before_send returned None")

    def _pseudonym(self, value: Any) -> str:
        if not isinstance(value, str):
            raise Dropped("privacy_error", "an identifier that is to be hashed is not a text")
        return hmac.new(self.hmac_key or b"", value.encode(), hashlib.sha256).hexdigest()
