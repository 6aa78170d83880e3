//! However the bytes arrive, the verdict and what goes on are the same.

use lb_io::http1::Version;
use lb_io::http1::response::RequestKind;
use proptest::prelude::*;

use crate::generate::{cut, cuts, request, response};
use crate::relay::{Asked, Requests, Responses};

proptest! {
    #![proptest_config(ProptestConfig { cases: 4096, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn requests(bytes in request(), sizes in cuts()) {
        let whole = Requests::of([&bytes[..]]);
        for pieces in [cut(&bytes, &sizes), cut(&bytes, &[1])] {
            let split = Requests::of(pieces);
            prop_assert_eq!(&split.refused, &whole.refused);
            prop_assert_eq!(&split.asked, &whole.asked);
            prop_assert_eq!(split.complete, whole.complete);
            // Of a message without its end more may be known when less is missing, but nothing else.
            for (one, other) in split.messages.iter().zip(&whole.messages).take(whole.complete) {
                prop_assert_eq!(one, other);
            }
            prop_assert_eq!(split.messages.len(), whole.messages.len());
        }
    }

    #[test]
    fn responses(bytes in response(), sizes in cuts(), head: bool, upgrade_sent: bool, old: bool, legacy: bool) {
        let version = if old { Version::Http10 } else { Version::Http11 };
        let asked = Asked { kind: RequestKind { head, upgrade_sent, version }, keep_alive: true };
        let read = |pieces: Vec<&[u8]>| {
            let mut responses = Responses::new(asked, legacy);
            for piece in pieces {
                responses.feed(piece);
            }
            responses.end();
            responses
        };
        let whole = read(vec![&bytes]);
        for pieces in [cut(&bytes, &sizes), cut(&bytes, &[1])] {
            let split = read(pieces);
            prop_assert_eq!(&split.refused, &whole.refused);
            prop_assert_eq!(split.done, whole.done);
            prop_assert_eq!(split.closes, whole.closes);
            if whole.refused.is_none() {
                prop_assert_eq!(&split.client, &whole.client);
            }
        }
    }

    #[test]
    fn any_bytes_at_all(bytes in prop::collection::vec(any::<u8>(), 0..200), sizes in cuts()) {
        let whole = Requests::of([&bytes[..]]);
        let split = Requests::of(cut(&bytes, &sizes));
        prop_assert_eq!(split.refused, whole.refused);
        prop_assert_eq!(split.messages, whole.messages);
    }
}
