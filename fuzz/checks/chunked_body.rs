//! A chunked body: one payload however it arrives, and a canonical form that decodes to itself.

use lb_io::http1::Framing;
use lb_io::http1::body::{BodyError, Decoder, HELD_BYTES, Piece};

/// `bytes` are what follows a head with `Transfer-Encoding: chunked`.
pub fn check(bytes: &[u8]) {
    let whole = decode(bytes, bytes.len().max(1));
    let dribbled = decode(bytes, 1 + bytes.len() / 4096);
    match (whole, dribbled) {
        (Ok(whole), Ok(dribbled)) => {
            assert_eq!(whole.payload, dribbled.payload);
            assert_eq!(whole.forwarded, dribbled.forwarded);
            assert_eq!(whole.taken, dribbled.taken);
            if let Some(taken) = whole.taken {
                assert!(taken <= bytes.len());
                let again = decode(&whole.forwarded, whole.forwarded.len()).expect("a canonical form");
                assert_eq!(again.payload, whole.payload);
                assert_eq!(again.forwarded, whole.forwarded);
                assert_eq!(again.taken, Some(whole.forwarded.len()));
            }
        }
        (whole, dribbled) => assert_eq!(whole.err(), dribbled.err()),
    }
}

struct Decoded {
    payload: Vec<u8>,
    forwarded: Vec<u8>,
    /// Bytes that belong to the body, once it is done.
    taken: Option<usize>,
}

fn decode(bytes: &[u8], drop: usize) -> Result<Decoded, BodyError> {
    let mut decoder = Decoder::new(Framing::Chunked);
    let mut decoded = Decoded { payload: Vec::new(), forwarded: Vec::new(), taken: None };
    let (mut at, mut end) = (0, 0);
    while end < bytes.len() && !decoder.is_done() {
        end = (end + drop).min(bytes.len());
        while at < end && !decoder.is_done() {
            let step = decoder.step(&bytes[at..end])?;
            let piece = &bytes[at..at + step.len];
            assert_eq!(step.len == 0, step.kind == Piece::NeedMore);
            match step.kind {
                Piece::NeedMore => {
                    assert!(end - at < HELD_BYTES);
                    break;
                }
                Piece::Data => {
                    decoded.payload.extend_from_slice(piece);
                    decoded.forwarded.extend_from_slice(piece);
                }
                Piece::Framing => decoded.forwarded.extend_from_slice(piece),
                Piece::Drop => {}
            }
            at += step.len;
        }
    }
    decoded.taken = decoder.is_done().then_some(at);
    Ok(decoded)
}
