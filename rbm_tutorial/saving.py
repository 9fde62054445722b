"""What Keras leaves to layers that hold other objects: making them again from a configuration."""

import keras


def with_objects(config: dict, *names: str) -> dict:
    """`config` with the objects of these names made anew; those that it lacks are left out."""
    make = keras.saving.deserialize_keras_object
    return {**config, **{name: make(config[name]) for name in names if name in config}}
