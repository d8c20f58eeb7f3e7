"""The peers of the control network: which replicas and agents may come in, and to whom goes what they say."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass

from orchestrator.background import Background
from orchestrator.config import Config
from orchestrator.migration.asks import ANSWERS
from orchestrator.moves.mover import Mover
from orchestrator.moves.registrar import Registrar
from orchestrator.ownership.endings import Endings
from orchestrator.ownership.owned import Owned
from orchestrator.replicas.fleet import Fleet, Replica, ReplicaState
from orchestrator.replicas.sessions import Session
from orchestrator.replicas.undertaker import Undertaker
from orchestrator.scaling.replacing import Replacer
from orchestrator.shared import SharedState
from splitmerge import messages as m

logger = logging.getLogger("orchestrator")


@dataclass(slots=True)
class Peers:
    """`sessions.Handler`. ``epoch``: moves up to this one are an earlier process's."""

    config: Config
    epoch: int
    fleet: Fleet
    shared_state: SharedState
    mover: Mover
    owned: Owned
    registrar: Registrar
    endings: Endings
    replacer: Replacer
    undertaker: Undertaker
    background: Background
    started: bool = False
    """The moves of an earlier process are known; until then replicas that connect are only let in."""

    def hello(self, session: Session, hello: m.Hello) -> m.Welcome | m.Refused:
        """`sessions.Handler`: who may come in."""
        locks = self.config.locks
        welcome = m.Welcome(epoch=self.epoch, locks=locks.etcd, lease=locks.lease, room=self.config.room)
        if hello.role == "agent":
            self.fleet.agents.add(session)
            if self.started:
                self.replacer.agent_here(hello.kind)
            return welcome
        if hello.role != "replica":
            return m.Refused(epoch=0, request="Hello", reason=f"role {hello.role!r}: replica or agent")
        replica = self.fleet.replicas.get(hello.replica)
        if replica is None or replica.state is ReplicaState.GONE:
            return m.Refused(epoch=0, request="Hello", reason=f"replica {hello.replica} is not one of mine")
        if replica.number in self.undertaker.ending:  # it came back too late: others are about to get what it has
            return m.Refused(epoch=0, request="Hello", reason=f"replica {hello.replica} is being ended")
        if not self.fleet.vouched(replica, session.certified):
            reason = f"the certificate is not of the agent that makes replica {hello.replica}"
            return m.Refused(epoch=0, request="Hello", reason=reason)
        if replica.incarnation not in ("", hello.incarnation):
            return m.Refused(epoch=0, request="Hello", reason=f"replica {hello.replica} is another process")
        self._replica_here(replica, session, hello)
        return welcome

    def _replica_here(self, replica: Replica, session: Session, hello: m.Hello) -> None:
        if replica.session is not None:
            replica.session.close("it has connected again")
        replica.session, replica.address, replica.incarnation = session, hello.address, hello.incarnation
        replica.heard.set()
        self.fleet.set_state(replica, replica.state)
        asyncio.get_running_loop().call_soon(self._attached, replica)

    def _attached(self, replica: Replica) -> None:
        """After the welcome: what it owns whole; then moves repeat what they asked."""
        if not self.started:  # `Reattacher` comes to it
            return
        self.owned.tell(replica.number)
        self.mover.back(replica.number)

    def closed(self, session: Session) -> None:
        """`sessions.Handler`: a connection has ended."""
        if self.fleet.agents.remove(session):
            return
        replica = self.fleet.replicas.get(session.peer.replica)
        if replica is None or replica.session is not session:
            return
        replica.session = None
        replica.heard.clear()
        self.undertaker.away(replica)

    def message(self, session: Session, message: m.Message) -> None:
        """`sessions.Handler`: a message of a welcomed peer."""
        if session.peer.role == "agent":
            self._agent_message(session, message)
            return
        replica = self.fleet.replicas.get(session.peer.replica)
        if replica is None and isinstance(message, m.SharedPush | m.SharedCollected):
            # Last words of one that is forgotten already: the hub says whether they still count.
            self.shared_state.handle(session.peer.replica, message, self.fleet.living())
        if replica is None or replica.session is not session:
            return
        match message:
            case _ if isinstance(message, ANSWERS):
                self.mover.answer(replica.number, message)
            case m.HoldFull(epoch=epoch):
                self.mover.full(epoch, f"replica {replica.number}")
            case m.HoldDropped(epoch=epoch, dropped=dropped):
                self.mover.dropped(replica.number, epoch, dropped)
            case m.Stats():
                replica.says(message, asyncio.get_running_loop().time())
                for epoch, dropped in message.hold_dropped.items():
                    self.mover.dropped(replica.number, epoch, dropped)
                for epoch in message.hold_full:
                    self.mover.full(epoch, f"replica {replica.number}")
            case m.AddKeys() if replica.state is not ReplicaState.GONE:
                self.background.later(self.registrar.add(replica.number, message, session.send), "second keys")
            case m.FlowsGone(keys=keys):
                self.registrar.gone(replica.number, keys)
                self.background.later(self.endings.gone(replica.number, keys), "flows gone")
            case m.FlowList() | m.Finished() | m.Related() | m.BucketCounts():
                self.fleet.answered(replica.number, message)
            case (
                m.SharedPush() | m.SharedPull() | m.SharedCollected() | m.SharedFolded()
                | m.SharedLock() | m.SharedRenew() | m.SharedWrite() | m.SharedAbandon()
            ):  # fmt: skip
                self.shared_state.handle(replica.number, message, self.fleet.living())
            case m.AddKeys():
                logger.info("replica %d asked for keys before it died", replica.number)
            case _:
                logger.warning("replica %d sent %s, which is not for us", replica.number, type(message).__name__)

    def _agent_message(self, agent: Session, message: m.Message) -> None:
        replica = self.fleet.agent_answered(agent, message)
        if not isinstance(message, m.ReplicaGone):
            return
        if replica is not None and replica.state is ReplicaState.LIVE:
            logger.error("replica %d has ended: %s", replica.number, message.status)
            self.undertaker.ended(replica)
