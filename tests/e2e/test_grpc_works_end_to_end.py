"""grpcio on both sides of the gateway: unary and streaming calls, trailers, status codes, deadlines, cancellation."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import NoReturn

import grpc  # type: ignore[import-untyped]
import pytest

from .conftest import StartGateway
from .gateway import Gateway, free_port
from .pki import Pki

cancelled = threading.Event()


def unary(request: bytes, context: grpc.ServicerContext) -> bytes:
    metadata = dict(context.invocation_metadata())
    context.send_initial_metadata((("x-initial", "1"),))
    context.set_trailing_metadata((("x-trailing", metadata.get("x-mine", "")), ("x-data-bin", b"\x00\xff")))
    return request[::-1]


def fail(request: bytes, context: grpc.ServicerContext) -> NoReturn:
    context.set_trailing_metadata((("x-why", "because"),))
    raise context.abort(grpc.StatusCode.NOT_FOUND, "not here: ü")


def wait(request: bytes, context: grpc.ServicerContext) -> bytes:
    cancelled.clear()
    context.add_callback(cancelled.set)
    cancelled.wait(60)
    return b""


def many(request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
    for number in range(int(request)):
        yield b"%d" % number


def total(requests: Iterator[bytes], context: grpc.ServicerContext) -> bytes:
    return b"%d" % sum(len(request) for request in requests)


def talk(requests: Iterator[bytes], context: grpc.ServicerContext) -> Iterator[bytes]:
    for request in requests:
        yield b"you said " + request


@pytest.fixture(scope="module")
def service() -> Iterator[str]:
    server = grpc.server(ThreadPoolExecutor(8))
    methods = {
        "Unary": grpc.unary_unary_rpc_method_handler(unary),
        "Fail": grpc.unary_unary_rpc_method_handler(fail),
        "Wait": grpc.unary_unary_rpc_method_handler(wait),
        "Many": grpc.unary_stream_rpc_method_handler(many),
        "Total": grpc.stream_unary_rpc_method_handler(total),
        "Talk": grpc.stream_stream_rpc_method_handler(talk),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("test.Service", methods),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield f"h2c://127.0.0.1:{port}"
    server.stop(0).wait()


@pytest.fixture(scope="module")
def edge(start_shared: StartGateway, pki: Pki, service: str) -> Gateway:
    return start_shared(
        f"""
        {pki.host()}
        [[route]]
        path = "/test.Service/"
        upstream = "{service}"
        [[route]]
        path = "/test.Down/"
        upstream = "http://127.0.0.1:{free_port()}"
        """
    )


@pytest.fixture(scope="module")
def channel(edge: Gateway, pki: Pki) -> Iterator[grpc.Channel]:
    credentials = grpc.ssl_channel_credentials(pki.ca.read_bytes())
    options = (("grpc.ssl_target_name_override", "localhost"), ("grpc.enable_http_proxy", 0))
    with grpc.secure_channel(f"127.0.0.1:{edge.port}", credentials, options) as channel:
        yield channel


def test_a_unary_call_with_metadata_both_ways(channel: grpc.Channel) -> None:
    answer, call = channel.unary_unary("/test.Service/Unary").with_call(b"abc", timeout=60, metadata=(("x-mine", "7"),))
    assert answer == b"cba"
    assert dict(call.initial_metadata())["x-initial"] == "1"
    assert dict(call.trailing_metadata()) == {"x-trailing": "7", "x-data-bin": b"\x00\xff"}
    assert call.code() is grpc.StatusCode.OK


def test_a_large_message_passes(channel: grpc.Channel) -> None:
    message = bytes(3_000_000) + b"end"
    assert channel.unary_unary("/test.Service/Unary")(message, timeout=60) == message[::-1]


def test_a_failure_keeps_its_status_message_and_trailers(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/test.Service/Fail")(b"", timeout=60)
    assert caught.value.code() is grpc.StatusCode.NOT_FOUND
    assert caught.value.details() == "not here: ü"
    assert dict(caught.value.trailing_metadata())["x-why"] == "because"


def test_an_unknown_method_is_unimplemented(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/test.Service/Nothing")(b"", timeout=60)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED


def test_server_streaming(channel: grpc.Channel) -> None:
    assert list(channel.unary_stream("/test.Service/Many")(b"500", timeout=60)) == [b"%d" % number for number in range(500)]


def test_client_streaming(channel: grpc.Channel) -> None:
    assert channel.stream_unary("/test.Service/Total")(iter([b"x" * 1000] * 300), timeout=60) == b"300000"


def test_a_conversation_takes_turns(channel: grpc.Channel) -> None:
    """Each message is answered before the next is sent: nothing on the way waits for more."""
    answered = threading.Semaphore(1)

    def sayings() -> Iterator[bytes]:
        for number in range(20):
            assert answered.acquire(timeout=60)
            yield b"%d" % number

    heard = []
    for answer in channel.stream_stream("/test.Service/Talk")(sayings(), timeout=60):
        heard.append(answer)
        answered.release()
    assert heard == [b"you said %d" % number for number in range(20)]


def test_a_deadline_ends_the_call_and_cancels_the_work(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/test.Service/Wait")(b"", timeout=3)
    assert caught.value.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert cancelled.wait(60)


def test_cancelling_a_call_cancels_the_work(channel: grpc.Channel) -> None:
    silent = threading.Event()

    def sayings() -> Iterator[bytes]:
        yield b"hello"
        silent.wait(60)

    stream = channel.stream_stream("/test.Service/Talk")(sayings(), timeout=60)
    assert next(stream) == b"you said hello"
    stream.cancel()
    assert stream.code() is grpc.StatusCode.CANCELLED
    silent.set()
    assert channel.unary_unary("/test.Service/Unary")(b"ab", timeout=60) == b"ba"


def test_an_upstream_that_is_down_is_unavailable(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/test.Down/Unary")(b"", timeout=60)
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE


def test_the_gateways_own_refusal_is_a_grpc_status(channel: grpc.Channel) -> None:
    with pytest.raises(grpc.RpcError) as caught:
        channel.unary_unary("/no.Route/Here")(b"", timeout=60)
    assert caught.value.code() is grpc.StatusCode.UNIMPLEMENTED  # 404, as gRPC maps it
