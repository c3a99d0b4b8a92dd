"""Whether a tracking server listens, found out before MLflow is imported (which takes seconds)."""

from __future__ import annotations

import socket
import urllib.request
from urllib.parse import urlsplit

from qpipe.errors import TrackingError
from qpipe.tracking.location import Location


def check_reachable(location: Location, seconds: float) -> None:
    """Connects to a server, and hangs up. Behind a proxy nothing is checked.

    Args:
        location: of the store; other stores than servers pass.
        seconds: to wait for a connection.

    Raises:
        TrackingError: the name is unknown, or the connection is refused.
    """
    if not location.is_server:
        return
    address = urlsplit(location.uri)
    host = address.hostname or ""
    if urllib.request.getproxies() and not urllib.request.proxy_bypass(host):
        return
    try:
        port = address.port or (443 if address.scheme == "https" else 80)
        socket.create_connection((host, port), timeout=seconds).close()
    except TimeoutError:
        return  # MLflow asks within the same patience, and its answer says more
    except (OSError, ValueError) as error:
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        raise TrackingError(f"tracking.uri: tracking at {location.shown} failed: {reason}.") from error
