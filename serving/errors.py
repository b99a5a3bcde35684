"""What a request can fail with: the name of a gRPC status, and HTTP's number beside it.

The server fails with it, and the client with what it hears of the server.
"""

UNAVAILABLE = "UNAVAILABLE"
INVALID_ARGUMENT = "INVALID_ARGUMENT"
NOT_FOUND = "NOT_FOUND"
DEADLINE_EXCEEDED = "DEADLINE_EXCEEDED"
INTERNAL = "INTERNAL"
# TF Serving's own mapping. Of a number that several share, the first is meant.
_HTTP = {
    INVALID_ARGUMENT: 400,
    "FAILED_PRECONDITION": 400,
    "OUT_OF_RANGE": 400,
    "UNAUTHENTICATED": 401,
    "PERMISSION_DENIED": 403,
    NOT_FOUND: 404,
    "ALREADY_EXISTS": 409,
    "ABORTED": 409,
    "RESOURCE_EXHAUSTED": 429,
    "CANCELLED": 499,
    INTERNAL: 500,
    "UNIMPLEMENTED": 501,
    UNAVAILABLE: 503,
    DEADLINE_EXCEEDED: 504,
}
_LONGEST = 1_500  # characters of a message: gRPC sends it in a header of 8 KB at most


class ServingError(OSError):
    """A server did not answer, or answered with an error.

    Args:
        status: name of a gRPC status, such as `"UNAVAILABLE"`.
        message: of the server, or of the connection; a very long one is cut.
    """

    def __init__(self, status: str, message: str):
        if len(message) > _LONGEST:
            message = message[:_LONGEST] + " …"
        super().__init__(f"{status}: {message}")
        self.status = status
        self.message = message

    @property
    def http_status(self) -> int:
        """Of a REST answer."""
        return _HTTP.get(self.status, 500)


def invalid(message: str) -> ServingError:
    """The request is wrong, whatever the state of the server."""
    return ServingError(INVALID_ARGUMENT, message)


def status_of_http(number: int) -> str:
    """Name of the gRPC status that an HTTP status stands for."""
    found = (status for status, http in _HTTP.items() if http == number)
    return next(found, INTERNAL)
