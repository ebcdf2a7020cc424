"""No callback reaches an inner address, however it is spelt, wherever a name leads and whatever a receiver answers."""

import asyncio
import contextlib
import socket
import ssl
import subprocess
from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import aiohttp
import pytest
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from services.contracts.errors import Code, Problem
from services.ingest.callbacks.addresses import Inner, guarded_socket, is_public
from services.ingest.callbacks.policy import Policy
from services.ingest.callbacks.post import poster
from tests.doors.receiver import receiving, status

EVERYWHERE = "0.0.0.0"  # noqa: S104 - the whole machine listens, so that nothing is missed
LOOPBACK = [
    *("127.0.0.1", "127.1", "127.0.1", "127.0.0.1.", "127.000.000.001", "127.255.255.254", "127.0.0.2"),
    *("0x7f000001", "0x7F000001", "0x7f.0.0.1", "0x7f.1", "0177.0.0.1", "0177.1", "017700000001", "2130706433"),
    *("0", EVERYWHERE, "0x0", "00.0.0.0", "localhost", "LOCALHOST", "LocalHost.", "localhost.localdomain"),
    *("①②⑦.0.0.1", "①②⑦.⓪.⓪.①", "１２７.０.０.１", "127。0。0。1", "127．0．0．1", "ⓛⓞⓒⓐⓛⓗⓞⓢⓣ"),
    *("[::1]", "[::]", "[0:0:0:0:0:0:0:1]", "[0000:0000:0000:0000:0000:0000:0000:0001]", "[::0.0.0.1]", "[0::1]"),
    *("[::ffff:127.0.0.1]", "[::ffff:7f00:1]", "[0:0:0:0:0:ffff:7f00:0001]", "[::FFFF:127.0.0.1]"),
    *("[::127.0.0.1]", "[::7f00:1]", "[64:ff9b::7f00:1]", "[64:ff9b::127.0.0.1]", "[64:ff9b:1::7f00:1]"),
    *("[2002:7f00:1::]", "[2002:7f00:0001::1]", "[2001:0:7f00:1::]", "[2001:0:0:0:0:0:80ff:fffe]"),
    *("user@127.0.0.1", "user:word@127.0.0.1", "example.com@127.0.0.1", "example.com:443@localhost", "@127.0.0.1"),
    *("127.0.0.1%2e", "127.0.0.1%00.example.com", "%31%32%37.0.0.1", "localhost%09", "127.0.0.1\t", " 127.0.0.1"),
    *("127.0.0.1\\@example.com", "127.0.0.1\r\nHost:x", "ip6-localhost", "ip6-loopback"),
]
INNER = [
    *(
        "10.0.0.1",
        "10.255.255.255",
        "012.0.0.1",
        "0xa000001",
        "172.16.0.1",
        "172.31.255.255",
        "192.168.0.1",
        "192.168.1",
    ),
    *("169.254.169.254", "169.254.170.2", "0xa9fea9fe", "2852039166", "0251.0376.0251.0376", "169.254.43518"),
    *(
        "[::ffff:169.254.169.254]",
        "[::ffff:a9fe:a9fe]",
        "[64:ff9b::a9fe:a9fe]",
        "[2002:a9fe:a9fe::]",
        "[fd00:ec2::254]",
    ),
    *("100.64.0.1", "100.100.100.200", "192.0.0.1", "192.0.0.192", "168.63.129.16", "198.18.0.1", "198.51.100.1"),
    *("224.0.0.1", "239.255.255.250", "240.0.0.1", "255.255.255.255", "192.0.2.1", "203.0.113.9", "192.88.99.1"),
    *("[fe80::1]", "[fe80::1%25lo]", "[fe80::1%lo]", "[fec0::1]", "[fc00::1]", "[fdff::1]", "[ff02::1]", "[ff0e::1]"),
    *("[100::1]", "[2001:db8::1]", "[2001:10::1]", "[2001:20::1]", "[2001:2::1]", "[3fff::1]", "[5f00::1]"),
]
PUBLIC = ["8.8.8.8", "1.1.1.1", "93.184.216.34", "172.32.0.1", "100.128.0.1", "2606:4700:4700::1111", "2a00:1450::1"]
REFUSED = {"url_refused", "address_refused", "unknown_host"}


class Listener:
    """Every connection to any address of this machine, at one port, is counted."""

    def __init__(self) -> None:
        self.port = 0
        self.connections = 0

    async def take(self, _: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        writer.close()


@pytest.fixture
async def listener() -> AsyncIterator[Listener]:
    it = Listener()
    server = await asyncio.start_server(it.take, EVERYWHERE, 0)
    it.port = server.sockets[0].getsockname()[1]
    servers = [server]
    if socket.has_ipv6:
        with contextlib.suppress(OSError):  # no IPv6 on this machine
            servers.append(await asyncio.start_server(it.take, "::", it.port))
    yield it
    for one in servers:
        one.close()
        await one.wait_closed()


def own_addresses() -> list[str]:
    """The addresses of this machine itself, and its name."""
    found = {str(info[4][0]) for info in socket.getaddrinfo(socket.gethostname(), None, type=socket.SOCK_STREAM)}
    return [socket.gethostname(), *(f"[{one}]" if ":" in one else one for one in found)]


def test_there_are_spellings_enough() -> None:
    """What follows is tried with more than a hundred of them."""
    assert len({*LOOPBACK, *INNER}) >= 100


async def test_the_listener_would_be_reached(listener: Listener) -> None:
    """Without the guard a call arrives, so that the silence of the other tests means something."""
    policy = Policy(http=True, hosts=[f"127.0.0.1:{listener.port}"])
    async with poster(policy, timeout=60) as calls:
        answer = await calls.post(f"http://127.0.0.1:{listener.port}/", b"{}", {})
    assert (answer.error, listener.connections) == ("no_answer", 1)


async def test_no_spelling_reaches_an_inner_address(listener: Listener) -> None:
    """Every spelling of every kind of inner address is refused, and nothing is dialled."""
    async with poster(Policy(http=True, ports=[listener.port]), timeout=60) as calls:
        for host in [*LOOPBACK, *INNER, *own_addresses()]:
            answer = await calls.post(f"http://{host}:{listener.port}/hook", b"{}", {})
            assert (answer.error in REFUSED, answer.status) == (True, None), (host, answer)
    assert listener.connections == 0


async def test_the_guard_alone_is_enough(listener: Listener) -> None:
    """Without any look at the URL, the check of the address that is dialled refuses all of them by itself."""
    connector = aiohttp.TCPConnector(socket_factory=guarded_socket)
    async with aiohttp.ClientSession(connector=connector, timeout=aiohttp.ClientTimeout(total=60)) as session:
        for host in [*LOOPBACK, *INNER, *own_addresses()]:
            try:
                url = URL(f"http://{host}:{listener.port}/hook")
                async with session.post(url) as response:
                    pytest.fail(f"{host} answered {response.status}")
            except (aiohttp.InvalidURL, aiohttp.ClientConnectorDNSError, ValueError):
                continue  # no address at all
            except aiohttp.ClientConnectorError as error:
                if not isinstance(error.os_error, Inner):
                    pytest.fail(f"{host} was dialled")
    assert listener.connections == 0


class Rebinding(AbstractResolver):
    """A name server whose every answer is another inner address, after a public one for whoever only looks."""

    def __init__(self, answers: Sequence[Sequence[str]]) -> None:
        self.asked = 0
        self._answers = answers

    async def resolve(
        self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC
    ) -> list[ResolveResult]:
        found = self._answers[self.asked % len(self._answers)]
        self.asked += 1
        return [
            ResolveResult(
                hostname=host,
                host=one,
                port=port,
                family=socket.AF_INET6 if ":" in one else socket.AF_INET,
                proto=0,
                flags=socket.AI_NUMERICHOST,
            )
            for one in found
        ]

    async def close(self) -> None:
        """Nothing is open."""


async def test_a_name_that_leads_elsewhere_each_time_reaches_nothing(listener: Listener) -> None:
    """Names are looked up once per call, and it is that answer which is checked: a second answer does not exist."""
    answers = [
        ["127.0.0.1"],
        ["::1"],
        ["127.0.0.1", "::1", "127.0.0.2"],
        ["::ffff:127.0.0.1"],
        [EVERYWHERE],
        ["10.1.2.3"],
    ]
    names = Rebinding(answers)
    async with poster(Policy(http=True, ports=[listener.port]), timeout=60, resolver=names) as calls:
        for n in range(2 * len(answers)):
            answer = await calls.post(f"http://rebind.example.com:{listener.port}/", b"{}", {})
            assert answer.error == "address_refused", answers[n % len(answers)]
    assert (names.asked, listener.connections) == (2 * len(answers), 0)


async def test_a_listed_name_is_the_only_one(listener: Listener) -> None:
    """The operator's list is exact: the same address by another name or at another port is not on it."""
    names = Rebinding([["127.0.0.1"]])
    policy = Policy(http=True, hosts=[f"hooks.example.com:{listener.port}"], ports=[listener.port])
    async with poster(policy, timeout=60, resolver=names) as calls:
        for host in ("127.0.0.1", "other.example.com", "hooks.example.com.", "sub.hooks.example.com"):
            assert (await calls.post(f"http://{host}:{listener.port}/", b"{}", {})).error in REFUSED, host
        assert listener.connections == 0
        await calls.post(f"http://Hooks.Example.com:{listener.port}/", b"{}", {})
        assert listener.connections == 1


async def test_a_redirect_is_not_followed(listener: Listener) -> None:
    """A receiver that sends us elsewhere has not taken the call, and elsewhere nobody is called."""
    async with receiving() as there:
        codes = (301, 302, 303, 307, 308)
        there.answers["/"] = [status(code, location=f"http://127.0.0.1:{listener.port}/") for code in codes]
        policy = Policy(http=True, hosts=[f"127.0.0.1:{there.port}", f"127.0.0.1:{listener.port}"])
        async with poster(policy, timeout=60) as calls:
            assert [(await calls.post(there.url("/"), b"{}", {})).status for _ in codes] == list(codes)
    assert listener.connections == 0


async def test_the_environment_names_no_proxy(listener: Listener, monkeypatch: pytest.MonkeyPatch) -> None:
    """A proxy of the environment, which would dial for us unguarded, is not used."""
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{listener.port}")
    async with poster(Policy(http=True), timeout=60, resolver=Rebinding([["127.0.0.1"]])) as calls:
        assert (await calls.post("http://example.com/", b"{}", {})).error == "address_refused"
    assert listener.connections == 0


async def test_a_certificate_is_verified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A receiver whose certificate nobody vouches for is not spoken to; one that the operator vouches for is."""
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    make = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes -days 2 -subj /CN=receiver"
    names = ("-addext", "subjectAltName=IP:127.0.0.1", "-keyout", str(key), "-out", str(certificate))
    await asyncio.to_thread(subprocess.run, (*make.split(), *names), check=True, capture_output=True)
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(certificate, key)
    async with receiving(tls) as there:
        policy = Policy(hosts=[f"127.0.0.1:{there.port}"])
        async with poster(policy, timeout=60) as calls:
            assert (await calls.post(there.url("/", "https"), b"{}", {})).error == "tls"
        assert there.calls == []
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        async with poster(policy, timeout=60) as calls:
            assert (await calls.post(there.url("/", "https"), b"{}", {})).status == 204


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_public(address: str) -> None:
    """What is refused is not everything."""
    assert is_public(address)


def test_an_address_of_this_machine_is_none() -> None:
    """This machine's own addresses are refused, public ones too: nothing of ours is called by way of its outside."""
    for address in own_addresses()[1:]:
        assert not is_public(address.strip("[]").partition("%")[0])


@pytest.mark.parametrize(
    "url",
    [
        *("ftp://example.com/", "file:///etc/passwd", "gopher://example.com/", "example.com", "//example.com", ""),
        *("http://example.com/", "https://example.com:22/", "https://example.com:80/", "https://example.com:99999/"),
        *(
            "https://u:p@example.com/",
            "https://example.com/#part",
            "https:///path",
            "https://",
            "https://exa mple.com/",
        ),
        *(
            "https://127.0.0.1/",
            "https://0x7f.1/",
            "https://[::1]/",
            "https://10.0.0.1:8443/",
            "https://[fe80::1%25eth0]/",
        ),
        *("https://example.com/" + "x" * 2048, "https://example.com/\n", "https://example.com\\@127.0.0.1/"),
    ],
)
def test_what_is_refused_at_once(url: str) -> None:
    """An address that can never be called back is refused when it is named, without being quoted."""
    with pytest.raises(Problem) as refused:
        Policy().check(url)
    assert refused.value.code == Code.CALLBACK_URL
    assert len(url) < 10 or url not in str(refused.value.body())


@pytest.mark.parametrize(
    "url",
    [
        "https://example.com/hook?token=1",
        "https://example.com:8443/",
        "https://xn--bcher-kva.example/",
        "https://8.8.8.8/",
    ],
)
def test_what_may_be_called(url: str) -> None:
    """Addresses of the public web are taken as they are."""
    assert Policy().check(url) == url
