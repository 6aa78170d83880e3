//! What a client sends: one verdict however it arrives, and what goes on reads the same again.

use crate::relay::Requests;
use lb_io::http1::Version;

/// `bytes` are what a client sends on one connection.
pub fn check(bytes: &[u8]) {
    let whole = Requests::of([bytes]);
    // Longer inputs are dribbled in larger drops: each drop moves the rest of the buffer.
    let dribbled = Requests::of(bytes.chunks(1 + bytes.len() / 4096));
    assert_eq!(dribbled.refused, whole.refused);
    assert_eq!(dribbled.asked, whole.asked);
    assert_eq!(dribbled.complete, whole.complete);
    assert_eq!(dribbled.messages[..whole.complete], whole.messages[..whole.complete]);
    for (message, asked) in whole.messages.iter().take(whole.complete).zip(&whole.asked) {
        // HTTP/1.0 may leave the host out, and what counts down has changed.
        if asked.kind.version == Version::Http10 || message.windows(13).any(|bytes| bytes == b"max-forwards:")
        {
            continue;
        }
        let again = Requests::of([&message[..]]);
        // What we add may take a head over the next one's limits.
        if again.refused.as_ref().is_some_and(|refused| refused.status == 431) {
            continue;
        }
        assert_eq!(again.refused, None);
        assert_eq!(again.complete, 1);
        assert_eq!(&again.messages[0], message);
    }
}
