"""The fallback that cannot cycle: a primal active-set method on the dual, whose objective rises at every step."""

import numpy as np

from learningcurves.errors import Status
from learningcurves.solvers.dual import LOWER, MARGIN, UPPER
from learningcurves.solvers.margin_factor import EPS, MarginInverse, independent_subset


def primal_active_set(state, upper) -> Status:
    """Solve the dual from a feasible point near ``state.v``; leaves the solution in `state` (a `DualState`).

    Each round moves v_S towards the solution for the present sets, as far as the bounds allow; the first sample to
    meet a bound leaves S. When the solution is reached, the most misplaced sample joins. A sample that depends on S
    moves along the null direction instead, at constant scores, until some sample meets a bound. After several steps
    of length zero the lowest index decides (Bland), so that no set returns.
    """
    method = _Method(state, upper)
    return method.run()


class _Method:
    def __init__(self, state, upper):
        self.state, self.upper, self.y = state, upper, state.y
        self.live = upper > 0
        self.idle_steps = 0
        alpha = feasible(self.y, upper, state)
        state.v = self.y * alpha
        state.g = state.kernel.dot(state.v)
        inside = self.live & (alpha > 0) & (alpha < upper)
        state.sets = np.where(inside, MARGIN, np.where((alpha > 0) & self.live, UPPER, LOWER)).astype(np.int8)
        self.rows = state.kernel.margin
        self.rows.select(inside)
        self.waiting = []
        if len(self.rows):
            kept = independent_subset(self.rows.square(), state.free)
            self.waiting = np.delete(self.rows.index, kept).tolist()
            inside[self.waiting] = False
            self.rows.select(inside)
        self.inverse = MarginInverse(self.rows, state.free)

    def run(self) -> Status:
        for _ in range(20 * len(self.y) + 1_000):
            self.state.n_steps += 1
            if self.waiting:  # interior samples that depend on S: to a bound, or into S in place of another
                status = self._join(self.waiting.pop(), direction=0)
            elif not self._settle():
                continue
            else:
                entering = self._most_misplaced()
                if entering is None:
                    return self._done()
                status = self._join(*entering)
            if not status.ok:
                return status
        return self._done(Status.MAX_STEPS)

    def _done(self, status=Status.OK):
        state = self.state
        state.factor, state.order, state.solved = None, None, None
        state.interval = (state.b, state.b)
        return status

    def _settle(self) -> bool:
        """Move to the solution for the present S; False where a bound stopped the move (and S lost a sample)."""
        state = self.state
        while True:
            S = self.rows.index
            if len(S) == 0:
                if not state.free:
                    state.b = 0.0
                    return True
                if not self._seed():
                    return True
                S = self.rows.index
            if self.inverse.n_updates > 200:
                self.inverse.rebuild()
            step, b = self.inverse.solve(self.y[S] - state.g[S], -state.imbalance())
            length, position = self._ratio(S, step, 1.0)
            self._advance(S, step, length)
            if position is None:
                state.b = b
                off = float(np.abs(self.y[S] - state.g[S] - b).max(initial=0.0))
                if off <= 4 * state.slack() or self._refined(off):
                    return True
                return False
            self._leave(position)
            self.idle_steps = self.idle_steps + 1 if length * float(np.abs(step).max()) <= self._noise() else 0
            return False

    def _refined(self, off):
        """Whether the margins of S are as good as the inverse can make them: rebuild it once before giving in."""
        if self.inverse.n_updates:
            if not self.inverse.rebuild():
                return True
            return False
        self._stalled = getattr(self, "_stalled", 0) + 1
        return self._stalled % 4 == 0

    def _noise(self):
        return 16 * EPS * float(self.upper.max(initial=0.0))

    def _seed(self) -> bool:
        """With S empty and a free intercept: put the sample in S that limits b (its weight need not move)."""
        kinks = self.y - self.state.g
        sets = self.state.sets
        rising = self.live & np.where(self.y > 0, sets == LOWER, sets == UPPER)
        falling = self.live & np.where(self.y > 0, sets == UPPER, sets == LOWER)
        for group, pick in ((rising, np.argmax), (falling, np.argmin)):
            members = np.flatnonzero(group)
            if len(members):
                sample = int(members[pick(kinks[members])])
                self.state.sets[sample] = MARGIN
                self.inverse.add(sample, *self.inverse.dependence(sample)[:2])
                return True
        self.state.b = 0.0
        return False

    def _advance(self, S, step, length):
        if length == 0.0:
            return
        self.state.v[S] += length * step
        self.state.g += self.rows.times(length * step)

    def _ratio(self, S, step, longest):
        """Longest move along `step` within the bounds, and the position that stops it."""
        alpha, rate = self.y[S] * self.state.v[S], self.y[S] * step
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            room = np.where(rate < 0, alpha / -rate, np.where(rate > 0, (self.upper[S] - alpha) / rate, np.inf))
        room = np.maximum(room, 0.0)
        if not len(room) or room.min() >= longest:
            return longest, None
        first = float(room.min())
        ties = np.flatnonzero(room <= first * (1 + 1e-12))
        position = ties[np.argmin(S[ties])] if self.idle_steps > 10 else int(np.argmin(room))
        return first, int(position)

    def _leave(self, position):
        state, sample = self.state, int(self.rows.index[position])
        above = self.y[sample] * state.v[sample] > 0.5 * self.upper[sample]
        target = self.y[sample] * self.upper[sample] if above else 0.0
        if state.v[sample] != target:  # a rest of rounding
            state.g += (target - state.v[sample]) * state.kernel.rows([sample])[0]
            state.v[sample] = target
        state.sets[sample] = UPPER if above else LOWER
        self.inverse.remove(position)

    def _most_misplaced(self):
        state = self.state
        error = 1.0 - self.y * (state.g + state.b)
        wrong = np.where(state.sets == UPPER, -error, error)
        wrong[(state.sets == MARGIN) | ~self.live] = -np.inf
        slack = state.slack()
        if wrong.max(initial=-np.inf) <= slack:
            return None
        sample = int(np.flatnonzero(wrong > slack)[0] if self.idle_steps > 10 else np.argmax(wrong))
        return sample, 1.0 if state.sets[sample] == LOWER else -1.0

    def _join(self, sample, direction) -> Status:
        """Let a sample into S; where it depends on S, first move along the null direction (alpha by `direction`)."""
        state = self.state
        u, distance, limit = self.inverse.dependence(sample)
        if distance < -1e5 * limit:
            return Status.INDEFINITE
        if distance > limit:
            state.sets[sample] = MARGIN
            self.inverse.add(sample, u, distance)
            return Status.OK
        S = self.rows.index.copy()
        error = self.y[sample] * (1.0 - self.y[sample] * (state.g[sample] + state.b))
        if direction == 0:  # either way is level; uphill if the scores say so
            direction = 1.0 if self.y[sample] * error >= 0 else -1.0
        move = self.y[sample] * direction
        both = np.append(S, sample)
        step = np.append(-move * u, move)
        length, position = self._ratio(both, step, np.inf)
        if position is None:
            return Status.INDEFINITE
        if length > 0.0:
            change = np.zeros(len(self.y))
            change[both] = length * step
            state.v += change
            state.g += state.kernel.quick_dot(change)
        self.idle_steps = self.idle_steps + 1 if length <= self._noise() else 0
        if position == len(S):  # the sample itself reached its other bound
            state.sets[sample] = UPPER if direction > 0 else LOWER
            target = self.y[sample] * self.upper[sample] if direction > 0 else 0.0
            state.g += (target - state.v[sample]) * state.kernel.rows([sample])[0]
            state.v[sample] = target
            return Status.OK
        self._leave(position)
        return self._join_after_exchange(sample)

    def _join_after_exchange(self, sample):
        state = self.state
        u, distance, limit = self.inverse.dependence(sample)
        if distance > limit:
            state.sets[sample] = MARGIN
            self.inverse.add(sample, u, distance)
        else:  # still dependent on what is left (rounding): wait for the next null move
            self.waiting.append(sample)
        return Status.OK


def feasible(y, upper, state) -> np.ndarray:
    """Return alpha within its bounds and, for a free intercept, balanced: as near the present point as is cheap."""
    alpha = np.clip(y * state.v, 0.0, upper)
    if not state.free:
        return alpha
    total = float(y @ alpha)
    heavy = np.flatnonzero((y == np.sign(total)) & (alpha > 0))
    if total == 0.0 or not len(heavy):
        return alpha
    # take from the margin samples first, then from the rest; what is taken in all equals the excess
    order = heavy[np.argsort(state.sets[heavy] != MARGIN, kind="stable")]
    taken = np.clip(abs(total) - (np.cumsum(alpha[order]) - alpha[order]), 0.0, alpha[order])
    alpha[order] -= taken
    return np.maximum(alpha, 0.0)
