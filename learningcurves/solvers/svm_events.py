r"""One event after another along beta: where the next sample enters or leaves the margin set.

Between two events v, b and f are linear in beta. With q the speed of the bounded samples (rate_j y_j on U),

.. math:: \begin{pmatrix} K_{SS} & 1 \\ 1^\top & 0 \end{pmatrix} \begin{pmatrix} \dot v_S \\ \dot b \end{pmatrix}
          = -\begin{pmatrix} K_{SU} q \\ \textstyle\sum q \end{pmatrix}, \qquad
          \dot f = K_{\cdot S}\dot v_S + K_{\cdot U} q + \dot b

(docs/theory.md, section 5).
"""

from dataclasses import dataclass

import numpy as np

from learningcurves.errors import Status
from learningcurves.solvers.dual import LOWER, MARGIN, UPPER, DualSolution, intercept_interval
from learningcurves.solvers.kernel_rows import KernelRows
from learningcurves.solvers.margin_factor import EPS, MarginInverse, independent_subset
from learningcurves.solvers.margin_rows import MarginRows

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


class Tracer:
    """A point on the path, its direction, and the moves from piece to piece.

    Parameters
    ----------
    kernel : KernelRows
    y, rate : ndarray (N,)
        Labels +1 / -1; growth of the bounds in beta (0 for clean samples).
    solution : DualSolution
        The solution at `beta`.
    free_intercept : bool
    beta : float
    """

    def __init__(self, kernel: KernelRows, y, rate, solution: DualSolution, *, free_intercept: bool, beta=0.0):
        self.kernel, self.y, self.rate, self.free = kernel, y, rate, free_intercept
        self.rows = MarginRows(kernel)
        self.top = float(kernel.roots.max(initial=0.0))
        self.stood = False
        self.load(solution, beta)

    def load(self, solution: DualSolution, beta: float):
        """Take over a solution at `beta`."""
        self.beta, self.n_zero = beta, 0
        self.base = solution.upper - beta * self.rate
        self.largest = float(solution.upper.max(initial=0.0)) or 1.0
        self.v, self.f, self.b = solution.v.copy(), solution.f.copy(), solution.b
        self.sets = solution.sets.copy()
        self.live = (solution.upper > 0) | (self.rate > 0)
        self.status, self.drift = Status.OK, 0.0  # drift: rounding gathered in f since it was computed afresh
        self.rows.select(self.sets == MARGIN)
        self.inverse = MarginInverse(self.rows, self.free)
        self.frozen = np.empty(0, dtype=np.intp)
        if len(self.rows) and not self.inverse.regular:
            self._freeze_dependent()
        self.refresh_speed()
        self._sides()
        if self.free and len(self.rows) == 0:
            self._seed()
        self.turn()

    def refresh_speed(self):
        """Compute the part of df that comes from the bounded samples afresh."""
        self.q = np.where(self.sets == UPPER, self.rate * self.y, 0.0)
        self.n_moving = int(np.count_nonzero(self.q))
        self.push = float(np.linalg.norm(self.q))
        self.h = self.kernel.dot(self.q) if self.n_moving else np.zeros(len(self.y))

    def _freeze_dependent(self):
        """Solve with an independent part of S; the others keep their weight (their scores cannot move)."""
        index = self.rows.index.copy()
        kept = independent_subset(self.rows.square(), self.free)
        self.frozen = np.delete(index, kept)
        members = np.zeros(len(self.y), dtype=bool)
        members[index[kept]] = True
        self.rows.select(members)
        self.inverse = MarginInverse(self.rows, self.free)

    def _sides(self):
        # +1 on L, -1 on U, 0 where the margin brings no event
        self.side = np.where(self.sets == LOWER, 1.0, np.where(self.sets == UPPER, -1.0, 0.0)) * self.live
        self.signed = self.side * self.y

    def upper(self, beta=None):
        """Bounds at `beta` (the present one by default)."""
        return np.maximum(self.base + (self.beta if beta is None else beta) * self.rate, 0.0)

    # -- direction -------------------------------------------------------------------------------------------------

    def turn(self):
        """Find the direction for the present sets: dv_S, db, df."""
        S, total = self.rows.index, float(self.q.sum()) if self.free else 0.0
        if len(S) == 0:
            self.dv, self.db, self.df, self.misfit = np.empty(0), 0.0, self.h, 0.0
            return
        self.dv, self.db = self.inverse.solve(-self.h[S], -total)
        self.df = self.h + self.rows.times(self.dv) + self.db
        self.misfit = float(np.abs(self.df[S]).max())
        size = float(np.abs(self.h[S]).max()) + abs(self.db)
        if self.misfit > 1e-8 * size and self.inverse.n_updates and self.inverse.rebuild():
            self.dv, self.db = self.inverse.solve(-self.h[S], -total)
            self.df = self.h + self.rows.times(self.dv) + self.db
            self.misfit = float(np.abs(self.df[S]).max())
        if self.misfit > 1e-11 * size:
            self.refine()

    def refine(self) -> bool:
        """Take the misfit out of the direction; False where that did not help."""
        S = self.rows.index
        if len(S) == 0:
            return False
        correction, db = self.inverse.solve(-self.df[S], 0.0)
        better = self.df + self.rows.times(correction) + db
        misfit = float(np.abs(better[S]).max())
        if misfit > 0.5 * self.misfit:
            return False
        self.dv, self.db, self.df, self.misfit = self.dv + correction, self.db + db, better, misfit
        return True

    def full_direction(self):
        """Return dv over all samples."""
        dv = self.q.copy()
        dv[self.rows.index] = self.dv
        return dv

    def speed_scale(self) -> float:
        """Size of the terms that df is a sum of."""
        return self.top**2 * (float(np.sqrt(self.dv @ self.dv)) + self.push) + abs(self.db)

    def _noise(self):
        return 64 * EPS * self.speed_scale()

    # -- events ----------------------------------------------------------------------------------------------------

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
        elif not self._enter(event.sample):
            return False
        self.turn()
        return self.n_zero < ZERO_STEPS

    def _place(self, sample, target):
        """Change the set of one sample and everything that is a sum over U."""
        before = self.sets[sample]
        if self.rate[sample] > 0 and UPPER in (before, target):
            speed = self.rate[sample] * self.y[sample]
            change = speed if target == UPPER else -speed
            self.q[sample] = speed if target == UPPER else 0.0
            self.h = self.h + change * self._row(sample)
            self.n_moving += 1 if target == UPPER else -1
            self.push = float(np.sqrt(self.q @ self.q))
            if self.n_moving == 0:  # no rest of rounding may keep the path moving
                self.h = np.zeros(len(self.y))
        self.sets[sample] = target
        self.side[sample] = 1.0 if target == LOWER else -1.0 if target == UPPER else 0.0
        self.signed[sample] = self.side[sample] * self.y[sample]

    def _row(self, sample):
        return self.kernel.rows([sample])[0]

    def _leave(self, position, target):
        sample = int(self.rows.index[position])
        bound = max(self.base[sample] + self.beta * self.rate[sample], 0.0) if target == UPPER else 0.0
        self.v[sample] = self.y[sample] * bound
        self.inverse.remove(position)
        self._place(sample, target)

    def _enter(self, sample) -> bool:
        u, distance, limit = self.inverse.dependence(sample)
        if distance > limit:
            self._place(sample, MARGIN)
            self.inverse.add(sample, u, distance)
            return True
        if distance < -1e5 * limit:
            self.status = Status.INDEFINITE
            return False
        return self._null_move(sample, u)

    def _null_move(self, sample, u) -> bool:
        """Trade weight between a sample and the S it depends on, at constant scores, until a bound is met."""
        inward = self.y[sample] * (1.0 if self.sets[sample] == LOWER else -1.0)
        S, upper = np.append(self.rows.index, sample), self.upper()
        step = np.append(-inward * u, inward)
        alpha, speed = self.y[S] * self.v[S], self.y[S] * step
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            room = np.where(speed < 0, alpha / -speed, np.where(speed > 0, (upper[S] - alpha) / speed, np.inf))
        room[np.abs(speed) <= 1e-12] = np.inf
        position = int(np.argmin(room))
        if not np.isfinite(room[position]):
            self.status = Status.INDEFINITE
            return False
        length = max(float(room[position]), 0.0)
        self.v[S] += length * step
        self.n_zero += 1
        target = UPPER if speed[position] > 0 else LOWER
        if position == len(S) - 1:
            bound = upper[sample] if target == UPPER else 0.0
            self.v[sample] = self.y[sample] * bound
            self._place(sample, target)
            return True
        self._leave(position, target)
        u, distance, limit = self.inverse.dependence(sample)
        if distance <= limit:
            self.status = Status.SINGULAR
            return False
        self._place(sample, MARGIN)
        self.inverse.add(sample, u, distance)
        return True

    def _seed(self):
        """With S empty b is an interval: go to the end from which v can move as sum q asks, and take its sample in S.

        That sample sits at its bound; where sum q = 0 it stays there, and b follows its score.
        """
        upper, total = self.upper(), float(self.q.sum())
        kinks = self.y - (self.f - self.b)
        live = self.live & ((upper > 0) | (self.rate > 0))
        rising = live & np.where(self.y > 0, self.sets == LOWER, self.sets == UPPER)
        falling = live & np.where(self.y > 0, self.sets == UPPER, self.sets == LOWER)
        ends = [(falling, np.argmin), (rising, np.argmax)]
        small = 1e-12 * float(np.abs(self.q).sum())
        for group, pick in ends if total > small or abs(total) <= small and falling.any() else ends[::-1]:
            members = np.flatnonzero(group)
            if len(members):
                sample = int(members[pick(kinks[members])])
                jump = float(kinks[sample]) - self.b
                self.f, self.b = self.f + jump, self.b + jump
                u, distance, _ = self.inverse.dependence(sample)
                self._place(sample, MARGIN)
                self.inverse.add(sample, u, distance)
                return

    def rounding(self) -> float:
        """Violations below this are rounding of f."""
        return 16 * EPS * (self.top * float(np.linalg.norm(self.kernel.roots * self.v)) + abs(self.b))

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
