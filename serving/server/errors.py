"""What a request can fail with: a gRPC status, and the HTTP status beside it."""

from grpc import StatusCode

# TF Serving's own mapping.
_HTTP = {
    StatusCode.OK: 200,
    StatusCode.CANCELLED: 499,
    StatusCode.INVALID_ARGUMENT: 400,
    StatusCode.DEADLINE_EXCEEDED: 504,
    StatusCode.NOT_FOUND: 404,
    StatusCode.ALREADY_EXISTS: 409,
    StatusCode.PERMISSION_DENIED: 403,
    StatusCode.RESOURCE_EXHAUSTED: 429,
    StatusCode.FAILED_PRECONDITION: 400,
    StatusCode.ABORTED: 409,
    StatusCode.OUT_OF_RANGE: 400,
    StatusCode.UNIMPLEMENTED: 501,
    StatusCode.UNAVAILABLE: 503,
    StatusCode.UNAUTHENTICATED: 401,
}
_LONGEST = 1_500  # characters of a message: gRPC sends it in a header of 8 KB at most
_BY_NUMBER = {code.value[0]: code for code in StatusCode}


class ServingError(Exception):
    """A request, or the loading of a version, that failed.

    Args:
        code: the gRPC status.
        message: names the thing; a very long one is cut.
    """

    def __init__(self, code: StatusCode, message: str):
        if len(message) > _LONGEST:
            message = message[:_LONGEST] + " …"
        super().__init__(message)
        self.code = code
        self.message = message

    @property
    def http_status(self) -> int:
        """Of the REST answer."""
        return _HTTP.get(self.code, 500)


def invalid(message: str) -> ServingError:
    """The request is wrong, whatever the state of the server."""
    return ServingError(StatusCode.INVALID_ARGUMENT, message)


def code_of(number: int) -> StatusCode:
    """TensorFlow's status codes are gRPC's."""
    return _BY_NUMBER.get(number, StatusCode.UNKNOWN)
