"""Input gradients: which pixels a model listens to, clean and poisoned side by side."""

from collections.abc import Mapping

import numpy as np
from matplotlib.colors import Normalize
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator

from learningcurves.errors import InvalidInput
from learningcurves.plotting.images import frame, show, to_pictures
from learningcurves.plotting.style import COLUMN, DIVERGING, PAGE, Display, local, take_axes


class GradientDisplay(Display):
    r"""Input gradients of several models side by side, with one colour scale that is symmetric about 0.

    Red pixels raise the score when they get brighter, blue pixels lower it. Colour images show the sum over channels:
    the derivative when all channels of a pixel rise together.

    Parameters
    ----------
    maps : ndarray of shape (models, images, height, width)
    names : sequence of str
        One a model.
    pictures : ndarray of shape (images, height, width, channels), optional
        The images the gradients were taken at, drawn as a first column.
    unit : str, default="score per unit of pixel value"
    share : bool, default=True
        Whether all models have one colour scale; without it each has its own bar, and only patterns compare.
    value_range : tuple of float, default=(0, 1)

    Attributes
    ----------
    images_ : ndarray of AxesImage, shape (images, models)
    colorbars_ : list of Colorbar
    ax_ : ndarray of Axes of shape (images, columns)
    figure_
    """

    def __init__(
        self, *, maps, names, pictures=None, unit="score per unit of pixel value", share=True, value_range=(0.0, 1.0)
    ):
        self.maps = maps
        self.names = tuple(names)
        self.pictures = pictures
        self.unit = unit
        self.share = share
        self.value_range = value_range

    @classmethod
    def from_gradients(
        cls, gradients: Mapping[str, np.ndarray], *, image_shape=None, images=None, ax=None, share=True,
        value_range=(0.0, 1.0), unit="score per unit of pixel value", **plot_kw,
    ):  # fmt: skip
        """Draw gradients given by the name of the model, such as ``{"clean": g0, "poisoned": g1}``.

        Parameters
        ----------
        gradients : mapping of str -> ndarray
            One image's gradient, of shape (d,), or those of several images, (n, d) or (n, channels, height, width).
            The same shape for each model. A linear model has one gradient for all images.
        image_shape : tuple (channels, height, width), optional
            Needed for rows of colour images.
        images : ndarray, optional
            The images the gradients were taken at, one a row of the figure.
        ax : sequence of Axes, optional
            Row by row: the image if given, then one a model.
        share : bool, default=True
        value_range : tuple of float, default=(0, 1)
            Black and white of `images`.
        unit : str
            Written on the colour bar.
        **plot_kw
            Passed to `plot`.

        Returns
        -------
        GradientDisplay
        """
        if not isinstance(gradients, Mapping) or not gradients:
            raise InvalidInput(
                '`gradients` must be a mapping of names to arrays, such as {"clean": g0, "poisoned": g1}.'
            )
        maps = []
        for name, gradient in gradients.items():
            gradient = np.atleast_2d(np.asarray(gradient, dtype=float))
            if not np.isfinite(gradient).all():
                raise InvalidInput(
                    f"`gradients[{name!r}]` holds values that are not finite; nothing is drawn for them."
                )
            maps.append(to_pictures(gradient, image_shape=image_shape, name=f"gradients[{name!r}]").sum(axis=3))
        if len({m.shape for m in maps}) > 1:
            raise InvalidInput(f"`gradients` have different shapes: {', '.join(str(m.shape) for m in maps)}.")
        pictures = None
        if images is not None:
            pictures = to_pictures(np.atleast_2d(images), image_shape=image_shape)
            if len(pictures) != len(maps[0]):
                raise InvalidInput(f"`images` holds {len(pictures)} images for gradients at {len(maps[0])}.")
        display = cls(
            maps=np.stack(maps), names=gradients, pictures=pictures, unit=unit, share=share, value_range=value_range
        )
        return display.plot(ax=ax, **plot_kw)

    def plot(self, ax=None, *, width=None) -> "GradientDisplay":
        """Draw into `ax` or into a new figure of `width` inches (by default one column up to three); return itself."""
        n_models, n_images = self.maps.shape[:2]
        first = 0 if self.pictures is None else 1
        ncols = n_models + first
        with local(ax):
            strips = None
            if ax is None:
                strips = self._places(width or (COLUMN if ncols <= 3 else PAGE), n_images, ncols, first)
            else:
                flat = take_axes(ax, n_images * ncols, "this gradient display")
                self.figure_, self.ax_ = flat[0].figure, np.array(flat, dtype=object).reshape(n_images, ncols)
            top = np.abs(self.maps).max(axis=(1, 2, 3))
            top = np.full(n_models, top.max()) if self.share else top
            self.images_ = np.empty((n_images, n_models), dtype=object)
            for i in range(n_images):
                if self.pictures is not None:
                    show(self.ax_[i, 0], self.pictures[i], value_range=self.value_range)
                for m in range(n_models):
                    axes = self.ax_[i, m + first]
                    norm = Normalize(-(top[m] or 1.0), top[m] or 1.0)
                    self.images_[i, m] = axes.imshow(
                        self.maps[m, i], cmap=DIVERGING, norm=norm, interpolation="nearest"
                    )
                    frame(axes)
            for m, name in enumerate(self.names):
                self.ax_[0, m + first].set_title(name)
            if first:
                self.ax_[0, 0].set_title("input")
            self.colorbars_ = []
            bars = [list(range(n_models))] if self.share else [[m] for m in range(n_models)]
            for b, models in enumerate(bars):
                hosts = self.ax_[:, [m + first for m in models]].ravel().tolist()
                place = {"ax": hosts, "aspect": 30} if strips is None else {"cax": self.figure_.add_axes(strips[b])}
                bar = self.figure_.colorbar(self.images_[0, models[0]], orientation="horizontal", **place)
                bar.locator = MaxNLocator(5 if self.share else 3, symmetric=True)
                bar.update_ticks()
                bar.outline.set_linewidth(0.4)
                self.colorbars_.append(bar)
            if strips is None or self.share:
                for bar in self.colorbars_:
                    bar.set_label(self.unit)
            else:
                middle = (strips[0][0] + strips[-1][0] + strips[-1][2]) / 2
                self.figure_.text(middle, 0.04 / self.figure_.get_figheight(), self.unit, fontsize=8, ha="center")
        return self

    def _places(self, width, n_images, ncols, first):
        """Make the figure and its axes at places worked out in inches; return those of the colour bars.

        An automatic layout takes the room of a colour bar from the gradients alone, and the input beside them would
        stand higher and larger than they do.
        """
        gap, above, below, sides = 0.08, 0.22, 0.52, 0.06
        wide = (width - 2 * sides - gap * (ncols - 1)) / ncols
        tall = wide * self.maps.shape[2] / self.maps.shape[3]
        size = np.array([width, above + n_images * tall + (n_images - 1) * gap + below])
        self.figure_ = Figure(figsize=tuple(size))
        self.ax_ = np.empty((n_images, ncols), dtype=object)
        for i in range(n_images):
            for c in range(ncols):
                corner = np.array([sides + c * (wide + gap), size[1] - above - (i + 1) * tall - i * gap])
                self.ax_[i, c] = self.figure_.add_axes((*(corner / size), *(np.array([wide, tall]) / size)))
        starts = [first] if self.share else range(first, ncols)
        length = (ncols - first) * (wide + gap) - gap if self.share else wide
        length_in = 0.86 * length  # the first and last number stand half outside the bar
        return [
            (
                (sides + c * (wide + gap) + 0.07 * length) / size[0],
                (below - 0.15) / size[1],
                length_in / size[0],
                0.08 / size[1],
            )
            for c in starts
        ]
