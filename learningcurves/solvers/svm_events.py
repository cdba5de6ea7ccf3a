"""One event after another along beta: where the next sample enters or leaves the margin set (theory, section 5.3)."""

from dataclasses import dataclass

import numpy as np

from learningcurves.solvers.dual import LOWER, MARGIN, UPPER, intercept_interval
from learningcurves.solvers.svm_point import PathPoint

ZERO_STEPS = 400  # events at one beta after which ties count as unresolved
BLAND_AFTER = 25  # from here on the lowest index decides among ties
ZERO_LENGTH = 1e-13  # steps in beta below this share of beta are ties
TIE = 1e-11  # slack in the margin that counts as being on it


@dataclass
class Event:
    """What ends a linear piece: `sample` at `position` of S (or -1: it enters) moves to `target`, after `length`."""

    length: float
    sample: int
    position: int
    target: int


class Tracer(PathPoint):
    """A point that moves along the path from piece to piece."""

    n_zero, stood = 0, False  # moves of length zero in a row; whether the last was one
    traded = False  # whether weight was traded along a null direction since the scores were computed afresh

    def load(self, solution, beta: float):
        """Take over a solution at `beta`."""
        self.n_zero = 0
        super().load(solution, beta)

    def next_event(self, beta_max=np.inf) -> Event | None:
        """Return the nearest event ahead, or None where the present piece never ends.

        A long piece carries the misfit of its direction far: it is refined first.
        """
        event = self._nearest_event()
        while True:
            length = beta_max - self.beta if event is None else min(event.length, beta_max - self.beta)
            if not np.isfinite(length) or self.misfit * length <= 1e-12 or not self.refine():
                return event
            event = self._nearest_event()

    def _nearest_event(self):
        slack = self.signed * self.f - self.side
        speed = self.signed * self.df
        close = (slack <= TIE) & (self.side != 0)
        if close.any():  # a sample on the margin that does not move is no event; rounding must not make it one
            speed[close & (speed >= -self._noise() - 4.0 * self.misfit)] = 0.0
        lengths = margin_lengths(slack, speed)
        entering = int(np.argmin(lengths))
        length, position, target = float(lengths[entering]), -1, MARGIN
        leaving, inside = None, self._leaving()
        if inside is not None:
            leaving = inside
            if leaving[0] <= length:
                length, position, target = leaving
        if self.n_zero > BLAND_AFTER and self.is_tie(length):
            return self._lowest_index(lengths)
        if not np.isfinite(length):
            return None
        sample = int(self.rows.index[position]) if position >= 0 else entering
        return Event(length, sample, position, target)

    def _inside_lengths(self):
        S = self.rows.index
        bound = self.base[S] + self.beta * self.rate[S]
        return weight_lengths(self.y[S] * self.v[S], self.y[S] * self.dv, bound, self.rate[S])

    def _leaving(self):
        if len(self.rows) == 0:
            return None
        down, up = self._inside_lengths()
        i, j = int(np.argmin(down)), int(np.argmin(up))
        return (float(down[i]), i, LOWER) if down[i] <= up[j] else (float(up[j]), j, UPPER)

    def _lowest_index(self, lengths) -> Event:
        """Bland's rule among the events of length zero."""
        zero = self.tie_length()
        choices = [(int(k), -1, MARGIN) for k in np.flatnonzero(lengths <= zero)[:1]]
        if len(self.rows):
            down, up = self._inside_lengths()
            S = self.rows.index
            choices += [(int(S[p]), int(p), LOWER) for p in np.flatnonzero(down <= zero)]
            choices += [(int(S[p]), int(p), UPPER) for p in np.flatnonzero(up <= zero)]
        sample, position, target = min(choices)
        return Event(0.0, sample, position, target)

    def tie_length(self) -> float:
        """Longest step in beta within which nothing moves by more than rounding: events at its ends are one tie."""
        return tie_length(self.beta, self.df, self.dv, self.largest)

    def is_tie(self, length) -> bool:
        """Whether a step of this length counts as none."""
        return length <= self.tie_length()

    def move(self, length):
        """Go along the direction; the sets stay."""
        self.stood = self.is_tie(length)
        self.n_zero = self.n_zero + 1 if self.stood else 0
        if length > 0.0:
            self.v += length * self.q
            self.v[self.rows.index] += length * self.dv
            self.f += length * self.df
            self.b += length * self.db
            self.beta += length
            self.drift += length * (self._noise() / 64 + self.misfit)

    def switch(self, event: Event) -> bool:
        """Let the event's sample change its set, and turn; False where the ties or a null direction do not resolve."""
        if event.position >= 0:
            self._leave(event.position, event.target)
            if self.free and len(self.rows) == 0:
                self._seed()
        else:
            before = len(self.rows)
            if not self._enter(event.sample):
                return False
            self.traded = len(self.rows) == before  # weight, at scores that are constant up to a distance that is small
            self.n_zero += self.traded
        self.turn()
        return self.n_zero < ZERO_STEPS

    def opens(self, event) -> bool:
        """Whether the optimal intercepts ahead, before `event`, form an interval."""
        if not self.pinned():
            return False
        length = 0.5 * (event.length if event is not None else 1.0)
        S = self.rows.index
        upper, sets = self.upper(self.beta + length), self.sets.copy()
        sets[S] = np.where(self.y[S] * self.v[S] > 0.5 * self.upper()[S], UPPER, LOWER)
        g = self.f - self.b + length * (self.df - self.db)
        low, high = intercept_interval(self.y, g, sets, self.live & ((upper > 0) | (self.rate > 0)))
        return high - low > 1e-9 * max(1.0, abs(self.b))

    def pinned(self) -> bool:
        """Whether every sample of S sits still at a bound, so that b is one end of an interval."""
        if not self.free:
            return False
        S = self.rows.index
        if len(S) != 1:
            return len(S) == 0
        alpha, speed = float(self.y[S[0]] * self.v[S[0]]), float(self.y[S[0]] * self.dv[0])
        bound, growth = float(self.upper()[S[0]]), float(self.rate[S[0]])
        small = 1e-12 * (float(np.abs(self.q).sum()) + growth)
        at_zero = alpha <= 1e-14 * bound and abs(speed) <= small
        return at_zero or (alpha >= bound * (1 - 1e-14) and abs(speed - growth) <= small)


def tie_length(beta, df, dv, largest) -> float:
    """Longest step in beta that moves no margin, and no weight relative to the `largest` bound, beyond rounding."""
    size = max(float(np.abs(df).max(initial=0.0)), float(np.abs(dv).max(initial=0.0)) / largest)
    return max(ZERO_LENGTH * beta, TIE / size if size > 0 else np.inf)


def margin_lengths(slack, speed):
    """Return the beta ahead at which samples outside S reach the margin, given how far off they are and how fast that changes."""
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        return np.where(speed < 0, np.maximum(slack, 0.0) / -speed, np.inf)


def weight_lengths(alpha, speed, bound, growth):
    """Return the beta ahead at which the weights of S reach 0, and their (growing) bounds."""
    gain = speed - growth
    still = 1e-13 * float(np.abs(speed).max(initial=0.0))
    with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
        down = np.where(speed < -still, np.maximum(alpha, 0.0) / -speed, np.inf)
        up = np.where(gain > still, np.maximum(bound - alpha, 0.0) / gain, np.inf)
    return down, up
