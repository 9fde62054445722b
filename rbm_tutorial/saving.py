"""What Keras leaves to layers that hold other objects: making them again from a configuration."""

import contextlib
import textwrap

import keras

from rbm_tutorial.files import brief


def with_objects(config: dict, *names: str) -> dict:
    """`config` with its dtype policy and the objects of these names made anew, where it has them.

    Raises: `ValueError` that names the one that cannot be made, and says why.
    """
    return {
        **config,
        **{name: _made(name, config[name]) for name in (*names, "dtype") if name in config},
    }


def _made(name, config):
    make = keras.dtype_policies.get if name == "dtype" else keras.saving.deserialize_keras_object
    with of_configuration(name):
        return make(config)


@contextlib.contextmanager
def of_configuration(name: str):
    """Turn whatever goes wrong while this part is made again into a `ValueError` that names it."""
    try:
        yield
    except Exception as error:
        fault = textwrap.shorten(brief(_root(error)), 400, placeholder=" …")
        raise ValueError(f"`{name}` of the configuration is wrong: {fault}.") from error


def _root(error):
    """What was wrong; Keras wraps it into a `TypeError` that opens with the whole configuration."""
    while isinstance(error, TypeError) and error.__context__ is not None:
        error = error.__context__
    return error
