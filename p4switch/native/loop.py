"""The data plane's loop in generated code: rings of received frames → the program → sendmmsg, without Python.

A *switchboard* (its own `memory.Region`, laid out by `board.Board`) outlives programs: ports with their receive rings
(splitmerge/linux/afpacket.py), messages under construction, packet-ins that wait, two mutexes. A program's code works
on it:

``run_loop(region*, board*)`` runs until `Board.STOP` is set; Python calls it in a thread of its own, which never holds
the interpreter lock meanwhile. ``inject(region*, board*, frame*, size, port)`` processes one frame in the caller's
thread, what it leads to sent before it returns. ``apply_held(region*, board*, commands*, count)`` changes tables,
``take_punts`` and ``take_digests`` move what waits to where Python reads it.

**One at a time.** All of these hold `Board.LOCK` while they work, so a change of tables falls between two batches, and
a batch's frames are with the kernel before the next change: the order of packet-outs after writes rests on this.
Who wants the lock first takes `Board.GATE` and keeps it until he has both; so the loop, which comes back at once, waits
behind whoever came before it.
"""

from typing import Any

from p4switch.native.board import Board, Message, Port
from p4switch.native.emit import I32, I64, PTR, VOID, Emitter, Unit, Value, const, i32, i64
from p4switch.native.layout import Control, Layout, Output

_CLOCK_MONOTONIC = 1
_POLLIN, _POLLOUT, _POLLERR = 1, 4, 8
_MSG_DONTWAIT = 0x40
_EINTR, _EAGAIN, _ENOBUFS, _EMSGSIZE = 4, 11, 105, 90
_SOL_SOCKET, _SO_ERROR = 1, 4
_USER, _VLAN_VALID, _VLAN_TPID_VALID = 1, 1 << 4, 1 << 6
_IDLE_MS = 50
_PATIENCE_MS = 50
BATCH = 32
"""Frames taken from one port before the next one's turn."""


class LoopWriter:
    """Writes the functions above. ``process`` and ``apply`` are the program's."""

    def __init__(self, unit: Unit, layout: Layout, process: Any, apply: Any) -> None:
        self._unit = unit
        self._layout = layout
        self._process = process
        self._apply = apply
        c = unit.external
        self._poll = c("poll", I32, PTR, I64, I32)
        self._sendmmsg = c("sendmmsg", I32, I32, PTR, I32, I32)
        self._errno = c("__errno_location", PTR)
        self._clock = c("clock_gettime", I32, I32, PTR)
        self._mutex_lock = c("pthread_mutex_lock", I32, PTR)
        self._mutex_unlock = c("pthread_mutex_unlock", I32, PTR)
        self._write_fd = c("write", I64, I32, PTR, I64)
        self._getsockopt = c("getsockopt", I32, I32, I32, I32, PTR, PTR)

    def write(self) -> None:
        """All functions."""
        self._flush = self._write_flush()
        self._punt = self._write_punt()
        self._dispatch = self._write_dispatch()
        self._receive = self._write_receive()
        self._write_run()
        self._write_inject()
        self._write_apply()
        self._write_takers()

    # -- helpers -----------------------------------------------------------------------------------------------------

    def _hold(self, emit: Emitter, board: Value) -> None:
        gate = emit.at(board, Board.GATE)
        emit.call(self._mutex_lock, gate)
        emit.call(self._mutex_lock, emit.at(board, Board.LOCK))
        emit.call(self._mutex_unlock, gate)

    def _let_go(self, emit: Emitter, board: Value) -> None:
        emit.call(self._mutex_unlock, emit.at(board, Board.LOCK))

    def _record(self, emit: Emitter, board: Value, index: Value) -> Value:
        return emit.at(emit.at(board, Board.RECORDS), emit.b.mul(index, i64(Port.SIZE)))

    def _get(self, emit: Emitter, base: Value, offset: int) -> Value:
        return emit.load(emit.at(base, offset), 64, 8)

    def _put(self, emit: Emitter, base: Value, offset: int, value: Value) -> None:
        emit.store(value, emit.at(base, offset), 8)

    def _fd(self, emit: Emitter, base: Value, offset: int) -> Value:
        return emit.resize(self._get(emit, base, offset), 32)

    def _message(self, emit: Emitter, board: Value, port: Value, number: Value) -> tuple[Value, Value]:
        """Addresses of a message and its pieces."""
        b = emit.b
        index = b.add(b.mul(port, i64(Board.STAGE)), number)
        message = emit.at(emit.at(board, Board.MESSAGES), b.mul(index, i64(Message.SIZE)))
        return message, emit.at(emit.at(board, Board.IOVS), b.mul(index, i64(Message.IOV_SIZE)))

    def _begin_batch(self, emit: Emitter, region: Value) -> None:
        control = emit.at(region, self._layout.control)
        self._put(emit, control, Control.OUTPUT_COUNT, i64(0))
        self._put(emit, control, Control.ARENA_USED, i64(0))

    def _now(self, emit: Emitter, board: Value) -> Value:
        """Microseconds on the device's clock."""
        b, time = emit.b, emit.at(board, Board.TIME)
        emit.call(self._clock, i32(_CLOCK_MONOTONIC), time)
        seconds, rest = self._get(emit, time, 0), self._get(emit, time, 8)
        total = b.add(b.mul(seconds, i64(10**9)), rest)
        return b.udiv(b.sub(total, self._get(emit, board, Board.EPOCH_NS)), i64(1000))

    def _tell(self, emit: Emitter, board: Value) -> None:
        """Wake the thread that takes packet-ins, if some began to wait. Called without the lock."""
        told = emit.at(board, Board.TELLING)
        with emit.when(emit.b.icmp_unsigned("!=", emit.load(told, 64, 8), i64(0))):
            emit.store(i64(0), told, 8)
            one = emit.local(I64, i64(1))
            emit.call(self._write_fd, self._fd(emit, board, Board.TELL), one, i64(8))

    # -- sending -----------------------------------------------------------------------------------------------------

    def _write_flush(self) -> Any:
        """``void flush(board*, u64 port)``: send what is staged; frames that are not taken in time are counted."""
        function = self._unit.function("flush", VOID, PTR, I64)
        emit = Emitter(self._unit, function)
        board, port = function.args
        b = emit.b
        record = self._record(emit, board, port)
        count = self._get(emit, record, Port.STAGED)
        sent = emit.local(I64, i64(0))
        waited = emit.local(I64, self._get(emit, record, Port.STUCK))
        fd = self._fd(emit, record, Port.FD)
        with emit.loop(lambda: b.icmp_unsigned("<", emit.get(sent, I64), count)) as loop:
            first, _ = self._message(emit, board, port, emit.get(sent, I64))
            left = emit.resize(b.sub(count, emit.get(sent, I64)), 32)
            taken = emit.call(self._sendmmsg, fd, first, left, i32(_MSG_DONTWAIT))
            with emit.when(b.icmp_signed(">", taken, i32(0)), likely=True):
                self._count_sent(emit, record, first, emit.resize(taken, 64))
                emit.set(sent, b.add(emit.get(sent, I64), emit.resize(taken, 64)))
                emit.set(waited, i64(0))
                b.branch(loop.head)
            error = emit.load(emit.call(self._errno), 32, 4)
            with emit.when(b.icmp_unsigned("==", error, i32(_EINTR))):
                b.branch(loop.head)
            busy = b.or_(b.icmp_unsigned("==", error, i32(_EAGAIN)), b.icmp_unsigned("==", error, i32(_ENOBUFS)))
            patient = b.icmp_unsigned("<", emit.get(waited, I64), i64(_PATIENCE_MS))
            with emit.when(b.and_(busy, patient)):
                one = emit.at(board, Board.POLL_ONE)
                emit.store(fd, one, 4)
                emit.store(i32(_POLLOUT), emit.at(one, 4), 4)
                emit.call(self._poll, one, i64(1), i32(1))
                emit.set(waited, b.add(emit.get(waited, I64), i64(1)))
                b.branch(loop.head)
            long = b.icmp_unsigned("==", error, i32(_EMSGSIZE))
            emit.add_to(emit.at(record, Port.TOO_LONG), emit.resize(long, 64))
            emit.add_to(emit.at(record, Port.SEND_FAILED), emit.resize(b.not_(long), 64))
            emit.set(sent, b.add(emit.get(sent, I64), i64(1)))
        self._put(emit, record, Port.STUCK, emit.get(waited, I64))
        self._put(emit, record, Port.STAGED, i64(0))
        b.ret_void()
        return function

    def _count_sent(self, emit: Emitter, record: Value, first: Value, taken: Value) -> None:
        b = emit.b
        total = emit.local(I64, i64(0))
        with emit.count(taken) as i:
            length = emit.load(emit.at(first, b.add(b.mul(i, i64(Message.SIZE)), i64(Message.LENGTH))), 32, 4)
            emit.set(total, b.add(emit.get(total, I64), emit.resize(length, 64)))
        emit.add_to(emit.at(record, Port.SENT), taken)
        emit.add_to(emit.at(record, Port.SENT_BYTES), emit.get(total, I64))

    def _write_punt(self) -> Any:
        """``void punt(board*, output*)``: a packet-in: u64 size, then the frame, padded to words."""
        function = self._unit.function("punt", VOID, PTR, PTR)
        emit = Emitter(self._unit, function)
        board, output = function.args
        b = emit.b
        header = emit.resize(emit.load(emit.at(output, Output.HEADER_LENGTH), 32, 4), 64)
        payload = self._get(emit, output, Output.PAYLOAD_LENGTH)
        size = b.add(header, payload)
        used = self._get(emit, board, Board.PUNTED)
        end = b.add(b.add(used, i64(8)), b.and_(b.add(size, i64(7)), i64(-8)))
        with emit.when(b.icmp_unsigned(">", end, i64(Board.PUNT_ROOM)), likely=False):
            emit.add_to(emit.at(board, Board.PUNTS_LOST), i64(1))
            b.ret_void()
        place = emit.at(emit.at(board, Board.PUNTS), used)
        emit.store(size, place, 8)
        emit.copy(emit.at(place, 8), emit.load_pointer(emit.at(output, Output.HEADER)), header)
        body = emit.at(emit.at(place, 8), header)
        emit.copy(body, emit.load_pointer(emit.at(output, Output.PAYLOAD)), payload)
        self._put(emit, board, Board.PUNTED, end)
        emit.add_to(emit.at(board, Board.PUNTED_FRAMES), i64(1))
        with emit.when(b.icmp_unsigned("==", used, i64(0))):
            self._put(emit, board, Board.TELLING, i64(1))
        b.ret_void()
        return function

    def _write_dispatch(self) -> Any:
        """``void dispatch(region*, board*)``: all that waits as `Output` to its port, in order."""
        function = self._unit.function("dispatch", VOID, PTR, PTR)
        emit = Emitter(self._unit, function)
        region, board = function.args
        b = emit.b
        count = self._get(emit, region, self._layout.control + Control.OUTPUT_COUNT)
        cpu = emit.resize(self._get(emit, board, Board.CPU_PORT), 32)
        with emit.count(count) as i:
            output = emit.at(emit.at(region, self._layout.outputs), b.mul(i, i64(Output.SIZE)))
            number = emit.load(emit.at(output, Output.PORT), 32, 4)

            def stage(output: Value = output, number: Value = number) -> None:
                self._stage(emit, board, output, number)

            def punt(output: Value = output) -> None:
                emit.call(self._punt, board, output)

            emit.choose(b.icmp_unsigned("==", number, cpu), punt, stage)
        with emit.count(self._get(emit, board, Board.PORTS)) as port:
            staged = self._get(emit, self._record(emit, board, port), Port.STAGED)
            with emit.when(b.icmp_unsigned("!=", staged, i64(0))):
                emit.call(self._flush, board, port)
        self._begin_batch(emit, region)
        b.ret_void()
        return function

    def _stage(self, emit: Emitter, board: Value, output: Value, number: Value) -> None:
        """Make a message of an output."""
        b = emit.b
        small = b.icmp_unsigned("<", number, i32(65536))
        safe = emit.resize(b.select(small, number, i32(65535)), 64)
        found = emit.load(emit.at(emit.at(board, Board.NUMBERS), b.mul(safe, i64(2))), 16, 2)

        def put() -> None:
            port = b.sub(emit.resize(found, 64), i64(1))
            record = self._record(emit, board, port)
            staged = self._get(emit, record, Port.STAGED)
            message, iov = self._message(emit, board, port, staged)
            payload = self._get(emit, output, Output.PAYLOAD_LENGTH)
            self._put(emit, iov, 0, self._get(emit, output, Output.HEADER))
            header = emit.load(emit.at(output, Output.HEADER_LENGTH), 32, 4)
            self._put(emit, iov, 8, emit.resize(header, 64))
            self._put(emit, iov, 16, self._get(emit, output, Output.PAYLOAD))
            self._put(emit, iov, 24, payload)
            pieces = b.select(b.icmp_unsigned("==", payload, i64(0)), i64(1), i64(2))
            self._put(emit, message, Message.IOV_COUNT, pieces)
            self._put(emit, record, Port.STAGED, b.add(staged, i64(1)))
            with emit.when(b.icmp_unsigned("==", staged, i64(Board.STAGE - 1))):
                emit.call(self._flush, board, port)

        known = b.icmp_unsigned("!=", found, const(16, 0))
        emit.choose(known, put, lambda: emit.add_to(emit.at(board, Board.NO_SUCH_PORT), i64(1)))

    # -- receiving ---------------------------------------------------------------------------------------------------

    def _write_receive(self) -> Any:
        """``u64 receive(region*, board*, record*, u64 now)``: run frames of one port; how many."""
        function = self._unit.function("receive", I64, PTR, PTR, PTR, I64)
        emit = Emitter(self._unit, function)
        region, board, record, now = function.args
        b = emit.b
        ring = emit.load_pointer(emit.at(record, Port.RING))
        slot_size, slots = self._get(emit, record, Port.SLOT_SIZE), self._get(emit, record, Port.SLOTS)
        number = self._fd(emit, record, Port.NUMBER)
        control = emit.at(region, self._layout.control)
        taken = emit.local(I64, i64(0))
        with emit.loop(lambda: b.icmp_unsigned("<", emit.get(taken, I64), i64(BATCH))) as loop:
            position = self._get(emit, record, Port.POSITION)
            slot = emit.at(ring, b.mul(position, slot_size))
            status = b.load_atomic(slot, ordering="acquire", align=4, typ=I32)
            with emit.when(b.icmp_unsigned("==", b.and_(status, i32(_USER)), i32(0))):
                b.branch(loop.done)
            # One frame may lead to thousands: what waits is sent before there is no room for that.
            crowded = b.icmp_unsigned(
                ">", self._get(emit, control, Control.OUTPUT_COUNT), i64(Layout.OUTPUTS - Layout.MOST_PASSES)
            )
            full = b.icmp_unsigned(">", self._get(emit, control, Control.ARENA_USED), i64(Layout.ARENA_FULL))
            with emit.when(b.or_(crowded, full), likely=False):
                emit.call(self._dispatch, region, board)
            self._frame(emit, region, record, slot, status, number, now)
            following = b.add(position, i64(1))
            wrapped = b.icmp_unsigned("==", following, slots)
            self._put(emit, record, Port.POSITION, b.select(wrapped, i64(0), following))
            emit.set(taken, b.add(emit.get(taken, I64), i64(1)))
        b.ret(emit.get(taken, I64))
        return function

    def _frame(
        self, emit: Emitter, region: Value, record: Value, slot: Value, status: Value, number: Value, now: Value
    ) -> None:
        """Run the frame in a slot (tpacket2_hdr), its VLAN tag put back."""
        b = emit.b
        length, captured = (emit.load(emit.at(slot, at), 32, 4) for at in (4, 8))
        start = emit.resize(emit.load(emit.at(slot, 12), 16, 2), 64)
        frame = emit.local(PTR, emit.at(slot, start))
        size = emit.local(I64, emit.resize(captured, 64))
        tagged = b.and_(status, i32(_VLAN_VALID))
        with emit.when(b.icmp_unsigned("!=", tagged, i32(0)), likely=False):
            # The four bytes before the frame hold an address that nobody reads.
            old = emit.get(frame, PTR)
            new = emit.at(old, i64(-4))
            emit.store(emit.load(old, 96), new)
            known = b.icmp_unsigned("!=", b.and_(status, i32(_VLAN_TPID_VALID)), i32(0))
            tpid = b.select(known, emit.load(emit.at(slot, 26), 16, 2), const(16, 0x8100))
            emit.store(emit.swap(tpid), emit.at(new, 12))
            emit.store(emit.swap(emit.load(emit.at(slot, 24), 16, 2)), emit.at(new, 14))
            emit.set(frame, new)
            emit.set(size, b.add(emit.get(size, I64), i64(4)))
        emit.add_to(emit.at(record, Port.RECEIVED), i64(1))
        emit.add_to(emit.at(record, Port.RECEIVED_BYTES), emit.get(size, I64))
        emit.choose(
            b.icmp_unsigned("==", length, captured),
            lambda: emit.call(self._process, region, emit.get(frame, PTR), emit.get(size, I64), number, now),
            lambda: emit.add_to(emit.at(record, Port.TRUNCATED), i64(1)),
        )

    def _release(self, emit: Emitter, board: Value) -> None:
        """Give the slots that were read back to the kernel."""
        with emit.count(self._get(emit, board, Board.PORTS)) as port:
            self._release_port(emit, self._record(emit, board, port))

    def _release_port(self, emit: Emitter, record: Value) -> None:
        b = emit.b
        ring, slot_size = emit.load_pointer(emit.at(record, Port.RING)), self._get(emit, record, Port.SLOT_SIZE)
        slots, end = self._get(emit, record, Port.SLOTS), self._get(emit, record, Port.POSITION)
        at = emit.local(I64, self._get(emit, record, Port.RELEASED))
        b.fence("release")
        with emit.loop(lambda: b.icmp_unsigned("!=", emit.get(at, I64), end)):
            here = emit.get(at, I64)
            emit.store(i32(0), emit.at(ring, b.mul(here, slot_size)), 4)
            following = b.add(here, i64(1))
            emit.set(at, b.select(b.icmp_unsigned("==", following, slots), i64(0), following))
        self._put(emit, record, Port.RELEASED, end)

    # -- entry points ------------------------------------------------------------------------------------------------

    def _write_run(self) -> None:
        function = self._unit.function("run_loop", VOID, PTR, PTR, internal=False)
        emit = Emitter(self._unit, function)
        region, board = function.args
        b = emit.b
        idle = emit.local(I32, i32(1))
        stop = emit.at(board, Board.STOP)

        def running() -> Value:
            return b.icmp_unsigned("==", b.load_atomic(stop, ordering="acquire", align=4, typ=I32), i32(0))

        ports = self._get(emit, board, Board.PORTS)
        with emit.loop(running):
            with emit.when(b.icmp_unsigned("!=", emit.get(idle, I32), i32(0))):
                self._wait(emit, board, ports)
            self._hold(emit, board)
            self._begin_batch(emit, region)
            now = self._now(emit, board)
            total = emit.local(I64, i64(0))
            emit.set(total, i64(0))
            with emit.count(ports) as port:
                got = emit.call(self._receive, region, board, self._record(emit, board, port), now)
                emit.set(total, b.add(emit.get(total, I64), got))
            emit.call(self._dispatch, region, board)
            self._release(emit, board)
            emit.add_to(emit.at(board, Board.BATCHES), i64(1))
            self._let_go(emit, board)
            self._tell(emit, board)
            emit.set(idle, emit.resize(b.icmp_unsigned("==", emit.get(total, I64), i64(0)), 32))
        b.ret_void()

    def _wait(self, emit: Emitter, board: Value, ports: Value) -> None:
        """poll(2). A port that went down says so once: the error is taken, else poll would return for ever."""
        b = emit.b
        fds = emit.at(board, Board.POLL)
        emit.call(self._poll, fds, b.add(ports, i64(1)), i32(_IDLE_MS))
        with emit.count(ports) as port:
            item = emit.at(fds, b.mul(b.add(port, i64(1)), i64(8)))
            events = emit.load(emit.at(item, 6), 16, 2)
            with emit.when(b.icmp_unsigned("!=", b.and_(events, const(16, _POLLERR)), const(16, 0)), likely=False):
                error = emit.at(board, Board.ERROR)
                emit.store(i32(4), emit.at(error, 4), 4)
                fd = emit.load(item, 32, 4)
                emit.call(self._getsockopt, fd, i32(_SOL_SOCKET), i32(_SO_ERROR), error, emit.at(error, 4))

    def _write_inject(self) -> None:
        function = self._unit.function("inject", VOID, PTR, PTR, PTR, I64, I32, internal=False)
        emit = Emitter(self._unit, function)
        region, board, frame, size, port = function.args
        self._hold(emit, board)
        self._begin_batch(emit, region)
        emit.call(self._process, region, frame, size, port, self._now(emit, board))
        emit.call(self._dispatch, region, board)
        self._let_go(emit, board)
        self._tell(emit, board)
        emit.b.ret_void()

    def _write_apply(self) -> None:
        function = self._unit.function("apply_held", VOID, PTR, PTR, PTR, I64, internal=False)
        emit = Emitter(self._unit, function)
        region, board, commands, count = function.args
        self._hold(emit, board)
        emit.call(self._apply, region, commands, count)
        self._let_go(emit, board)
        emit.b.ret_void()

    def _write_takers(self) -> None:
        """``u64 take_punts(board*)``: bytes now at `Board.TAKEN`. ``u64 take_digests(region*, board*)``: likewise."""
        function = self._unit.function("take_punts", I64, PTR, internal=False)
        emit = Emitter(self._unit, function)
        (board,) = function.args
        self._hold(emit, board)
        used = self._get(emit, board, Board.PUNTED)
        emit.copy(emit.at(board, Board.TAKEN), emit.at(board, Board.PUNTS), used)
        self._put(emit, board, Board.PUNTED, i64(0))
        self._let_go(emit, board)
        emit.b.ret(used)
        function = self._unit.function("take_digests", I64, PTR, PTR, internal=False)
        emit = Emitter(self._unit, function)
        region, board = function.args
        cell = emit.at(region, self._layout.control + Control.DIGEST_USED)
        self._hold(emit, board)
        used = emit.load(cell, 64, 8)
        emit.copy(emit.at(region, self._layout.digests_taken), emit.at(region, self._layout.digests), used)
        emit.store(i64(0), cell, 8)
        self._let_go(emit, board)
        emit.b.ret(used)
