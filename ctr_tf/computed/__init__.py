"""The features that no log holds: hour, weekend, slate size, counters, places.

One class each, with its declaration as features of the schema, whose description says
exactly what it means, and with all its forms side by side: the *batch* form (NumPy, the
Beam job), the *graph* form where a value follows from the request alone (the export),
and the *online* form (`serving.online`). Forms that can be one function are.
"""

import ctr_tf.schema  # noqa: F401  first, since it holds the kinds and imports this
