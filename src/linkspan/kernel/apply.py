"""Making a kernel as described: changes in, system calls out.

A change is a row of operations. Rows that work on the same thing the same way (namespaces,
firewall, rtnetlink, settings) are carried out together, and several changes side by side:
all their firewall elements go out as one transaction, all their links as one datagram.
"""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from linkspan.dataplane.diff import Change, Operation, Remove
from linkspan.dataplane.objects import HOST, Namespace, Sysctl
from linkspan.errors import KernelRefused, LinkspanError, NotFound
from linkspan.kernel import failpoints, namespaces, sysctl
from linkspan.kernel.changes import Run, cut_where_related, subject
from linkspan.kernel.netlink.socket import ROUTE, NetlinkSocket
from linkspan.kernel.routebatch import RouteBatch
from linkspan.kernel.session import Place, Session
from linkspan.kernel.words import describe_operation

if TYPE_CHECKING:
    from linkspan.kernel.netfilter.firewall import Firewall


class Kernel:
    """The one writer to the network of this host.

    "host" is the namespace in which it is constructed; it must be used from threads that
    are in that namespace. Namespaces of ours lie in `<run_dir>/netns/<name>`. Thread-safe:
    changes wait for each other; `prepare_namespace` does not wait.
    """

    def __init__(self, run_dir: str) -> None:
        self._directory = os.path.join(run_dir, "netns")
        os.makedirs(self._directory, mode=0o755, exist_ok=True)
        self._lock = threading.RLock()
        self._host = NetlinkSocket(ROUTE)
        self._adopted: dict[str, Place] = {}
        self._prepared: dict[str, namespaces.Created] = {}
        self._firewall: Firewall | None = None

    def close(self) -> None:
        """Close all sockets. What was made stays."""
        for created in self._prepared.values():
            created.socket.close()
        self._prepared.clear()
        if self._firewall is not None:
            self._firewall.close()
            self._firewall = None
        self._host.close()

    @property
    def portid(self) -> int:
        """The port id of the host's route socket: what a monitor tells our own changes by."""
        return self._host.portid

    @contextlib.contextmanager
    def exclusive(self) -> Iterator[None]:
        """No change is applied during the block: for use of `firewall` from other threads."""
        with self._lock:
            yield

    @property
    def firewall(self) -> Firewall:
        """The firewall of the host namespace, opened at first use; it owns our tables."""
        if self._firewall is None:
            from linkspan.kernel.netfilter.firewall import Firewall

            self._firewall = Firewall()
        return self._firewall

    # Namespaces ---------------------------------------------------------------------

    def adopt(self, name: str, path: str, inode: int | None = None) -> None:
        """Call the foreign namespace held on `path` by a name. It is opened only for the
        length of an operation, so that it can die when its owner lets go of it.
        """
        self._adopted[name] = Place(path, inode)

    def disown(self, name: str) -> None:
        """Forget a foreign namespace; nothing happens to it."""
        self._adopted.pop(name, None)

    def place(self, name: str) -> Place:
        """Where the namespace of this name is found."""
        return self._adopted.get(name) or Place(os.path.join(self._directory, name), None)

    def prepare_namespace(self, name: str) -> int:
        """Make one of our namespaces ahead of the change that adds it; gives its inode.

        May be called from several threads at once while changes are applied: making a
        namespace is the longest step of an attach. Adding the Namespace later finds it.
        Raises KernelRefused.
        """
        created = self._create_namespace(os.path.join(self._directory, name))
        self._prepared[name] = created
        return created.inode

    def discard_namespace(self, name: str) -> None:
        """Undo `prepare_namespace` for a change that will not come."""
        created = self._prepared.pop(name, None)
        if created is not None:
            created.socket.close()
            namespaces.delete(os.path.join(self._directory, name))

    def _create_namespace(self, path: str) -> namespaces.Created:
        try:
            return namespaces.create(path)
        except KernelRefused:
            # A file that holds nothing was left by a crash or a reboot.
            if not os.path.exists(path) or not namespaces.has_vanished(path, None):
                raise
        namespaces.delete(path)
        return namespaces.create(path)

    # Changes ------------------------------------------------------------------------

    def apply(self, change: Change, repair: bool = False) -> None:
        """Carry out a change, in order; the error names the operation that was refused.

        To remove what is gone already is no error, and a removal that fails does not stop
        the others: the first error is raised at the end. After any other failure what the
        change made and changed so far is taken back; what it removed stays removed.
        With `repair`, to add what is there already makes it as stated; a link only when it
        has the stated alias.
        """
        (error,) = self.apply_many((change,), repair)
        if error is not None:
            raise error

    def apply_many(self, changes: Sequence[Change], repair: bool = False) -> list[Exception | None]:
        """Carry out changes that know nothing of each other; one result each, None for done.

        They share datagrams and firewall transactions. A change that fails does not touch
        the others. Changes that have an object in common follow each other in order.
        """
        with self._lock:
            results: list[Exception | None] = []
            for wave in cut_where_related(changes):
                runs = self._apply_wave(wave, repair)
                self._undo([run for run in runs if run.error is not None and run.done])
                results += [run.error for run in runs]
            return results

    def _undo(self, failed: Sequence[Run]) -> None:
        """Take back what failed changes did; trouble with that is noted in their errors."""
        if not failed:
            return
        failpoints.reach("apply.undo")
        for run, undoing in zip(
            failed, self._apply_wave([run.undoing() for run in failed], False), strict=True
        ):
            if undoing.error is not None and run.error is not None:
                run.error.add_note(f"taking the change back failed too: {undoing.error}")

    def _apply_wave(self, changes: Sequence[Change], repair: bool) -> list[Run]:
        armed = failpoints.armed()
        runs = [Run(change, armed) for change in changes]
        failpoints.reach("apply.begin")
        with Session(self._host, self.place) as session:
            waiting = list(runs)
            batch = RouteBatch(session, repair)
            while waiting := [run for run in waiting if run.channel is not None]:
                channel = waiting[0].channel
                assert channel is not None
                rows = [(run, run.take_row()) for run in waiting if run.channel == channel]
                if channel.startswith("route"):
                    batch.apply(rows)
                else:
                    self._apply_rows(channel, rows, session, repair)
                if armed:
                    batch.finish()
                    _reach_failpoints(rows)
            batch.finish()
        failpoints.reach("apply.end")
        return runs

    def _apply_rows(
        self,
        channel: str,
        rows: list[tuple[Run, list[Operation]]],
        session: Session,
        repair: bool,
    ) -> None:
        if channel == "firewall":
            self._apply_firewall(rows, session)
            return
        step = self._apply_namespace if channel == "namespace" else self._apply_sysctl
        for run, operations in rows:
            for operation in operations:
                if run.may(operation):
                    try:
                        step(operation, session, repair)
                        run.done.append(operation)
                    except (LinkspanError, OSError) as error:
                        run.fail(error)

    def _apply_namespace(self, operation: Operation, session: Session, repair: bool) -> None:
        item = subject(operation)
        assert isinstance(item, Namespace)
        name = item.namespace
        path = item.path or self.place(name).path
        ours = os.path.dirname(os.path.abspath(path)) == os.path.abspath(self._directory)
        if isinstance(operation, Remove):
            session.forget(name)
            self.disown(name)
            if ours:
                self.discard_namespace(name)
                namespaces.delete(path)
            return
        created = self._prepared.pop(name, None)
        if created is None:
            if (repair or not ours) and not namespaces.has_vanished(path, item.inode):
                self._adopted[name] = Place(path, item.inode)
                return
            if not ours:
                raise NotFound(f"no network namespace at {path}")
            created = self._create_namespace(path)
            if path != self.place(name).path:
                self._adopted[name] = Place(path, created.inode)
        session.welcome(name, created.socket)

    def _apply_sysctl(self, operation: Operation, session: Session, repair: bool) -> None:
        item = subject(operation)
        assert isinstance(item, Sysctl)
        if isinstance(operation, Remove):
            return  # a setting cannot be taken away by itself; it goes with its link
        try:
            sysctl.write(item.path, item.value, session.descriptor(item.namespace))
        except KernelRefused as error:
            without_ipv6 = item.path.endswith("/disable_ipv6") and item.value == "1"
            if without_ipv6 and error.errno == errno.ENOENT:
                return  # off for good: this kernel, or this link's small MTU, has none of it
            raise KernelRefused(describe_operation(operation), error.errno) from error

    def _apply_firewall(
        self, rows: Sequence[tuple[Run, Sequence[Operation]]], session: Session
    ) -> None:
        if len(rows) > 1:
            try:
                self._change_firewall([item for _, row in rows for item in row], session)
                for run, row in rows:
                    run.done += row
                return
            except (LinkspanError, OSError):
                pass  # the kernel undid all of it: find out whose fault it was
        for run, row in rows:
            try:
                self._change_firewall(row, session)
                run.done += row
            except (LinkspanError, OSError) as error:
                run.fail(error)

    def _change_firewall(self, operations: Sequence[Operation], session: Session) -> None:
        """One transaction a namespace."""
        places: dict[str, list[Operation]] = {}
        for operation in operations:
            places.setdefault(subject(operation).namespace, []).append(operation)
        for name, row in places.items():
            if name == HOST:
                self.firewall.transaction(row)
                continue
            from linkspan.kernel.netfilter.firewall import Firewall

            try:
                descriptor = session.descriptor(name)
            except NotFound:
                if all(isinstance(operation, Remove) for operation in row):
                    continue  # the table died with its namespace
                raise
            # A socket that owned tables there would keep a dead container's namespace alive.
            with Firewall(descriptor, name, own=False) as firewall:
                firewall.transaction(row)


def _reach_failpoints(rows: Sequence[tuple[Run, Sequence[Operation]]]) -> None:
    """Points behind every operation: `apply.add.link`, `apply.remove.element`, and so on."""
    for run, operations in rows:
        for operation in operations:
            verb, noun = type(operation).__name__, type(subject(operation)).__name__
            try:
                failpoints.reach(f"apply.{verb.lower()}.{noun.lower()}")
            except failpoints.InjectedFailure as error:
                run.fail(error)
