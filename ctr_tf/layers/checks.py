"""What several layers have to check, one function a rule."""


def check_positive(**sizes: int) -> None:
    """Raises ValueError for a size that is not positive."""
    for name, value in sizes.items():
        if value < 1:
            raise ValueError(f"`{name}` must be positive. Received: {name}={value}")


def check_heads(num_heads: int, width: int) -> None:
    """Raises ValueError if the heads do not divide the width."""
    if num_heads < 1 or width % num_heads:
        raise ValueError(
            f"`num_heads` must divide the width {width}. "
            f"Received: num_heads={num_heads}"
        )
