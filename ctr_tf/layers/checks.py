"""What several layers have to check, one function a rule."""

from ctr_tf.errors import UserError


def check_positive(**sizes: int) -> None:
    """Raises UserError for a size that is not positive."""
    for name, value in sizes.items():
        if value < 1:
            raise UserError(f"`{name}` must be positive. Received: {name}={value}")


def check_heads(num_heads: int, width: int) -> None:
    """Raises UserError if the heads do not divide the width."""
    if num_heads < 1 or width % num_heads:
        raise UserError(
            f"`num_heads` must divide the width {width}. "
            f"Received: num_heads={num_heads}"
        )


def check_dropout(dropout: float) -> None:
    """Raises UserError for a share of what is dropped that is none."""
    if not 0 <= dropout < 1:
        raise UserError(f"`dropout` lies between 0 and 1. Received: dropout={dropout}")
