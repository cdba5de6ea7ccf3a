"""Fields of frozen results that are computed when first read: derivatives along a curve cost, and few look at them."""


class Deferred:
    """A dataclass field that may be given as a function of no arguments; its value is kept once read."""

    def __set_name__(self, owner, name):
        self.name = name

    def __get__(self, instance, owner=None):
        if instance is None:
            raise AttributeError(self.name)  # so that a dataclass sees no default
        value = instance.__dict__[self.name]
        if callable(value):
            value = instance.__dict__[self.name] = value()
        return value

    def __set__(self, instance, value):
        instance.__dict__[self.name] = value


def deferred(*names):
    """Class decorator: make these fields of a dataclass `Deferred`."""

    def install(cls):
        for name in names:
            descriptor = Deferred()
            descriptor.__set_name__(cls, name)
            setattr(cls, name, descriptor)
        return cls

    return install


class Resolving:
    """Base of results with deferred fields: copies that keep them deferred, pickles that hold values."""

    def with_fields(self, **changes):
        """Return a copy with some fields replaced; deferred ones are not computed for it."""
        other = object.__new__(type(self))
        other.__dict__.update(self.__dict__)
        other.__dict__.update(changes)
        return other

    def later(self, name, change):
        """Return a function of no arguments: `change` of the field `name`, which is not read before."""
        return lambda: change(getattr(self, name))

    def __getstate__(self):
        return {name: getattr(self, name) for name in self.__dict__}


class Once:
    """A function of no arguments that is called once; `part(i)` is a function that returns item i of its result."""

    def __init__(self, compute):
        self.compute, self.found = compute, None

    def part(self, i):
        """Return a function of no arguments for item i."""

        def read():
            if self.found is None:
                self.found, self.compute = self.compute(), None
            return self.found[i]

        return read
