//! Upgrade: after a 101 the connection is a tunnel.

use std::process::{Command, Stdio};

use crate::harness::lb::one_server;
use crate::harness::origin::ok;
use crate::harness::tools::{run_ok, unused_address};
use crate::harness::*;

const UPGRADE: &str = "GET /ws HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
                       Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n";
const SWITCHED: &str = "HTTP/1.1 101 Switching Protocols\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
                        Sec-WebSocket-Accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n\r\n";

on_both_drivers! {
    bytes_pass_both_ways_after_101,
    much_passes_both_ways_at_once,
    a_refused_upgrade_is_an_ordinary_response,
    a_101_that_nobody_asked_for_is_refused,
    a_silent_tunnel_ends,
    a_real_websocket_library_echoes,
}

fn bytes_pass_both_ways_after_101(driver: Driver) {
    let origin = Origin::scripted(|conversation| {
        let Some(request) = conversation.head() else { return };
        assert_eq!(request.field("upgrade"), Some("websocket"));
        assert!(request.field("connection").unwrap_or("").to_ascii_lowercase().contains("upgrade"));
        // The first bytes of the tunnel ride in the same segment as the head.
        let _ = conversation.write(format!("{SWITCHED}greeting"));
        while conversation.more() {
            let waiting = conversation.wire().waiting().len();
            let bytes = conversation.take(waiting).unwrap();
            if conversation.write(bytes).is_err() {
                return;
            }
        }
        let _ = conversation.write("goodbye");
    });
    let lb = Lb::start(driver, one_server(&origin));
    let mut client = Client::connect(lb.web());
    client.send(UPGRADE);
    let response = client.response();
    assert_eq!(response.status(), 101);
    assert_eq!(response.field("upgrade"), Some("websocket"));
    assert_eq!(response.field("sec-websocket-accept"), Some("s3pPLMBiTxaQ9kYGzzhZRbK+xOo="));
    assert_eq!(client.take(8), b"greeting");
    for number in 0..100_u64 {
        let bytes = pattern(number, 1 + number as usize * 37);
        client.send(&bytes);
        assert_same_bytes("an echo", &client.take(bytes.len()), &bytes);
    }
    // Each side ends by itself.
    client.end();
    assert_eq!(client.take(7), b"goodbye");
    client.assert_closed();
    let line = lb.access_line(&["GET /ws", " 101 "]);
    assert_eq!(lb.access_log().lines().count(), 1, "one exchange, one line: {line}");
}

fn much_passes_both_ways_at_once(driver: Driver) {
    const SIZE: usize = 16 << 20;
    let origin = Origin::scripted(|conversation| {
        if conversation.head().is_none() {
            return;
        }
        let _ = conversation.write(SWITCHED);
        let mut stream = conversation.wire().stream().try_clone().unwrap();
        std::thread::scope(|scope| {
            scope.spawn(move || std::io::Write::write_all(&mut stream, &pattern(2, SIZE)));
            let up = conversation.take(SIZE).expect("all of it comes");
            assert_same_bytes("upwards", &up, &pattern(1, SIZE));
        });
        let _ = conversation.write("same");
    });
    let lb = Lb::start(driver, one_server(&origin));
    let mut client = Client::connect(lb.web());
    client.send(UPGRADE);
    assert_eq!(client.response().status(), 101);
    let mut stream = client.wire().stream().try_clone().unwrap();
    std::thread::scope(|scope| {
        scope.spawn(move || std::io::Write::write_all(&mut stream, &pattern(1, SIZE)).unwrap());
        let down = client.take(SIZE);
        assert_same_bytes("downwards", &down, &pattern(2, SIZE));
    });
    assert_eq!(client.take(4), b"same");
    client.assert_closed();
}

fn a_refused_upgrade_is_an_ordinary_response(driver: Driver) {
    let origin = Origin::answering(|_| ok("no tunnel here"));
    let lb = Lb::start(driver, one_server(&origin));
    let mut client = Client::connect(lb.web());
    for _ in 0..3 {
        assert_eq!(client.exchange(UPGRADE).text(), "no tunnel here");
    }
}

fn a_101_that_nobody_asked_for_is_refused(driver: Driver) {
    let origin = Origin::scripted(|conversation| {
        conversation.request();
        let _ = conversation.write(SWITCHED);
        conversation.until_closed();
    });
    let lb = Lb::start(driver, one_server(&origin));
    let response = client::get(lb.web(), "a", "/");
    assert_eq!(response.status(), 502);
    assert!(response.field("x-lb-reason").is_some(), "{response:?}");
}

fn a_silent_tunnel_ends(driver: Driver) {
    let origin = Origin::scripted(|conversation| {
        conversation.request();
        let _ = conversation.write(SWITCHED);
        conversation.until_closed();
    });
    let lb = Lb::start(driver, format!("[timeouts]\ntunnel_idle = \"300ms\"\n{}", one_server(&origin)));
    let mut client = Client::connect(lb.web());
    client.send(UPGRADE);
    assert_eq!(client.response().status(), 101);
    client.assert_closed();
    origin.wait_for("its end of the tunnel to close", |records| {
        records.iter().all(|(_, ended)| ended.is_some())
    });
}

fn a_real_websocket_library_echoes(driver: Driver) {
    let address = unused_address();
    let (host, port) = (address.ip(), address.port());
    let server = format!(
        "import asyncio, websockets\n\
         async def echo(ws):\n    async for message in ws:\n        await ws.send(message)\n\
         async def main():\n    async with websockets.serve(echo, '{host}', {port}, max_size=None):\n        await asyncio.Future()\n\
         asyncio.run(main())\n"
    );
    // Debian's Python, which python3-websockets belongs to.
    let mut child =
        Command::new("/usr/bin/python3").args(["-c", &server]).stdin(Stdio::null()).spawn().unwrap();
    until("the echo server to listen", || std::net::TcpStream::connect(address).is_ok());
    let lb = Lb::start(driver, lb::servers(&[("echo", address)]));
    let client = format!(
        "import asyncio, os, websockets\n\
         async def main():\n    async with websockets.connect('ws://{}/x', max_size=None) as ws:\n\
         \x20       for size in [0, 1, 125, 126, 65535, 65536, 3000000]:\n            data = os.urandom(size)\n\
         \x20           await ws.send(data)\n            assert await ws.recv() == data, size\n\
         \x20       await ws.send('text')\n        assert await ws.recv() == 'text'\n        await ws.ping()\n\
         asyncio.run(main())\nprint('echoed')\n",
        lb.web()
    );
    let printed = run_ok(Command::new("/usr/bin/python3").args(["-c", &client]));
    let _ = child.kill();
    let _ = child.wait();
    assert_eq!(printed.trim(), "echoed");
}
