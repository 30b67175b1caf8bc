"""The protocol by hand, over a socket: what drivers hide, and what only a broken client would send."""
import base64
import hashlib
import hmac
import os
import socket
import ssl
import struct

from harness.processes import PATIENCE

SSL_REQUEST, GSS_REQUEST, CANCEL_REQUEST = 80877103, 80877104, 80877102


class Closed(Exception):
    """The server closed the connection."""


def message(kind, body=b""):
    return kind + struct.pack("!I", len(body) + 4) + body


def text(value):
    return (value.encode() if isinstance(value, str) else value) + b"\0"


def query(sql):
    return message(b"Q", text(sql))


def parse(sql, name="", types=()):
    return message(b"P", text(name) + text(sql) + struct.pack(f"!H{len(types)}I", len(types), *types))


def bind(values=(), statement="", portal="", formats=(), result_formats=()):
    body = text(portal) + text(statement) + struct.pack(f"!H{len(formats)}H", len(formats), *formats)
    body += struct.pack("!H", len(values))
    for value in values:
        data = value.encode() if isinstance(value, str) else value
        body += struct.pack("!i", -1) if data is None else struct.pack("!i", len(data)) + data
    return message(b"B", body + struct.pack(f"!H{len(result_formats)}H", len(result_formats), *result_formats))


def describe(kind, name=""):
    return message(b"D", kind.encode() + text(name))


def execute(portal="", rows=0):
    return message(b"E", text(portal) + struct.pack("!I", rows))


def close(kind, name=""):
    return message(b"C", kind.encode() + text(name))


SYNC, FLUSH, TERMINATE = message(b"S"), message(b"H"), message(b"X")


def startup(**parameters):
    body = struct.pack("!I", 196608) + b"".join(text(name) + text(value) for name, value in parameters.items()) + b"\0"
    return struct.pack("!I", len(body) + 4) + body


def fields(body):
    """{letter: text} of an ErrorResponse or NoticeResponse."""
    return {part[:1].decode(): part[1:].decode(errors="replace") for part in body.split(b"\0") if part}


class RawClient:
    """A socket with the framing of the protocol; read() gives (letter, body)."""

    def __init__(self, endpoint, timeout_s=20):
        self.endpoint = endpoint
        self.socket = socket.create_connection((endpoint.host, endpoint.port), timeout=timeout_s * PATIENCE)
        self.parameters = {}
        self.key = None

    def close(self):
        self.socket.close()

    def vanish(self):
        """Closes with RST, as a client whose machine died and came back."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def send(self, *parts):
        self.socket.sendall(b"".join(parts))

    def receive(self, size):
        data = bytearray()
        while len(data) < size:
            try:
                chunk = self.socket.recv(size - len(data))
            except ConnectionResetError:
                chunk = b""
            if not chunk:
                raise Closed()
            data += chunk
        return bytes(data)

    def read(self):
        head = self.receive(5)
        return head[:1].decode(), self.receive(struct.unpack("!I", head[1:])[0] - 4)

    def read_until(self, kinds="Z"):
        found = []
        while True:
            found.append(self.read())
            if found[-1][0] in kinds:
                return found

    def request_tls(self):
        """SSLRequest; true if the server then speaks TLS."""
        self.send(struct.pack("!II", 8, SSL_REQUEST))
        if self.receive(1) != b"S":
            return False
        context = ssl.create_default_context()
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        self.socket = context.wrap_socket(self.socket)
        return True

    def login(self, **parameters):
        """Startup and SCRAM-SHA-256; returns the messages after authentication up to ReadyForQuery."""
        self.send(startup(user=self.endpoint.user, database=self.endpoint.database, **parameters))
        self.authenticate()
        messages = self.read_until("Z")
        for kind, body in messages:
            if kind == "S":
                name, value = body[:-1].split(b"\0")
                self.parameters[name.decode()] = value.decode()
            elif kind == "K":
                self.key = struct.unpack("!II", body)
        return messages

    def begin_scram(self):
        """Client-first-message-bare, server-first-message and the latter's attributes."""
        nonce = base64.b64encode(os.urandom(18)).decode()
        first = f"n=,r={nonce}"
        reply = ("n,," + first).encode()
        self.send(message(b"p", text("SCRAM-SHA-256") + struct.pack("!I", len(reply)) + reply))
        kind, body = self.expect("R")
        server_first = body[4:].decode()
        values = dict(item.split("=", 1) for item in server_first.split(","))
        assert values["r"].startswith(nonce)
        return first, server_first, values

    def scram_salt(self):
        """The salt that is shown before the password is known to be right."""
        self.send(startup(user=self.endpoint.user, database=self.endpoint.database))
        self.expect("R")
        salt = self.begin_scram()[2]["s"]
        self.close()
        return salt

    def authenticate(self):
        kind, body = self.expect("R")
        code = struct.unpack("!I", body[:4])[0]
        if code == 0:
            return
        assert code == 10 and b"SCRAM-SHA-256\0" in body, (code, body)
        first, server_first, values = self.begin_scram()
        salted = hashlib.pbkdf2_hmac("sha256", self.endpoint.password.encode(), base64.b64decode(values["s"]),
                                     int(values["i"]))
        without_proof = f"c=biws,r={values['r']}"
        signed = f"{first},{server_first},{without_proof}".encode()
        client_key = hmac.digest(salted, b"Client Key", "sha256")
        signature = hmac.digest(hashlib.sha256(client_key).digest(), signed, "sha256")
        proof = base64.b64encode(bytes(a ^ b for a, b in zip(client_key, signature))).decode()
        self.send(message(b"p", f"{without_proof},p={proof}".encode()))
        kind, body = self.expect("R")
        expected = hmac.digest(hmac.digest(salted, b"Server Key", "sha256"), signed, "sha256")
        assert body[4:] == b"v=" + base64.b64encode(expected)
        self.expect("R")

    def expect(self, wanted):
        kind, body = self.read()
        if kind == "E":
            raise PermissionError(fields(body))
        assert kind == wanted, (kind, body)
        return kind, body

    def ask(self, *parts):
        """Sends the parts and reads to ReadyForQuery."""
        self.send(*parts)
        return self.read_until("Z")

    def cancel(self, key=None):
        other = socket.create_connection((self.endpoint.host, self.endpoint.port), timeout=10 * PATIENCE)
        other.sendall(struct.pack("!IIII", 16, CANCEL_REQUEST, *(key or self.key)))
        other.settimeout(10 * PATIENCE)
        left = other.recv(1)
        other.close()
        return left


def simplified(messages):
    """A transcript that two servers must share: errors by SQLSTATE, message and position, all else as it came."""
    found = []
    for kind, body in messages:
        if kind in "EN":
            said = fields(body)
            found.append((kind, said["C"], said["M"], said.get("P")))
        elif kind == "T":
            found.append((kind, row_description(body)))
        else:
            found.append((kind, body))
    return found


def row_description(body):
    """(name, type OID, size, modifier, format) of each column; the table's OID and column number are left out."""
    count = struct.unpack("!H", body[:2])[0]
    position, columns = 2, []
    for _ in range(count):
        end = body.index(b"\0", position)
        _, _, kind, size, modifier, form = struct.unpack("!IHIhiH", body[end + 1:end + 19])
        columns.append((body[position:end].decode(), kind, size, modifier, form))
        position = end + 19
    return tuple(columns)
