//! The part of the contract about connections that go to another driver.

use super::*;

/// A connection that is given away goes on where it is attached, with what came meanwhile, and its old key names nothing.
pub(super) fn gives_connections_away(subject: &Subject) {
    let mut rig = Rig::new(subject);
    for watched in [true, false] {
        let (client, mut server) = rig.pair();
        for round in 0..3 {
            if watched {
                rig.send(client, b"before");
                assert_eq!(rig.receive(server, 6), b"before");
            }
            let socket = rig.driver.detach(server).expect("it is there");
            assert!(rig.driver.detach(server).is_none(), "it is given away once");
            rig.closed.insert(server);
            rig.send(client, b"meanwhile");
            for _ in 0..round {
                rig.turn();
            }
            server = rig.driver.attach(socket).unwrap();
            assert_eq!(rig.receive(server, 9), b"meanwhile");
            rig.send(server, b"back");
            assert_eq!(rig.receive(client, 4), b"back");
        }
        let socket = rig.driver.detach(server).expect("it is there");
        rig.closed.insert(server);
        match watched {
            true => rig.driver.shutdown(client),
            false => {
                let server = rig.driver.attach(socket).unwrap();
                rig.close(server, false);
                rig.receive_to_end(client);
                continue;
            }
        }
        let server = rig.driver.attach(socket).unwrap();
        assert!(rig.receive_to_end(server).is_empty());
        drop(rig.driver.detach(server));
        rig.closed.insert(server);
        rig.receive_to_end(client);
    }
}
