"""Logins, tokens and signatures: what a dialect says about the access to its venue."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from wsclient.dialect.values import Credentials, RestRequest
from wsclient.errors import HandshakeRejected

__all__ = ["Access"]

#: The methods by which a dialect uses credentials.
_HOOKS = ("login", "access", "authorize", "url_request", "url")


class Access:
    """What a dialect says about its venue's logins; a :class:`Dialect` has all of it.

    By default there is no login, and the client refuses credentials.

    A token that expires is renewed every ``renewal_interval`` (s), on connections that have one:
    see :meth:`renewal`.
    """

    renewal_interval: float | None = None

    @property
    def takes_credentials(self) -> bool:
        """Whether the dialect uses ``credentials``; if not, the client refuses them."""
        return any(getattr(type(self), hook) is not getattr(Access, hook) for hook in _HOOKS)

    # Before a connect.

    def url_request(self, url: str, credentials: Credentials | None) -> RestRequest | None:
        """Return the REST request before each connect (for a token or an address), or None."""
        return None

    def url_from(self, url: str, answer: Any) -> str:
        """Return the address from the decoded answer to :meth:`url_request`."""
        return url

    def token_from(self, answer: Any) -> Any:
        """Return the token from the decoded answer to :meth:`url_request`, or None.

        It becomes ``credentials.token`` of this connection.
        """
        return None

    def url(self, url: str, credentials: Credentials | None) -> str:
        """Return the address for this attempt. Called for each one; may block (to get a token)."""
        return url

    # On a connection.

    def login(self, credentials: Credentials) -> Any:
        """Return the login message, sent first on each connection; None for no login.

        It is not sent on routes where :meth:`Routing.logs_in` returns False.
        """
        return None

    def access(self, channels: Sequence[str], credentials: Credentials) -> Mapping[str, Any]:
        """Return additional options for a subscribe or unsubscribe of these channels.

        Called on connections with credentials, for example to add a token or a signature.
        """
        return {}

    def authorize(self, payload: Any, credentials: Credentials) -> Any:
        """Return the ``payload`` of a ``client.request()`` with its token or signature.

        Called on connections with credentials, before :meth:`Dialect.request`.
        """
        return payload

    def renewal(self, url: str, credentials: Credentials) -> RestRequest | None:
        """Return the REST request that keeps ``credentials.token`` alive; None if it needs none.

        Called every ``renewal_interval`` (s) on a connection with a token. ``url`` is the result of
        :meth:`url`. A failure is reported by the event :class:`wsclient.events.RenewalFailed`, and
        the request is sent again a little later.
        """
        return None

    def has_expired(self, refusal: HandshakeRejected) -> bool:
        """Return whether the venue refused a renewal because the token has expired.

        The connection is then replaced at once. ``refusal.excerpt`` is the beginning of the
        venue's answer.
        """
        return False
