//! What a server answers: one verdict however it arrives, and the client ends it where we do.

use crate::relay::{Asked, Responses};
use lb_io::http1::Version;
use lb_io::http1::response::RequestKind;

/// The first of `bytes` says what was asked (HEAD 1, upgrade sent 2, by HTTP/1.0 4, legacy accepted 8, closing
/// 16); the others are what the server sends before it closes.
pub fn check(bytes: &[u8]) {
    let Some((flags, sent)) = bytes.split_first() else { return };
    let version = if flags & 4 != 0 { Version::Http10 } else { Version::Http11 };
    let kind = RequestKind { head: flags & 1 != 0, upgrade_sent: flags & 2 != 0, version };
    let asked = Asked { kind, keep_alive: flags & 16 == 0 };
    let whole = read(asked, flags & 8 != 0, sent, sent.len().max(1));
    let dribbled = read(asked, flags & 8 != 0, sent, 1 + sent.len() / 4096);
    assert_eq!(dribbled.refused, whole.refused);
    assert_eq!(dribbled.done, whole.done);
    if whole.refused.is_some() || !whole.done {
        return;
    }
    assert_eq!(dribbled.client, whole.client);
    assert_eq!(dribbled.closes, whole.closes);
    assert_eq!(dribbled.reuse(), whole.reuse());
    // What the client got is a whole response to it, and the same again through a second proxy.
    if version == Version::Http11 {
        let again = read(asked, false, &whole.client, whole.client.len().max(1));
        // What we add may take a head over the next one's limits.
        let limits = ["response_too_many_fields", "response_head_too_large"];
        if again.refused.as_ref().is_some_and(|refused| limits.contains(&refused.word)) {
            return;
        }
        assert_eq!(again.refused, None);
        assert!(again.done);
        assert_eq!(again.client, whole.client);
    }
}

fn read(asked: Asked, legacy: bool, sent: &[u8], drop: usize) -> Responses {
    let mut responses = Responses::new(asked, legacy);
    for piece in sent.chunks(drop) {
        responses.feed(piece);
    }
    responses.end();
    responses
}
