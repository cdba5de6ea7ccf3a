"""Pictures of samples."""

from collections.abc import Sequence

import numpy as np
from matplotlib.figure import Figure

from learningcurves.errors import InvalidInput
from learningcurves.plotting.style import COLUMN, Display, local, take_axes


def to_pictures(images, *, image_shape=None, name="images") -> np.ndarray:
    """Return images as an array of shape (n, height, width, channels).

    Parameters
    ----------
    images : ndarray
        Rows of shape (n, d) in (channel, height, width) order, or images of shape (n, height, width), (n, channels,
        height, width) with 1 or 3 channels.
    image_shape : tuple (channels, height, width), optional
        Needed for rows; grey rows of a square length are understood without it.
    name : str
        The argument's name in error messages.
    """
    images = np.asarray(images, dtype=float)
    if images.ndim == 2:
        if image_shape is None:
            side = int(round(np.sqrt(images.shape[1])))
            image_shape = (1, side, side)
        if int(np.prod(image_shape)) != images.shape[1]:
            raise InvalidInput(
                f"`{name}` holds rows of {images.shape[1]} features, which is not an image of shape "
                f"{tuple(image_shape)}. Pass `image_shape=(channels, height, width)`."
            )
        images = images.reshape(len(images), *image_shape)
    elif images.ndim == 3:
        images = images[:, None]
    if images.ndim != 4 or images.shape[1] not in (1, 3):
        raise InvalidInput(
            f"`{name}` has shape {images.shape}; expected (n, d) rows, (n, height, width) or (n, channels, height, "
            "width) with 1 or 3 channels."
        )
    return images.transpose(0, 2, 3, 1)


def show(axes, picture, *, value_range=(0.0, 1.0), edge=None):
    """Draw one picture (height, width, channels) without ticks: grey, black the low end, or RGB."""
    low, high = value_range
    if picture.shape[2] == 1:
        drawn = axes.imshow(picture[..., 0], cmap="gray", vmin=low, vmax=high, interpolation="nearest")
    else:
        drawn = axes.imshow(np.clip((picture - low) / (high - low), 0, 1), interpolation="nearest")
    frame(axes, edge)
    return drawn


def frame(axes, edge=None):
    """Take the ticks off and draw the frame, in the colour `edge` if given."""
    axes.set_xticks([])
    axes.set_yticks([])
    for spine in axes.spines.values():
        spine.set(visible=True, linewidth=1.6 if edge else 0.4, edgecolor=edge or "#888888")


def check_texts(texts: Sequence | None, n: int, name: str) -> None:
    """Refuse a list of texts of another length than the samples it is for."""
    if texts is not None and len(texts) != n:
        raise InvalidInput(f"`{name}` holds {len(texts)} entries for {n} samples.")


class ImageGrid(Display):
    """A table of pictures with labels on rows and columns, such as each trigger on a few samples.

    Parameters
    ----------
    pictures : ndarray of shape (n, height, width, channels)
        Row by row.
    ncols : int
    value_range : tuple of float, default=(0, 1)
        Black and white.
    captions, row_labels, column_labels : sequence of str, optional
        Under each picture, left of each row, above each column.

    Attributes
    ----------
    images_ : list of AxesImage
    ax_ : ndarray of Axes
    figure_
    """

    def __init__(self, *, pictures, ncols, value_range=(0.0, 1.0), captions=None, row_labels=None, column_labels=None):
        self.pictures = pictures
        self.ncols = ncols
        self.value_range = value_range
        self.captions = captions
        self.row_labels = row_labels
        self.column_labels = column_labels

    @classmethod
    def from_images(
        cls, images, *, image_shape=None, ncols=None, value_range=(0.0, 1.0), captions=None, row_labels=None,
        column_labels=None, ax=None, **plot_kw,
    ):  # fmt: skip
        """Draw images given as rows, (n, height, width), or (n, channels, height, width).

        Parameters
        ----------
        images : ndarray
        image_shape : tuple (channels, height, width), optional
            Needed for rows of colour images.
        ncols : int, optional
            By default as many as there are column labels, else at most 8.
        value_range : tuple of float, default=(0, 1)
        captions, row_labels, column_labels : sequence of str, optional
        ax : sequence of Axes, optional
            One an image.
        **plot_kw
            Passed to `plot`.

        Returns
        -------
        ImageGrid
        """
        pictures = to_pictures(images, image_shape=image_shape)
        if not len(pictures):
            raise InvalidInput("`images` holds no image.")
        ncols = ncols or (len(column_labels) if column_labels is not None else min(8, len(pictures)))
        nrows = -(-len(pictures) // ncols)
        wanted = (("captions", captions, len(pictures)), ("row_labels", row_labels, nrows))
        for name, given, need in (*wanted, ("column_labels", column_labels, ncols)):
            if given is not None and len(given) != need:
                raise InvalidInput(f"`{name}` holds {len(given)} texts where the grid needs {need}.")
        display = cls(
            pictures=pictures,
            ncols=ncols,
            value_range=value_range,
            captions=captions,
            row_labels=row_labels,
            column_labels=column_labels,
        )
        return display.plot(ax=ax, **plot_kw)

    def plot(self, ax=None, *, width=COLUMN) -> "ImageGrid":
        """Draw into `ax`, one Axes an image, or into a new figure of `width` inches; return itself."""
        n, ncols = len(self.pictures), self.ncols
        nrows = -(-n // ncols)
        with local(ax):
            if ax is None:
                cell = width / ncols
                _, tall, wide, _ = self.pictures.shape
                height = nrows * (cell * tall / wide + (0.17 if self.captions else 0.0)) + 0.2
                self.figure_ = Figure(figsize=(width, height), layout="constrained")
                self.figure_.get_layout_engine().set(w_pad=0.03, h_pad=0.02, wspace=0.0, hspace=0.0)
                self.ax_ = self.figure_.subplots(nrows, ncols, squeeze=False)
                flat = list(self.ax_.ravel())
                for spare in flat[n:]:
                    spare.remove()
            else:
                flat = take_axes(ax, n, "this image grid")
                self.figure_, self.ax_ = flat[0].figure, ax
            self.images_ = [
                show(axes, p, value_range=self.value_range) for axes, p in zip(flat, self.pictures, strict=False)
            ]
            for i in range(n):
                if self.captions is not None:
                    flat[i].set_xlabel(self.captions[i], fontsize=6.5, labelpad=2)
                if self.row_labels is not None and i % ncols == 0:
                    flat[i].set_ylabel(self.row_labels[i // ncols], fontsize=7.5)
                if self.column_labels is not None and i < ncols:
                    flat[i].set_title(self.column_labels[i], fontsize=7.5)
        return self
