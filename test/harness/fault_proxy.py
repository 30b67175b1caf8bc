"""A proxy in front of a PostgreSQL server that reads the protocol, and breaks it at a chosen message.

FaultProxy stands in for its server where a Router is made. arm() sets one fault: at the n-th message of a client whose
text fits, before it goes on to the server or after the server has answered it and before the client hears of it.
"""
import asyncio
import dataclasses
import struct
import threading

from harness.processes import PATIENCE, free_port

SPECIAL_REQUESTS = {80877102: "cancel", 80877103: "TLS", 80877104: "GSSAPI"}


@dataclasses.dataclass
class Fault:
    """`action`: cut (this connection), cut all (and refuse others until restore()), stall (hold it for `seconds`), or a
    function, called on a thread of its own while the message waits. `fired`: it has done so, or begun to stall."""
    fits: object  # text of a message -> bool
    action: object
    when: str = "before"
    number: int = 1
    seconds: float = 1.0
    fired: threading.Event = dataclasses.field(default_factory=threading.Event)


class Link:
    """One connection of a client with its own to the server."""

    def __init__(self, proxy, reader, writer):
        self.proxy, self.client, self.to_client = proxy, reader, writer
        self.server = self.to_server = None
        self.held = None  # the fault that waits for the server's answer
        self.open = asyncio.Event()  # replies may pass
        self.open.set()

    def abort(self):
        for writer in (self.to_client, self.to_server):
            if writer is not None:
                writer.transport.abort()

    async def run(self):
        try:
            first = await self.client.readexactly(8)
            length, code = struct.unpack("!ii", first)
            rest = await self.client.readexactly(length - 8)
            server = self.proxy.server.endpoint
            self.server, self.to_server = await asyncio.open_connection(server.host, server.port)
            self.to_server.write(first + rest)
            if code in SPECIAL_REQUESTS:
                self.to_client.write(await self.server.read())
                return
            ways = [asyncio.ensure_future(way) for way in (self.pass_messages(), self.pass_replies())]
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
        except (OSError, asyncio.IncompleteReadError):
            pass
        finally:
            self.abort()

    async def pass_messages(self):
        while True:
            head = await self.client.readexactly(5)
            body = await self.client.readexactly(struct.unpack("!i", head[1:])[0] - 4)
            fault = self.proxy.fault_of(head[:1], body)
            if fault is not None and fault.when == "before":
                await self.act(fault)
            elif fault is not None:
                self.held = fault
            self.to_server.write(head + body)
            await self.to_server.drain()

    async def pass_replies(self):
        kept = b""
        while True:
            head = await self.server.readexactly(5)
            message = head + await self.server.readexactly(struct.unpack("!i", head[1:])[0] - 4)
            kept += message
            if self.held is not None:
                if head[:1] != b"Z":
                    continue
                fault, self.held = self.held, None
                await self.act(fault)
            await self.open.wait()
            self.to_client.write(kept)
            kept = b""
            await self.to_client.drain()

    async def act(self, fault):
        if fault.action == "cut":
            self.abort()
        elif fault.action == "cut all":
            self.proxy.cut_all()
        elif fault.action == "stall":
            self.open.clear()
            fault.fired.set()
            await asyncio.sleep(fault.seconds)
            self.open.set()
        else:
            await asyncio.get_running_loop().run_in_executor(None, self.call, fault)
            return
        fault.fired.set()

    @staticmethod
    def call(fault):
        """What it ends may be this link, and the task that waits for it."""
        fault.action()
        fault.fired.set()


class FaultProxy:
    """Runs on a thread of its own from start() to stop()."""

    tls = None

    def __init__(self, server):
        self.server = server
        self.endpoint = dataclasses.replace(server.endpoint, port=free_port())
        self.links, self.refusing, self.fault, self.seen = set(), False, None, 0
        self.loop = asyncio.new_event_loop()
        self.thread = threading.Thread(target=self.loop.run_forever, daemon=True)

    def make_internal_role(self):
        self.server.make_internal_role()

    def start(self):
        self.thread.start()
        self.call(asyncio.start_server(self.accept, self.endpoint.host, self.endpoint.port))
        return self

    def call(self, coroutine):
        return asyncio.run_coroutine_threadsafe(coroutine, self.loop).result(30 * PATIENCE)

    async def accept(self, reader, writer):
        link = Link(self, reader, writer)
        if self.refusing:
            link.abort()
            return
        self.links.add(link)
        try:
            await link.run()
        finally:
            self.links.discard(link)

    def fault_of(self, kind, body):
        """The armed fault, if this is its message; it is armed no more then."""
        fault = self.fault
        if fault is None or kind not in (b"Q", b"P", b"B", b"d") or not fault.fits(body.decode("latin-1")):
            return None
        self.seen += 1
        if self.seen != fault.number:
            return None
        self.fault = None
        return fault

    def cut_all(self):
        self.refusing = True
        for link in list(self.links):
            link.abort()

    def arm(self, fault):
        async def do():
            self.fault, self.seen = fault, 0
        self.call(do())
        return fault

    def restore(self):
        """Nothing is armed, and connections are taken again."""
        async def do():
            self.fault, self.refusing = None, False
        self.call(do())

    def stop(self):
        async def do():
            self.cut_all()
        self.call(do())
        self.loop.call_soon_threadsafe(self.loop.stop)
        self.thread.join(30 * PATIENCE)
