"""How often an address may be wrong about a token."""

from __future__ import annotations

import ipaddress
import math
import time
from collections import OrderedDict

MOST_ADDRESSES = 10_000
MOST_GUESSES = 10
_SECONDS_PER_GUESS = 6.0


class Guesses:
    """Wrong tokens by address: after ten, one more every six seconds.

    While an address waits, its right tokens are not looked at either: whoever guesses would learn by
    them. As many addresses are remembered as fit; the one that was quiet for longest is forgotten.
    """

    def __init__(self) -> None:
        self._free_at: OrderedDict[str, float] = OrderedDict()
        """address → when all its guesses will have been forgiven"""

    def wait_s(self, address: str) -> int:
        """How long an address has to wait before a token of its is looked at; 0: not at all."""
        over = self._free_at.get(address, 0.0) - time.monotonic() - (MOST_GUESSES - 1) * _SECONDS_PER_GUESS
        return max(0, math.ceil(over))

    def wrong(self, address: str) -> None:
        now = time.monotonic()
        self._free_at[address] = max(self._free_at.get(address, now), now) + _SECONDS_PER_GUESS
        self._free_at.move_to_end(address)
        if len(self._free_at) > MOST_ADDRESSES:
            self._free_at.popitem(last=False)


def address_of(host: str) -> str:
    """Whose guesses are counted together: an address, or the network that a household has in IPv6."""
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if address.version == 6 and address.ipv4_mapped is None:
        return str(ipaddress.ip_network((address, 64), strict=False))
    return str(address)
