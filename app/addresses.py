"""Where a request comes from, as limits count it."""

from ipaddress import IPv6Address, IPv6Network, ip_address

from fastapi import Request

UNKNOWN = "unknown"
# One customer of a provider has a network of this many bits at least.
_IPV6_BITS = 64


def address_of(request: Request) -> str:
    """The caller's address: of IPv6 its network, of what is no address a word.

    Behind a proxy it is what the proxy says in X-Forwarded-For, which may be any text.
    """
    given = request.client.host if request.client else ""
    try:
        address = ip_address(given.partition("%")[0])
    except ValueError:
        return UNKNOWN
    if isinstance(address, IPv6Address):
        mapped = address.ipv4_mapped
        return str(mapped or IPv6Network((address, _IPV6_BITS), strict=False))
    return str(address)
