"""Counters that all processes of the gateway share: a mapping made before the first fork, written without locks.

Theory. The mapping is cut into parts, one for each process: 0 the supervisor's, then those of the workers (more than there
are, for workers that are added later), then the controller's. A part has a directory, which says what stands where, and
slots. A slot is 8 bytes that lie on a multiple of 8, one double: a count is exact up to 2^53. Whoever reads sums over the parts.

Invariants
* One writer. A part is written by the process that took it (`Table.part`), and by nobody else while that one lives. So an
  increment needs no lock and no atomic addition: the writer knows the value and stores the next one. When the process is
  dead and reaped, its successor takes the part over, or the supervisor clears its gauges.
* No torn reads. A memoryview of doubles copies an item with one aligned load or store of 8 bytes, which the
  processors we run on (x86-64, ARMv8) make indivisible. A reader sees the value before or after an increment.
* A histogram's buckets and its sum are several slots, so a reader may see an observation in one and not yet in the other. Its
  count is made from the buckets that were read and always agrees with them; the sum may lack the observations of that moment.
* The directory only grows. An entry is written first and then published by storing the directory's new size, again one slot.
  Another processor may see these two in the other order: an entry carries a checksum, and a reader that finds it wrong stops
  there and finds it right the next time. A process killed in between has published nothing, and its successor writes over it.
* Nothing runs full. A metric has at most `Metric.series` series in a part, and one for all that come later; the parts
  are as large as all of these together. Memory is taken by pages that were touched, not by what could be.

Because entries name what they hold, a reader needs the catalogue and nothing else, and a reload needs no coordination.
"""

from __future__ import annotations

import mmap
import struct
import zlib
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isnan, nan

from edge.observe.metrics import METRICS, OTHER, Kind, Metric

__all__ = ["CONTROLLER", "SUPERVISOR", "Cell", "Counters", "Gauge", "Histogram", "Sample", "Table", "totals"]

SUPERVISOR, CONTROLLER = 0, -1  # their parts
_WORKERS = 64  # parts of workers at least
_LABEL = 128  # most bytes of a label's value
_ENTRY = struct.Struct("<HI")  # bytes of the text that follows, and their CRC-32
_SEPARATOR = "\0"

_Labels = tuple[str, ...]
_Key = tuple[str, _Labels]


class Cell:
    """One series that grows. Only one of it may be in use, since it remembers its value: `Counters` sees to that."""

    __slots__ = ("_slot", "value")

    def __init__(self, slot: memoryview[float]) -> None:
        self._slot = slot
        self.value = slot[0]

    def add(self, amount: float = 1.0) -> None:
        self.value = self._slot[0] = self.value + amount


class Gauge(Cell):
    """One series that goes up and down."""

    __slots__ = ()

    def set(self, value: float) -> None:
        self.value = self._slot[0] = value

    def clear(self) -> None:
        """What it measured is no more: nobody reads it until it is set again."""
        self.set(nan)


class Histogram:
    """Observations by bucket. Its slots: one a bucket, one for what is beyond them, the sum."""

    __slots__ = ("_bounds", "_counts", "_slots", "_sum")

    def __init__(self, slots: memoryview[float], bounds: tuple[float, ...]) -> None:
        self._slots = slots
        self._bounds = bounds
        self._counts = list(slots[:-1])
        self._sum = slots[-1]

    def observe(self, value: float) -> None:
        at = bisect_left(self._bounds, value)
        counts = self._counts
        slots = self._slots
        counts[at] = slots[at] = counts[at] + 1.0
        self._sum = slots[-1] = self._sum + value

    def observe_all(self, values: Sequence[float]) -> None:
        """Many at once, at a third of the cost: sorted, so that the few bounds are sought among them and not each among the
        bounds.
        """
        if len(values) == 1:
            self.observe(values[0])
            return
        values = sorted(values)
        bounds, counts, slots = self._bounds, self._counts, self._slots
        last, at, done = len(bounds), 0, 0
        while done < len(values):
            upto = bisect_right(values, bounds[at]) if at < last else len(values)
            if upto > done:
                counts[at] = slots[at] = counts[at] + (upto - done)
                done = upto
            at += 1
        self._sum = slots[-1] = self._sum + sum(values)


@dataclass(slots=True)
class Sample:
    """One series, summed over the processes."""

    metric: Metric
    labels: _Labels
    value: float  # a histogram's: the number of observations
    buckets: list[float]  # a histogram's: observations in each, the last is without a bound
    sum: float  # of what a histogram observed


class _Part:
    """Where one process's part lies. `used` is the slot that publishes the directory's size."""

    __slots__ = ("directory", "slots", "used")

    def __init__(self, used: memoryview[float], directory: memoryview[int], slots: memoryview[float]) -> None:
        self.used = used
        self.directory = directory
        self.slots = slots


class _Walk:
    """How far the directory of a part has been read."""

    __slots__ = ("_metrics", "_part", "end", "slot")

    def __init__(self, part: _Part, metrics: Mapping[str, Metric]) -> None:
        self._part = part
        self._metrics = metrics
        self.end = 0  # byte of the directory
        self.slot = 0

    def entries(self) -> Iterator[tuple[Metric, _Labels, int]]:
        """The entries that are new since the last time: metric, labels, first slot."""
        directory, used = self._part.directory, int(self._part.used[0])
        while self.end < used:
            length, check = _ENTRY.unpack_from(directory, self.end)
            start = self.end + _ENTRY.size
            text = bytes(directory[start : start + length])
            if not length or zlib.crc32(text) != check:
                return
            name, *labels = text.decode().split(_SEPARATOR)
            metric = self._metrics[name]
            at = self.slot
            self.end, self.slot = start + length, at + _width(metric)
            yield metric, tuple(labels), at


class Counters:
    """One process's part, and the only way to write to it. Ask once for each series and keep what is returned."""

    __slots__ = ("_metrics", "_part", "_places", "_series", "_sizes", "_walk", "index")

    def __init__(self, index: int, part: _Part, metrics: Mapping[str, Metric]) -> None:
        self.index = index
        self._metrics = metrics
        self._part = part
        self._walk = _Walk(part, metrics)
        self._places: dict[_Key, int] = {}
        self._sizes = dict.fromkeys(metrics, 0)
        self._series: dict[_Key, Cell | Histogram] = {}
        for metric, labels, at in self._walk.entries():
            self._places[metric.name, labels] = at
            self._sizes[metric.name] += 1
            if metric.kind is Kind.GAUGE:
                part.slots[at] = nan
        part.used[0] = self._walk.end

    def counter(self, name: str, *values: object) -> Cell:
        """The series of counter `name` with these values of its labels. Goes on from where a predecessor ended."""
        key = self._key(name, values, Kind.COUNTER)
        known = self._series.get(key)
        if known is None:
            at = self._place(key)
            known = self._series[key] = Cell(self._part.slots[at : at + 1])
        assert isinstance(known, Cell)
        return known

    def gauge(self, name: str, *values: object) -> Gauge:
        """The series of gauge `name` with these values of its labels. It is 0 at first."""
        key = self._key(name, values, Kind.GAUGE)
        known = self._series.get(key)
        if known is None:
            at = self._place(key)
            self._part.slots[at] = 0.0
            known = self._series[key] = Gauge(self._part.slots[at : at + 1])
        assert isinstance(known, Gauge)
        return known

    def histogram(self, name: str, *values: object) -> Histogram:
        """The series of histogram `name` with these values of its labels."""
        key = self._key(name, values, Kind.HISTOGRAM)
        known = self._series.get(key)
        if known is None:
            metric, at = self._metrics[name], self._place(key)
            known = self._series[key] = Histogram(self._part.slots[at : at + _width(metric)], metric.buckets)
        assert isinstance(known, Histogram)
        return known

    def _key(self, name: str, values: tuple[object, ...], kind: Kind) -> _Key:
        metric = self._metrics[name]
        if metric.kind is not kind or len(values) != len(metric.labels):
            raise TypeError(f"{name} is a {metric.kind} with the labels {metric.labels}")
        key = name, tuple(_label(value) for value in values)
        if key not in self._places and self._sizes[name] >= metric.series:
            return name, (OTHER,) * len(values)
        return key

    def _place(self, key: _Key) -> int:
        """The first slot of a series; a new one gets its entry in the directory."""
        at = self._places.get(key)
        if at is not None:
            return at
        name, labels = key
        text = _SEPARATOR.join((name, *labels)).encode()
        walk = self._walk
        start, at = walk.end, walk.slot
        body = start + _ENTRY.size
        _ENTRY.pack_into(self._part.directory, start, len(text), zlib.crc32(text))
        self._part.directory[body : body + len(text)] = text
        walk.end, walk.slot = body + len(text), at + _width(self._metrics[name])
        self._part.used[0] = walk.end
        self._places[key] = at
        self._sizes[name] += 1
        return at


class Table:
    """The mapping and all its parts."""

    __slots__ = ("_known", "_metrics", "_parts", "_walks")

    def __init__(self, processes: int, metrics: Mapping[str, Metric]) -> None:
        directory = _whole_pages(sum(_most(metric) * _entry_size(metric) for metric in metrics.values()))
        slots = _whole_pages(8 * sum(_most(metric) * _width(metric) for metric in metrics.values()))
        head = _whole_pages(8 * processes)
        memory = memoryview(mmap.mmap(-1, head + processes * (directory + slots), flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS))
        sizes = memory[:head].cast("d")
        self._metrics = metrics
        self._parts = []
        for index in range(processes):
            start = head + index * (directory + slots)
            middle, end = start + directory, start + directory + slots
            self._parts.append(_Part(sizes[index : index + 1], memory[start:middle], memory[middle:end].cast("d")))
        self._walks = [_Walk(part, metrics) for part in self._parts]
        self._known: list[list[tuple[Metric, _Labels, int]]] = [[] for _ in self._parts]

    @classmethod
    def create(cls, workers: int, *, metrics: Mapping[str, Metric] = METRICS) -> Table:
        """A table for the supervisor, the controller and `workers` workers: there is room for twice as many, 64 at least. To be
        made before any fork.
        """
        return cls(max(2 * workers, _WORKERS) + 2, metrics)

    def part(self, index: int) -> Counters:
        """Take part `index` (`SUPERVISOR`, `CONTROLLER`, or a worker's number from 1) over from a predecessor, if there was one.

        To be called once, by the process that is going to write. Counters go on, gauges are unset. A worker for which there
        is no room (there are more than twice as many as at the start) gets a part that nobody reads.
        """
        if index >= len(self._parts) - 1:
            return Counters(0, Table(1, self._metrics)._parts[0], self._metrics)
        return Counters(index, self._parts[index], self._metrics)

    def clear(self, index: int) -> None:
        """The process of part `index` is dead, and it is not replaced yet: what its gauges said is no longer true."""
        self.part(index)

    def read(self) -> list[Sample]:
        """Every series, summed over all parts. In the order of the catalogue."""
        found: dict[_Key, Sample] = {}
        for part, walk, known in zip(self._parts, self._walks, self._known, strict=True):
            known.extend(walk.entries())
            slots = part.slots
            for metric, labels, at in known:
                if metric.kind is Kind.HISTOGRAM:
                    *counts, total = slots[at : at + _width(metric)]
                    new = Sample(metric, labels, sum(counts), counts, total)
                elif isnan(slots[at]):
                    continue
                else:
                    new = Sample(metric, labels, slots[at], [], 0.0)
                old = found.setdefault((metric.name, labels), new)
                if old is not new:
                    old.value += new.value
                    old.sum += new.sum
                    old.buckets = [one + other for one, other in zip(old.buckets, new.buckets, strict=True)]
        order = {name: at for at, name in enumerate(self._metrics)}
        return sorted(found.values(), key=lambda sample: (order[sample.metric.name], sample.labels))


def totals(table: Table) -> dict[str, list[list[object]]]:
    """What the table says, as JSON: for each metric its series, as [values of the labels, value]. A histogram's value is an
    object of `count`, `sum` and `buckets` (not cumulative; the bounds stand in the catalogue).
    """
    said: dict[str, list[list[object]]] = {}
    for sample in table.read():
        value: object = sample.value
        if sample.metric.kind is Kind.HISTOGRAM:
            value = {"count": sample.value, "sum": sample.sum, "buckets": sample.buckets}
        said.setdefault(sample.metric.name, []).append([list(sample.labels), value])
    return said


def _width(metric: Metric) -> int:
    """The slots of one series."""
    return len(metric.buckets) + 2 if metric.kind is Kind.HISTOGRAM else 1


def _most(metric: Metric) -> int:
    """The series that there may be in a part."""
    return metric.series + 1


def _entry_size(metric: Metric) -> int:
    """The bytes of one entry at most."""
    return _ENTRY.size + len(metric.name) + len(metric.labels) * (_LABEL + 1)


def _label(value: object) -> str:
    text = str(value).replace(_SEPARATOR, "")
    if len(text) * 4 <= _LABEL:
        return text
    return text.encode("utf-8", "replace")[:_LABEL].decode("utf-8", "ignore")


def _whole_pages(size: int) -> int:
    return -(-size // mmap.PAGESIZE) * mmap.PAGESIZE
