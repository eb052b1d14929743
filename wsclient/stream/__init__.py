"""What each message goes through: frames, decoding, sequence numbers. Pure.

The folder ``compiled`` may hold compiled forms of some modules, built from their sources (see
``setup.py``). They run instead of these, unless the environment variable ``WSCLIENT_PURE`` is 1.
"""

import os

if os.environ.get("WSCLIENT_PURE") != "1":
    __path__.insert(0, os.path.join(__path__[0], "compiled"))
