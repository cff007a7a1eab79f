"""What a peer does with what it should never get: one clear refusal, a count, and on it goes."""

import signal
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
import zmq

from zlb.core.errors import ErrorCode
from zlb.core.message import Message
from zlb.wire import codec
from zlb.wire.messages import Done, Hello, Part, Refused, TaskReport, Welcome

WAIT_MS = 10_000


class Stranger:
    """A raw DEALER that says what it likes."""

    def __init__(self, endpoint: str, name: bytes) -> None:
        self.socket = zmq.Context.instance().socket(zmq.DEALER)
        self.socket.linger = 0
        self.socket.routing_id = name
        self.socket.connect(endpoint)
        self.endpoint = endpoint

    def say(self, *frames: bytes) -> None:
        self.socket.send_multipart(frames)

    def hear(self) -> Message:
        assert self.socket.poll(WAIT_MS), "no answer"
        return codec.decode(self.socket.recv())

    def greet(self) -> None:
        name = self.socket.routing_id.decode()
        self.say(codec.encode(Hello(name, 1, self.endpoint, "", "")))
        assert isinstance(self.hear(), Welcome)


@pytest.fixture
def stranger() -> Iterator[Callable[..., Stranger]]:
    made: list[Stranger] = []

    def make(endpoint: str, name: bytes = b"stranger") -> Stranger:
        made.append(Stranger(endpoint, name))
        return made[-1]

    yield make
    for one in made:
        one.socket.close()


def test_strangers_are_refused_and_the_peer_goes_on(
    peer: Callable, stranger: Callable, submit: Callable
) -> None:
    only = peer()
    one = stranger(only.endpoint)
    one.say(b"GET / HTTP/1.1\r\n\r\n")  # no signature: no answer, only counted
    one.say(b"two", b"frames")
    one.say(codec.SIGNATURE + bytes((9, 1)) + b"\x90")
    refused = one.hear()
    assert isinstance(refused, Refused)
    assert refused.code == ErrorCode.VERSION
    assert "version 9" in refused.detail and "version 1" in refused.detail
    one.say(codec.SIGNATURE + bytes((1, 200)) + b"\x90")
    assert (answer := one.hear()).code == ErrorCode.KIND, answer
    one.say(codec.encode(Hello("stranger", 1, "", "", ""))[:-1])
    assert (answer := one.hear()).code == ErrorCode.MALFORMED, answer
    one.say(codec.encode(Hello("stranger", 1, "", "", "")) + bytes(2 << 20))
    assert (answer := one.hear()).code == ErrorCode.OVERSIZED, answer
    report = codec.encode(TaskReport("j-1", 1, 1, (Part(1, True, (Done(0, 5),), (), 0, ""),)))
    one.say(report)
    assert (answer := one.hear()).code == ErrorCode.NOT_LINKED, answer
    one.greet()
    one.say(report)
    assert (answer := one.hear()).code == ErrorCode.NOT_A_COORDINATOR, answer
    one.say(bytes(8 << 20))  # libzmq cuts this connection
    nameless = stranger(only.endpoint, b"\x01\x02")
    nameless.say(codec.encode(Hello("x", 1, "", "", "")))
    assert (answer := nameless.hear()).code == ErrorCode.MALFORMED, answer
    assert submit("-d", "16", "--lowest", "--peer", only.endpoint).integers == [31214]
    assert only.end(signal.SIGTERM) == 0
    counted = only.wait_for("refused from others: (.*)")[1]
    assert all(name in counted for name in ("VERSION", "KIND", "MALFORMED", "OVERSIZED"))


def test_raw_bytes_that_are_not_even_zeromq(peer: Callable, submit: Callable) -> None:
    only = peer()
    host, port = only.endpoint.removeprefix("tcp://").split(":")
    with socket.create_connection((host, int(port))) as raw:
        raw.sendall(b"\0" * 4096)
    assert submit("-d", "16", "--lowest", "--peer", only.endpoint).code == 0


def test_an_old_peer_is_named_in_one_line(submit: Callable) -> None:
    """A listener of another version refuses our HELLO: the client says so and exits 5."""
    router = zmq.Context.instance().socket(zmq.ROUTER)
    router.linger = 0
    port = router.bind_to_random_port("tcp://127.0.0.1")

    def refuse() -> None:
        assert router.poll(WAIT_MS)
        name, _ = router.recv_multipart()
        detail = "the message has protocol version 1, this node speaks version 7"
        frame = codec.encode(Refused(ErrorCode.VERSION, detail))
        router.send_multipart((name, frame[:2] + b"\x07" + frame[3:]))

    thread = threading.Thread(target=refuse)
    thread.start()
    answer = submit("-d", "20", "--peer", f"tcp://127.0.0.1:{port}")
    thread.join()
    router.close()
    assert answer.code == 5
    assert "speaks version 7" in answer.err
    assert len(answer.err.strip().splitlines()) <= 2


def test_nobody_there(submit: Callable) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        answer = submit("-d", "20", "--peer", f"tcp://127.0.0.1:{free.getsockname()[1]}")
    assert answer.code == 5
    assert len(answer.err.strip().splitlines()) == 1


def test_one_of_two_peers_is_not_there(submit: Callable, peer: Callable) -> None:
    answer = submit("-d", "16", "--lowest", "--peer", "tcp://127.0.0.1:1", "--peer", peer().endpoint)
    assert (answer.code, answer.integers) == (0, [31214])


def test_port_in_use(peer: Callable, spawn: Callable) -> None:
    first = peer()
    second = spawn(type(first), "zlb.cli.peer", "--listen", first.endpoint)
    assert "in use" in second.next()
    assert second.popen.wait(60) == 7


def test_beyond_loopback_only_when_told(peer: Callable, spawn: Callable) -> None:
    refused = spawn(type(peer()), "zlb.cli.peer", "--listen", "tcp://0.0.0.0:*")
    refused.wait_for("--insecure")
    assert refused.popen.wait(60) == 2
    assert peer("--insecure", listen="tcp://0.0.0.0:*").end(signal.SIGTERM) == 0
