"""How a raw value that is not there is written where every place needs a value."""

import math

# By the feature's dtype. A log never holds these: the first is the least int64, the
# second a NUL character alone.
MISSING = {"int64": -(2**63), "string": "\0", "float32": math.nan}
