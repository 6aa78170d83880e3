//! Chunked bodies: what is encoded is decoded, however it arrives, and what goes on is the canonical form.

use lb_io::http1::body::{Decoder, Piece};
use lb_io::http1::{Framing, LAST_CHUNK, SIZE_LINE_BYTES, size_line};
use proptest::prelude::*;
use proptest::sample::select;

use crate::generate::{cut, cuts};

/// What came out of a body.
#[derive(Debug, Default, Clone, PartialEq)]
struct Decoded {
    payload: Vec<u8>,
    forwarded: Vec<u8>,
    left_over: usize,
    done: bool,
}

fn decode(pieces: &[&[u8]]) -> Result<Decoded, lb_io::http1::body::BodyError> {
    let mut decoder = Decoder::new(Framing::Chunked);
    let mut decoded = Decoded::default();
    let mut held = Vec::new();
    for piece in pieces {
        held.extend_from_slice(piece);
        let mut at = 0;
        while !decoder.is_done() {
            let ahead = decoder.data_ahead();
            let step = decoder.step(&held[at..])?;
            let bytes = &held[at..at + step.len];
            match step.kind {
                Piece::NeedMore => break,
                Piece::Data => {
                    assert_eq!(step.len as u64, ahead.min((held.len() - at) as u64));
                    decoded.payload.extend_from_slice(bytes);
                    decoded.forwarded.extend_from_slice(bytes);
                }
                Piece::Framing => decoded.forwarded.extend_from_slice(bytes),
                Piece::Drop => {}
            }
            at += step.len;
        }
        held.drain(..at);
    }
    decoded.left_over = held.len();
    decoded.done = decoder.is_done();
    Ok(decoded)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn round_trip(
        chunks in prop::collection::vec(prop::collection::vec(any::<u8>(), 1..300), 0..8),
        extension in select(vec!["", "", ";a", ";a=b", " ; a = \"b;c\\\"\"", ";a;b=c"]),
        trailers in select(vec!["", "", "X-A: b\r\n", "X-A: b\r\nGrpc-Status: 0\r\n"]),
        behind in prop::collection::vec(any::<u8>(), 0..9),
        sizes in cuts(),
    ) {
        let mut sent = Vec::new();
        let mut canonical = Vec::new();
        for chunk in &chunks {
            let mut line = [0; SIZE_LINE_BYTES];
            let line = size_line(chunk.len() as u64, &mut line);
            canonical.extend_from_slice(line);
            sent.extend_from_slice(&line[..line.len() - 2]);
            sent.extend_from_slice(extension.as_bytes());
            sent.extend_from_slice(b"\r\n");
            for out in [&mut sent, &mut canonical] {
                out.extend_from_slice(chunk);
                out.extend_from_slice(b"\r\n");
            }
        }
        sent.extend_from_slice(format!("0{extension}\r\n{trailers}\r\n").as_bytes());
        canonical.extend_from_slice(format!("0\r\n{trailers}\r\n").as_bytes());
        sent.extend_from_slice(&behind);
        let expected = Ok(Decoded {
            payload: chunks.concat(),
            forwarded: canonical,
            left_over: behind.len(),
            done: true,
        });
        prop_assert_eq!(decode(&[&sent]), expected.clone());
        prop_assert_eq!(decode(&cut(&sent, &sizes)), expected.clone());
        prop_assert_eq!(decode(&cut(&sent, &[1])), expected.clone());
    }

    #[test]
    fn any_bytes_at_all(
        bytes in prop::collection::vec(prop_oneof![select(b"0123af;=\"\\ \t\r\n\r\n:X".to_vec()), any::<u8>()], 0..120),
        sizes in cuts(),
    ) {
        let whole = decode(&[&bytes]);
        let split = decode(&cut(&bytes, &sizes));
        match (&whole, &split) {
            (Ok(whole), Ok(split)) => {
                prop_assert_eq!(&whole.payload, &split.payload);
                prop_assert_eq!(whole.done, split.done);
            }
            _ => prop_assert_eq!(&whole, &split),
        }
        // What went on is a chunked body by itself, with the same payload.
        if let Ok(whole) = whole && whole.done {
            let again = decode(&[&whole.forwarded]).expect("canonical form");
            prop_assert_eq!(again.payload, whole.payload);
            prop_assert_eq!(again.forwarded, whole.forwarded);
            prop_assert_eq!(again.left_over, 0);
        }
    }
}

#[test]
fn sizes() {
    for (size, line) in [(1, "1\r\n"), (10, "a\r\n"), (255, "ff\r\n"), (u64::MAX, "ffffffffffffffff\r\n")] {
        assert_eq!(size_line(size, &mut [0; SIZE_LINE_BYTES]), line.as_bytes());
    }
    assert_eq!(decode(&[LAST_CHUNK]).map(|decoded| decoded.done), Ok(true));
}
