"""Log records that say of which client they are, and of which connection and channel."""

from __future__ import annotations

import logging

__all__ = ["ClientLog"]


class ClientLog:
    """Writes one client's log: each text begins with its name, and each record has the fields
    ``client``, ``venue``, ``connection_id`` and ``channel``, None where there is none."""

    def __init__(self, name: str, venue: str) -> None:
        self.name = name
        self.venue = venue

    def __call__(
        self,
        level: int,
        text: str,
        *,
        connection_id: int | None = None,
        channel: str | None = None,
        exc_info: bool | BaseException = False,
        logger: str = "wsclient",
    ) -> None:
        fields = {
            "client": self.name,
            "venue": self.venue,
            "connection_id": connection_id,
            "channel": channel,
        }
        logging.getLogger(logger).log(
            level, "%s: %s", self.name, text, exc_info=exc_info, extra=fields, stacklevel=2
        )
