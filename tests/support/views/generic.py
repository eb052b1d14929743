"""The generic protocol."""

from __future__ import annotations

import wsclient
from support.views.case import Case

CASES = {
    "generic, whose data have any form": Case(
        wsclient.Generic(),
        '{"type":"market_data","channel":"trades","sequence":1,"price":"1","side":"buy"}',
    ),
}
