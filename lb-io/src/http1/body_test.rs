use super::*;

/// The steps that `bytes` are taken in.
fn steps(decoder: &mut Decoder, mut bytes: &[u8]) -> Vec<(Piece, String)> {
    let mut steps = Vec::new();
    while !bytes.is_empty() && !decoder.is_done() {
        let step = decoder.step(bytes).expect("well framed");
        if step.kind == Piece::NeedMore {
            break;
        }
        let (taken, rest) = bytes.split_at(step.len);
        steps.push((step.kind, taken.escape_ascii().to_string()));
        bytes = rest;
    }
    steps
}

fn check(framing: Framing, bytes: &str, expected: &[(Piece, &str)], done: bool) {
    let mut decoder = Decoder::new(framing);
    let got = steps(&mut decoder, bytes.as_bytes());
    let got: Vec<_> = got.iter().map(|(kind, text)| (*kind, text.as_str())).collect();
    assert_eq!(got, expected, "{bytes:?}");
    assert_eq!(decoder.is_done(), done, "{bytes:?}");
}

#[test]
fn lengths() {
    check(Framing::None, "abc", &[], true);
    check(Framing::Length(0), "abc", &[], true);
    check(Framing::Length(2), "abc", &[(Piece::Data, "ab")], true);
    check(Framing::Length(5), "abc", &[(Piece::Data, "abc")], false);
    check(Framing::UntilClose, "abc", &[(Piece::Data, "abc")], false);
}

#[test]
fn chunks() {
    use Piece::{Data, Drop, Framing as Frame};
    check(
        Framing::Chunked,
        "3;x=y\r\nabc\r\nA\r\n0123456789\r\n0\r\nT: u\r\n\r\nnext",
        &[
            (Frame, "3"),
            (Drop, ";x=y"),
            (Frame, r"\r\n"),
            (Data, "abc"),
            (Frame, r"\r\n"),
            (Frame, r"A\r\n"),
            (Data, "0123456789"),
            (Frame, r"\r\n"),
            (Frame, r"0\r\n"),
            (Frame, r"T: u\r\n\r\n"),
        ],
        true,
    );
    check(Framing::Chunked, "3;x=y\r", &[], false);
    check(Framing::Chunked, "0\r\nT: u\r\n\r", &[(Frame, r"0\r\n")], false);
    check(Framing::Chunked, "0\r\n\r\n", &[(Frame, r"0\r\n"), (Frame, r"\r\n")], true);
}

/// Both bounds to the byte, offered whole and byte by byte.
#[test]
fn bounds() {
    let verdict = |bytes: &[u8]| {
        let mut whole = Decoder::new(Framing::Chunked);
        let mut at = 0;
        let mut result = Ok(());
        while at < bytes.len() && !whole.is_done() {
            match whole.step(&bytes[at..]) {
                Ok(Step { kind: Piece::NeedMore, .. }) => break,
                Ok(step) => at += step.len,
                Err(error) => {
                    result = Err(error);
                    break;
                }
            }
        }
        let mut dribbled = Decoder::new(Framing::Chunked);
        let (mut from, mut error) = (0, None);
        for end in 1..=bytes.len() {
            while from < end && error.is_none() && !dribbled.is_done() {
                match dribbled.step(&bytes[from..end]) {
                    Ok(Step { kind: Piece::NeedMore, .. }) => {
                        assert!(end - from < HELD_BYTES);
                        break;
                    }
                    Ok(step) => from += step.len,
                    Err(fault) => error = Some(fault),
                }
            }
        }
        assert_eq!(result.err(), error);
        assert_eq!(whole.is_done(), dribbled.is_done());
        result.map(|()| whole.is_done())
    };
    let line = |length: usize| format!("1;{}\r\nx\r\n0\r\n\r\n", "a".repeat(length - 4)).into_bytes();
    assert_eq!(verdict(&line(256)), Ok(true));
    assert_eq!(verdict(&line(257)), Err(BodyError::ChunkLine));
    let trailers = |length: usize| format!("0\r\nX:{}\r\n\r\n", "a".repeat(length - 6)).into_bytes();
    assert_eq!(verdict(&trailers(8192)), Ok(true));
    assert_eq!(verdict(&trailers(8193)), Err(BodyError::TrailersTooLarge));
    // 16 extensions of 256 bytes are 4,096; one byte more is refused.
    let extensions = |last: usize| {
        let mut bytes = Vec::new();
        for length in [[241].as_slice(), &[241; 15], &[last]].concat() {
            bytes.extend_from_slice(format!("1;{}\r\nx\r\n", "a".repeat(length - 1)).as_bytes());
        }
        bytes.extend_from_slice(b"0\r\n\r\n");
        bytes
    };
    assert_eq!(verdict(&extensions(4096 - 16 * 241)), Ok(true));
    assert_eq!(verdict(&extensions(4097 - 16 * 241)), Err(BodyError::ChunkExtension));
    assert_eq!(verdict(b"7fffffffffffffff\r\nx"), Ok(false));
    assert_eq!(verdict(b"8000000000000000\r\nx"), Err(BodyError::ChunkSize));
}

#[test]
fn bytes_that_go_past() {
    let mut decoder = Decoder::new(Framing::Length(10));
    assert_eq!(decoder.data_ahead(), 10);
    decoder.skip(4);
    assert_eq!(decoder.step(b"ab"), Ok(Step::new(2, Piece::Data)));
    assert_eq!(decoder.data_ahead(), 4);
    decoder.skip(4);
    assert!(decoder.is_done());

    let mut decoder = Decoder::new(Framing::Chunked);
    assert_eq!(decoder.data_ahead(), 0);
    assert_eq!(decoder.step(b"5\r\n"), Ok(Step::new(3, Piece::Framing)));
    assert_eq!(decoder.data_ahead(), 5);
    decoder.skip(5);
    assert_eq!(decoder.data_ahead(), 0);
    assert_eq!(decoder.step(b"\r\n0"), Ok(Step::new(2, Piece::Framing)));
    assert_eq!(Decoder::new(Framing::UntilClose).data_ahead(), u64::MAX);
}

#[test]
fn ends() {
    assert_eq!(Decoder::new(Framing::None).eof(), Ok(()));
    assert_eq!(Decoder::new(Framing::Length(1)).eof(), Err(BodyError::Truncated));
    assert_eq!(Decoder::new(Framing::Chunked).eof(), Err(BodyError::Truncated));
    let mut until_close = Decoder::new(Framing::UntilClose);
    assert_eq!(until_close.eof(), Ok(()));
    assert!(until_close.is_done());
}

#[test]
fn a_decoder_is_small() {
    assert_eq!(size_of::<Decoder>(), 24);
}
