//! Hosts as they are matched: lower case, without port and without the trailing dot.

use crate::defaults::HOST_LEN_MAX;

/// Calls `then` with the host of an authority as it is matched. One that is longer than any host can be
/// (RFC 1035, section 2.3.4) is passed on as it is: no route can name it.
pub(crate) fn with_normal<R>(authority: &[u8], then: impl FnOnce(&[u8]) -> R) -> R {
    let host = without_port(authority);
    let host = host.strip_suffix(b".").unwrap_or(host);
    if host.len() > HOST_LEN_MAX || !host.iter().any(u8::is_ascii_uppercase) {
        return then(host);
    }
    let mut buffer = [0; HOST_LEN_MAX];
    let lower = &mut buffer[..host.len()];
    lower.copy_from_slice(host);
    lower.make_ascii_lowercase();
    then(lower)
}

fn without_port(authority: &[u8]) -> &[u8] {
    // The colons of an IPv6 literal are within brackets (RFC 3986, section 3.2.2).
    if authority.first() == Some(&b'[') {
        let end = authority.iter().position(|byte| *byte == b']');
        return end.map_or(authority, |end| &authority[..=end]);
    }
    let colon = authority.iter().position(|byte| *byte == b':');
    colon.map_or(authority, |colon| &authority[..colon])
}

/// The last `labels` labels of a host that has more of them.
pub(crate) fn suffix(host: &[u8], labels: u8) -> Option<&[u8]> {
    let mut dots = 0;
    let dot = host.iter().rposition(|byte| {
        dots += u8::from(*byte == b'.');
        dots == labels
    })?;
    (dot > 0).then_some(&host[dot + 1..])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn normal_hosts() {
        let long = "A".repeat(300);
        for (authority, host) in [
            ("Shop.Example.com:8080", "shop.example.com"),
            ("shop.example.com.", "shop.example.com"),
            ("shop.example.com.:80", "shop.example.com"),
            ("[2001:DB8::1]:80", "[2001:db8::1]"),
            ("[2001:db8::1", "[2001:db8::1"),
            ("192.0.2.1:80", "192.0.2.1"),
            ("", ""),
            (":80", ""),
            (".", ""),
            (long.as_str(), long.as_str()),
        ] {
            with_normal(authority.as_bytes(), |found| assert_eq!(found, host.as_bytes(), "{authority}"));
        }
    }

    #[test]
    fn suffixes() {
        for (host, labels, expected) in [
            ("a.b.example.com", 2, Some("example.com")),
            ("a.b.example.com", 3, Some("b.example.com")),
            ("a.b.example.com", 4, None),
            (".example.com", 2, None),
            ("example.com", 2, None),
            ("a", 1, None),
            ("", 1, None),
        ] {
            assert_eq!(suffix(host.as_bytes(), labels), expected.map(str::as_bytes), "{host} {labels}");
        }
        // More labels than a count of them can hold must not wrap round.
        assert_eq!(suffix(&b".a".repeat(600), 2), Some(&b"a.a"[..]));
    }
}
