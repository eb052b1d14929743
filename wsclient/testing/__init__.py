"""A fake venue to test against: a real WebSocket server on loopback, with scripted faults.

::

    with FakeVenue() as venue:
        client = ...  # connects to venue.url
        peer = venue.accept()
        peer.expect_json({"type": "subscribe", "channel": "a"})
        venue.publish("a", price=1)
        peer.rst()

A venue has routes, limits and a journal to compare with. It has an `Account`: clients log in with
`venue.credentials`, and a test does something to their orders with `venue.fill()` and its like, or
withholds an answer with `venue.cut_before_answer()`. A `Delivery` says how messages reach each
of several connections, and a `Feed` publishes a made-up market.

A `RecordedVenue` is a real venue while a test records it, and its recording later.

A `FaultProxy` between client and venue injects faults that the venue's end cannot cause.
"""

try:
    import websockets  # noqa: F401 - imported to name it in the error if it is missing
except ModuleNotFoundError as error:
    raise ModuleNotFoundError(
        "wsclient.testing needs the package websockets: pip install 'wsclient-market[testing]'",
        name=error.name,
    ) from error

from wsclient.testing.accounts import Account, OrderChange, OrderRefusal, VenueOrder
from wsclient.testing.delivery import Delivery
from wsclient.testing.faults import Fault, FaultProxy, ProxiedConnection
from wsclient.testing.faultwords import ReplayFault
from wsclient.testing.feed import KINDS, Feed
from wsclient.testing.frames import Payload
from wsclient.testing.handshakes import HandshakeFault
from wsclient.testing.journal import Comparison, Difference, Journal, Published
from wsclient.testing.limits import ChannelRefusal, VenueLimits
from wsclient.testing.peer import Peer, Sent, VenueProtocol
from wsclient.testing.protocols import ScriptedProtocol
from wsclient.testing.recordedvenue import RecordedVenue
from wsclient.testing.recordings import messages_of, read_recording
from wsclient.testing.replay import Recorded, Replay
from wsclient.testing.rest import RestCall
from wsclient.testing.routes import Route
from wsclient.testing.venue import FakeVenue
from wsclient.testing.venues.generic import GenericProtocol
from wsclient.testing.venues.kraken import KrakenProtocol

__all__ = [
    "KINDS",
    "Account",
    "ChannelRefusal",
    "Comparison",
    "Delivery",
    "Difference",
    "FakeVenue",
    "Fault",
    "FaultProxy",
    "Feed",
    "GenericProtocol",
    "HandshakeFault",
    "Journal",
    "KrakenProtocol",
    "OrderChange",
    "OrderRefusal",
    "Payload",
    "Peer",
    "ProxiedConnection",
    "Published",
    "Recorded",
    "RecordedVenue",
    "Replay",
    "ReplayFault",
    "RestCall",
    "Route",
    "ScriptedProtocol",
    "Sent",
    "VenueLimits",
    "VenueOrder",
    "VenueProtocol",
    "messages_of",
    "read_recording",
]
