//! The part of the contract about messages that are sent soon.

use super::*;

/// Gathered messages keep their order, among themselves and with what is sent at once, and what finds no room is
/// given back.
pub(super) fn gathers(subject: &Subject) {
    const MESSAGE: usize = 1_500;
    let mut rig = Rig::new(subject);
    let (client, server) = rig.pair();
    let whole = pattern(4 << 20);
    let (mut sent, mut got) = (0, Vec::new());
    let mut full = false;
    rig.until("all bytes", |rig| {
        if let Some(bytes) = rig.unsent.remove(&client) {
            full = true;
            sent -= bytes.len();
            assert_eq!(bytes, whole[sent..sent + bytes.len()], "given back is the end of what was taken");
            if !rig.writable.remove(&client) {
                rig.until("room", |rig| {
                    rig.pull(server, 65_536, &mut got).unwrap();
                    rig.writable.remove(&client).then_some(())
                });
            }
        }
        // As the engine: nothing more is sent to a connection that has no room.
        for number in 0..200 {
            let end = (sent + MESSAGE).min(whole.len());
            let (first, second) = whole[sent..end].split_at((end - sent) / 2);
            let slices = [IoSlice::new(first), IoSlice::new(second)];
            let soon = number % 7 != 0;
            let accepted = match soon {
                true => rig.driver.send_soon(client, &slices).unwrap(),
                false => rig.driver.send(client, &slices).unwrap(),
            };
            sent += accepted;
            if sent < end {
                full = true;
                break;
            }
        }
        // The receiver begins late, so that the room is used up.
        if sent == whole.len() || full {
            rig.pull(server, 65_536, &mut got).unwrap();
        }
        (got.len() == whole.len() && rig.unsent.is_empty()).then_some(())
    });
    assert_eq!(got, whole);
    rig.driver.send_soon(client, &[IoSlice::new(b"last")]).unwrap();
    rig.driver.shutdown(client);
    assert_eq!(rig.receive_to_end(server), b"last");
    rig.close(client, false);
    rig.close(server, false);
}

/// A gathered message to a peer that has reset fails at once or by the next receive, never as an orderly end.
pub(super) fn gathers_for_nobody(subject: &Subject) {
    let mut rig = Rig::new(subject);
    let (client, server) = rig.pair();
    rig.send(client, b"x");
    assert_eq!(rig.receive(server, 1), b"x");
    rig.close(client, true);
    // Once the reset has come, or before: the turn in which it comes is the kernel's to choose.
    for _ in 0..20 {
        if rig.driver.send_soon(server, &[IoSlice::new(b"y")]).is_err() {
            break;
        }
        rig.turn();
    }
    let (bytes, error) = rig.receive_error(server);
    assert_eq!(bytes, b"");
    assert!(matches!(error.kind(), ErrorKind::ConnectionReset | ErrorKind::BrokenPipe), "{error}");
    rig.close(server, false);
}
