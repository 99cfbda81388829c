"""What a clip's packets say of its frames: their order, their times, where decoding can begin.

Packets come in decoding order, frames in the order in which they are shown. A frame's number is
its packet's rank by presentation time; where those times are missing or belong to decoding (AVI
has no others), frames are counted as they come out of the decoder.
"""

import bisect
import itertools
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from typing import NamedTuple

UNSHOWN = -1  # the rank of packets whose frame is not part of the clip

# Two frames nearer than this are not told apart in what we write (1/90000 s).
_NEAREST = Fraction(1, 45000)
_PAUSE_FRAMES = 10  # a frame that stands as long as so many others: the recording paused
_JUMP_FRAMES = 10  # further back than reordering reaches: the clock began anew


class Packet(NamedTuple):
    """A packet's place in the file and its times, in the stream's time base."""

    position: int | None
    size: int
    pts: int | None
    dts: int | None
    is_key: bool
    is_discarded: bool = False


@dataclass(frozen=True)
class Index:
    """A clip's frames by its packets.

    times: when each frame is shown, ascending, in time_base. ranks: by packet, the frame's number
    or UNSHOWN. keys: (frame, packet) where decoding can begin, ascending. is_timed: whether a rank
    is the frame's number; otherwise frames are counted from the first packet on.
    """

    packets: Sequence[Packet]
    times: Sequence[int | Fraction]
    time_base: Fraction
    ranks: Sequence[int]
    keys: Sequence[tuple[int, int]]
    is_timed: bool
    _by_position: dict[tuple[int | None, int], int]
    _by_time: dict[tuple[int | None, int], int]

    def seconds(self, frame: int) -> Fraction:
        """When a frame is shown, from the file's own zero."""
        return self.times[frame] * self.time_base

    def key_before(self, frame: int) -> int:
        """Where in `keys` the last stands from which a frame can be decoded."""
        return max(0, bisect.bisect_right(self.keys, (frame, len(self.packets))) - 1)

    def place(self, packet: Packet) -> int | None:
        """Which packet this is, read again behind a seek; None where that cannot be told."""
        found = self._by_position.get((packet.position, packet.size))
        return self._by_time.get((packet.pts, packet.size)) if found is None else found


def index_packets(
    packets: Sequence[Packet],
    *,
    time_base: Fraction,
    frame_s: Fraction,
    reorders: bool,
    states_times: bool,
) -> Index:
    """Number the frames of a clip.

    frame_s: how long a frame lasts where the file does not say. reorders: whether the codec's
    frames may be shown in another order than they are decoded. states_times: whether the container
    says when a frame is shown, and not only when it is decoded.
    """
    step = max(1, round(frame_s / time_base))
    shown = _decodable(packets)
    offsets = _offsets(packets, step)
    times: dict[int, int] = {}
    last = -step
    for place in shown:
        pts = packets[place].pts
        time = pts if pts is not None else packets[place].dts
        last = time + offsets[place] if time is not None else last + step
        times[place] = last
    in_order = sorted(shown, key=lambda place: (times[place], place))
    is_known = all(packets[place].pts is not None for place in shown)
    is_doubtful = (
        # Shown in the order of decoding: then the times are probably decoding's.
        (in_order == shown and not states_times and len(shown) > 1)
        # Two at one time: a guess has filled a gap, and which of the two is first is open.
        or len(set(times.values())) < len(times)
        if reorders
        else in_order != shown  # a time stepped back; the frames did not
    )
    is_timed = is_known and not is_doubtful
    if not is_timed:
        in_order = shown
    ranks = [UNSHOWN] * len(packets)
    for rank, place in enumerate(in_order):
        ranks[place] = rank
    keys = [(ranks[i], i) for i in shown if packets[i].is_key] if is_timed else []
    if any(after < before for (before, _), (after, _) in itertools.pairwise(keys)):
        keys = []
    return Index(
        packets=packets,
        times=_apart(sorted(times.values()), frame_s / time_base, time_base),
        time_base=time_base,
        ranks=ranks,
        keys=keys,
        is_timed=is_timed,
        _by_position=_unique([(packet.position, packet.size) for packet in packets]),
        _by_time=_unique([(packet.pts, packet.size) for packet in packets]),
    )


def _decodable(packets: Sequence[Packet]) -> list[int]:
    """The packets whose frames are shown, without those that a clip cut open cannot decode."""
    first = next((place for place, packet in enumerate(packets) if packet.is_key), 0)
    start = packets[first].pts if packets else None
    shown = []
    is_leading = True  # frames in front of the first key frame that follow it in the file
    for place in range(first, len(packets)):
        packet = packets[place]
        if place > first and packet.is_key:
            is_leading = False
        is_cut = is_leading and start is not None and packet.pts is not None and packet.pts < start
        if not packet.is_discarded and not is_cut:
            shown.append(place)
    return shown


def _offsets(packets: Sequence[Packet], step: int) -> list[int]:
    """What to add to each packet's times, so that a clock that began anew goes on.

    It begins anew where recordings were put together end to end: a key frame lies before what was
    shown already, and by more than frames are reordered.
    """
    offsets: list[int] = []
    offset, latest = 0, None
    for packet in packets:
        time = packet.pts if packet.pts is not None else packet.dts
        if time is not None:
            if latest is not None and packet.is_key:
                is_new = time + offset < latest - _JUMP_FRAMES * step
                offset = latest + step - time if is_new else offset
            latest = time + offset if latest is None else max(latest, time + offset)
        offsets.append(offset)
    return offsets


def _apart(times: Sequence[int], step: Fraction, time_base: Fraction) -> Sequence[int | Fraction]:
    """Ascending times of which only those too near to the one before are moved.

    They share the time up to the next one, at most a frame's length each.
    """
    nearest = float(_NEAREST / time_base)
    apart: list[int | Fraction] = list(times)
    place = 1
    while place < len(times):
        if times[place] - times[place - 1] >= nearest:
            place += 1
            continue
        first, end = place - 1, place
        while end < len(times) and times[end] - times[first] < nearest * (end - first):
            end += 1
        gap = step
        if end < len(times):
            gap = min(gap, Fraction(times[end] - times[first], end - first))
        for moved in range(place, end):
            apart[moved] = times[first] + gap * (moved - first)
        place = end
    return apart


def usual_rate(times: Sequence[int | Fraction], time_base: Fraction) -> Fraction | None:
    """Frames a second between ascending times, without pauses; None where nothing tells it."""
    steps = sorted(after - before for before, after in itertools.pairwise(times))
    if not steps or not steps[len(steps) // 2]:
        return None
    longest = _PAUSE_FRAMES * steps[len(steps) // 2]
    usual = steps[: bisect.bisect_right(steps, longest)]
    return (len(usual) / (sum(usual, Fraction(0)) * time_base)).limit_denominator(1001)


def _unique(names: Sequence[tuple[int | None, int]]) -> dict[tuple[int | None, int], int]:
    """The place of each name that is known and given once."""
    counts = Counter(names)
    return {
        name: place for place, name in enumerate(names) if counts[name] == 1 and name[0] is not None
    }
