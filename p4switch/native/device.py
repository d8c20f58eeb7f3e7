"""A device on the native back end."""

import struct
from collections.abc import Callable, Sequence

from p4switch.device import Device, Transmit, microsecond_clock
from p4switch.ir import Program
from p4switch.native.check import check_native
from p4switch.native.compile import Library, compile_program
from p4switch.native.layout import Control, Input, Layout, Output
from p4switch.native.state import NativeState
from p4switch.runtime import DROP_PORT

_INPUT = struct.Struct("<QQQ")
_OUTPUT = struct.Struct("<IIQQQ")


class NativeBackend:
    """Runs packets that Python brings, alone or many at once."""

    def __init__(self, state: NativeState, library: Library) -> None:
        self._state = state
        self._library = library
        self._region = state.region
        self._layout = state.layout
        self._outputs = (state.layout.control + Control.OUTPUT_COUNT) // 8

    def process(self, port: int, frame: bytes, now_us: int) -> list[Transmit]:
        """All that one received frame leads to, in the order of sending."""
        return self.process_batch(((port, frame),), now_us)

    def process_batch(self, frames: Sequence[tuple[int, bytes]], now_us: int) -> list[Transmit]:
        """All that the frames lead to, in the order of sending. The interpreter lock is let go meanwhile."""
        self._state.changes.flush()
        sent: list[Transmit] = []
        done = 0
        while done < len(frames):
            count = self._bring(frames, done)
            done += self._run(count, now_us, sent)
        self._state.digests.collect()
        return sent

    def prepared_batch(self, frames: Sequence[tuple[int, bytes]]) -> Callable[[], int]:
        """A function that processes these frames, anew each time, and says how many; what comes out is thrown away.

        For measuring generated code alone; no other packets may be processed meanwhile.
        """
        self._state.changes.flush()
        count = self._bring(frames, 0)
        address, run_batch = self._region.address, self._library.run_batch
        inputs = address + self._layout.inputs
        return lambda: int(run_batch(address, inputs, count, 1))

    def _bring(self, frames: Sequence[tuple[int, bytes]], start: int) -> int:
        """Copy frames to the region, as many as fit; at least one does."""
        layout, buffer = self._layout, self._region.bytes
        at, count = layout.frames, 0
        for port, frame in frames[start : start + layout.INPUTS]:
            end = at + len(frame)
            if count and end > layout.frames + layout.FRAMES:
                break
            buffer[at:end] = frame
            _INPUT.pack_into(
                buffer, layout.inputs + count * Input.SIZE, self._region.address + at, len(frame), port & 0xFFFFFFFF
            )
            at = (end + 15) & ~15
            count += 1
        return count

    def _run(self, count: int, now_us: int, sent: list[Transmit]) -> int:
        address, layout = self._region.address, self._layout
        done: int = self._library.run_batch(address, address + layout.inputs, count, now_us)
        buffer, start = self._region.bytes, layout.outputs
        for number in range(self._region.words[self._outputs]):
            port, header_size, header, payload, size = _OUTPUT.unpack_from(buffer, start + number * Output.SIZE)
            header -= address
            payload -= address
            sent.append(Transmit(port, bytes(buffer[header : header + header_size]) + buffer[payload : payload + size]))
        return done


class NativeDevice(Device):
    """As `Device`, on the native back end.

    :raises UnsupportedError: the program uses what this back end cannot do; names it.
    """

    state: NativeState

    def __init__(self, program: Program, *, drop_port: int = DROP_PORT, clock: Callable[[], int] | None = None) -> None:
        check_native(program)
        layout = Layout(program)
        self.library = compile_program(layout, drop_port)
        self.program = program
        self.clock = clock or microsecond_clock()
        self.state = NativeState(program, self.clock, layout, drop_port=drop_port)
        self.state.digests.messages = self.library.messages
        self._board = 0
        self.detach()
        self.state.changes.flush()
        self.backend = NativeBackend(self.state, self.library)
        self.process = self.backend.process
        self.process_batch = self.backend.process_batch
        self.prepared_batch = self.backend.prepared_batch

    # -- beside a loop -----------------------------------------------------------------------------------------------

    def attach(self, board: int) -> None:
        """From now on changes go past a loop that runs on the switchboard at this address."""
        region, library, changes = self.state.region.address, self.library, self.state.changes
        self._board = board
        changes.apply = lambda commands, count: library.apply_held(region, board, commands, count)
        changes.live = True
        self.state.digests.bring = lambda: int(library.take_digests(region, board))

    def detach(self) -> None:
        """No loop runs beside us."""
        region, apply, changes = self.state.region.address, self.library.apply, self.state.changes
        self._board = 0
        changes.apply = lambda commands, count: apply(region, commands, count)
        changes.live = False
        self.state.digests.bring = None

    def run_loop(self) -> None:
        """Run the data plane until the switchboard says stop. Lets the interpreter lock go."""
        self.library.run_loop(self.state.region.address, self._board)

    def inject(self, port: int, frame: bytes) -> None:
        """Process one frame beside the loop; what it leads to is sent, or waits for `take_punts`, on return."""
        self.library.inject(self.state.region.address, self._board, frame, len(frame), port)

    def take_punts(self) -> int:
        """Bring packet-ins to `board.Board.TAKEN`; how many bytes."""
        return int(self.library.take_punts(self._board))
