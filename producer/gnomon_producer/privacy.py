"""What may leave the process, and in which shape: the last word before a capture is encoded."""

import hashlib
import hmac
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from gnomon_producer.errors import Dropped

Event = dict[str, Any]
"""What `before_send` is shown and may change: `request_id`, `cluster`, `stratum`, `segments`, `features`,
`prediction`, `error`. Features that are not listed are not in it."""
BeforeSend = Callable[[Event], Mapping[str, Any] | None]

EVENT_KEYS = ("request_id", "cluster", "stratum", "segments", "features", "prediction", "error")


@dataclass(frozen=True)
class Privacy:
    """`before_send` first, then HMAC-SHA256 (hex) of the fields named in `hmac_fields`: `request_id`, `cluster`,
    names of segments, names of string features. The same key gives the same pseudonym, so joins still work.
    """

    before_send: BeforeSend | None = None
    hmac_key: bytes | None = None
    hmac_fields: frozenset[str] = frozenset()

    @property
    def active(self) -> bool:
        """Whether there is anything to do."""
        return self.before_send is not None or bool(self.hmac_fields)

    def apply(self, event: Event) -> Event:
        """Return what may be sent; raise Dropped `privacy_error` where that cannot be told for certain."""
        try:
            return self._hashed(self._shown(event))
        except Dropped:
            raise
        except Exception as error:
            raise Dropped("privacy_error", f"{type(error).__name__} while preparing a capture") from None

    def identifier(self, name: str, value: str) -> str:
        """Return one identifier as it may be sent, for labels."""
        return self._pseudonym(value) if name in self.hmac_fields else value

    def _shown(self, event: Event) -> Event:
        if self.before_send is None:
            return event
        answer = self.before_send(event)
        if answer is None:
            raise Dropped("privacy_error", "before_send returned None")
        return {key: answer[key] for key in EVENT_KEYS}

    def _hashed(self, event: Event) -> Event:
        if not self.hmac_fields:
            return event
        for key in ("request_id", "cluster"):
            if key in self.hmac_fields and event[key] is not None:
                event[key] = self._pseudonym(event[key])
        for group in ("segments", "features"):
            event[group] = {
                name: self._pseudonym(value) if name in self.hmac_fields and value is not None else value
                for name, value in event[group].items()
            }
        return event

    def _pseudonym(self, value: Any) -> str:
        if not isinstance(value, str):
            raise Dropped("privacy_error", "an identifier that is to be hashed is no text")
        return hmac.new(self.hmac_key or b"", value.encode(), hashlib.sha256).hexdigest()
