"""How TensorFlow is loaded by the verbs."""

import subprocess
import sys

LOAD = """
import sys
from ctr_tf.commands.loading import load_tensorflow

{before}
load_tensorflow()
print(*(name in sys.modules for name in ("tensorflow", "matplotlib", "sklearn")))
import matplotlib.pyplot
import sklearn.linear_model
import keras
keras.Sequential([keras.layers.Dense(1)]).build((None, 2))
load_tensorflow()
print(*(sys.modules[name].__name__ for name in ("keras", "matplotlib", "sklearn")))
"""


def loaded(before=""):
    program = LOAD.format(before=before)
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines()[1] == "keras matplotlib sklearn"
    return done.stdout.splitlines()[0]


def test_what_keras_would_import_for_itself_is_left_until_it_is_used():
    assert loaded() == "True False False"
    assert loaded("import matplotlib") == "True True False"
