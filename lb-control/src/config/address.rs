//! Addresses as they are written: sockets to listen on, servers, the admin listener.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;

use lb_core::Network;

use super::value::Refused;

/// Where the admin listener accepts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum AdminAddress {
    /// A TCP address.
    Tcp(SocketAddr),
    /// A Unix socket.
    Unix(PathBuf),
}

/// A server's address as written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum HostPort {
    /// An address.
    Literal(SocketAddr),
    /// A name to be resolved.
    Name(String, u16),
}

fn refused<T>(expected: &str, meant: Option<String>) -> Result<T, Refused> {
    Err(Refused { expected: expected.to_owned(), meant })
}

const BIND: &str = "an address and a port such as \"0.0.0.0:8080\" or \"[::]:8080\"";

/// An address to listen on.
///
/// # Errors
/// Anything but an IP address and a port.
pub fn bind(text: &str) -> Result<SocketAddr, Refused> {
    if let Ok(address) = text.parse() {
        return Ok(address);
    }
    let meant = match text.rsplit_once(':') {
        Some(("" | "*", port)) if port.parse::<u16>().is_ok() => Some(format!("0.0.0.0:{port}")),
        Some(("localhost", port)) if port.parse::<u16>().is_ok() => Some(format!("127.0.0.1:{port}")),
        Some((host, port)) if port.parse::<u16>().is_ok() && is_ipv6(host) => {
            Some(format!("[{host}]:{port}"))
        }
        _ if text.parse::<u16>().is_ok() => Some(format!("0.0.0.0:{text}")),
        _ => text.parse::<IpAddr>().ok().map(|address| SocketAddr::new(address, 8080).to_string()),
    };
    refused(BIND, meant)
}

fn is_ipv6(text: &str) -> bool {
    text.parse::<IpAddr>().is_ok_and(|address| address.is_ipv6())
}

/// The admin listener's address.
///
/// # Errors
/// Anything but an IP address and a port, or `unix:` and an absolute path.
pub fn admin(text: &str) -> Result<AdminAddress, Refused> {
    match text.strip_prefix("unix:") {
        Some(path) if path.starts_with('/') && path.len() < 108 => {
            Ok(AdminAddress::Unix(PathBuf::from(path)))
        }
        Some(_) => refused("\"unix:\" and an absolute path of less than 108 bytes", None),
        None if text.starts_with('/') => refused(BIND, Some(format!("unix:{text}"))),
        None => bind(text).map(AdminAddress::Tcp).map_err(|mut why| {
            why.expected = "an address such as \"127.0.0.1:9900\" or \"unix:/run/lb/admin.sock\"".to_owned();
            why
        }),
    }
}

const SERVER: &str = "a host and a port such as \"10.0.1.10:8000\" or \"app.internal:80\"";

/// A server's address: an IP address or a name, with a port.
///
/// # Errors
/// Anything else; URLs with the address that was probably meant.
pub fn server(text: &str) -> Result<HostPort, Refused> {
    if let Ok(address) = text.parse::<SocketAddr>() {
        return match address.port() {
            0 => refused("a port from 1 to 65535", None),
            _ => Ok(HostPort::Literal(address)),
        };
    }
    if let Some(rest) = text.strip_prefix("http://") {
        let host = rest.split('/').next().unwrap_or(rest);
        let meant = if host.contains(':') { host.to_owned() } else { format!("{host}:80") };
        return refused(SERVER, server(&meant).is_ok().then_some(meant));
    }
    if text.starts_with("https://") {
        return refused(
            "a plain HTTP server's host and port: TLS towards servers is not in this version",
            None,
        );
    }
    if is_ipv6(text) {
        return refused(SERVER, Some(format!("[{text}]:80")));
    }
    if let Ok(HostPort::Name(name, _)) = service(text) {
        let expected = "a host and a port, or `resolve = \"srv\"` beside the name of a service";
        return refused(expected, (name != text).then_some(name));
    }
    let Some((host, port)) = text.rsplit_once(':') else {
        return refused(SERVER, is_name(text).then(|| format!("{text}:80")));
    };
    match port.parse::<u16>() {
        Ok(port) if port > 0 && is_ipv6(host) => refused(SERVER, Some(format!("[{host}]:{port}"))),
        Ok(port) if port > 0 && is_name(host) => Ok(HostPort::Name(host.to_ascii_lowercase(), port)),
        Ok(_) if is_name(host) => refused("a port from 1 to 65535", None),
        _ => refused(SERVER, None),
    }
}

const SERVICE: &str =
    "the name of a service such as \"_http._tcp.cart.internal\", without a port: its records have it";

/// The name of a service (RFC 2782): `_service._protocol.name`. The port is 0, for it is in the records.
///
/// # Errors
/// Anything else; a name with a port with the name alone.
pub fn service(text: &str) -> Result<HostPort, Refused> {
    let is_service = |text: &str| {
        let mut labels = text.split('.');
        let mut is_special = || labels.next().is_some_and(|label| label.len() > 1 && label.starts_with('_'));
        is_special() && is_special() && labels.next().is_some_and(|label| !label.is_empty()) && is_name(text)
    };
    match text.rsplit_once(':') {
        _ if is_service(text) => Ok(HostPort::Name(text.to_ascii_lowercase(), 0)),
        Some((name, _)) if is_service(name) => refused(SERVICE, Some(name.to_owned())),
        _ => refused(SERVICE, None),
    }
}

/// A name server: an IP address, with a port or without (53).
///
/// # Errors
/// Anything else.
pub fn name_server(text: &str) -> Result<SocketAddr, Refused> {
    let address = match text.parse::<SocketAddr>() {
        Ok(address) => address,
        Err(_) => match text.parse::<IpAddr>() {
            Ok(ip) => SocketAddr::new(ip, 53),
            Err(_) => {
                let expected = "the IP address of a name server such as \"10.0.0.2:53\"";
                let meant = text.parse::<u16>().ok().map(|port| format!("127.0.0.1:{port}"));
                return refused(expected, meant);
            }
        },
    };
    match (address.port(), address.ip()) {
        (0, _) => refused("a port from 1 to 65535", None),
        (_, ip) if ip.is_unspecified() || ip.is_multicast() => {
            refused("the address of one name server", None)
        }
        _ => Ok(address),
    }
}

/// A host name (RFC 1123, section 2.1; underscores pass, container names have them) that is not all numbers.
fn is_name(text: &str) -> bool {
    let name = text.strip_suffix('.').unwrap_or(text);
    let label = |label: &str| {
        (1..=63).contains(&label.len())
            && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    let last = name.rsplit('.').next().unwrap_or(name);
    name.len() <= 253 && name.split('.').all(label) && !last.bytes().all(|byte| byte.is_ascii_digit())
}

/// A network or a single address.
///
/// # Errors
/// Anything else; when only bits beyond the prefix are set, with the network that was probably meant.
pub fn network(text: &str) -> Result<Network, Refused> {
    text.parse().or_else(|error: lb_core::NetworkError| {
        let masked = text.split_once('/').and_then(|(address, bits)| {
            let network = |address: IpAddr| Network::new(address, bits.parse().ok()?).ok();
            let bits: u32 = bits.parse().ok()?;
            match address.parse::<IpAddr>().ok()? {
                IpAddr::V4(v4) => {
                    let mask = u32::MAX.checked_shl(32u32.checked_sub(bits)?).unwrap_or(0);
                    network(IpAddr::V4((u32::from(v4) & mask).into()))
                }
                IpAddr::V6(v6) => {
                    let mask = u128::MAX.checked_shl(128u32.checked_sub(bits)?).unwrap_or(0);
                    network(IpAddr::V6((u128::from(v6) & mask).into()))
                }
            }
        });
        let words = error.to_string();
        let expected = match words.strip_prefix("expected ") {
            Some(rest) => rest.to_owned(),
            None => "no bits beyond the prefix length".to_owned(),
        };
        refused(&expected, masked.map(|network| network.to_string()))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn meant<T: std::fmt::Debug>(result: Result<T, Refused>) -> Option<String> {
        result.expect_err("refused").meant
    }

    #[test]
    fn addresses_to_listen_on() {
        assert!(bind("0.0.0.0:8080").is_ok() && bind("[::1]:0").is_ok());
        assert_eq!(meant(bind(":8080")).as_deref(), Some("0.0.0.0:8080"));
        assert_eq!(meant(bind("8080")).as_deref(), Some("0.0.0.0:8080"));
        assert_eq!(meant(bind("localhost:80")).as_deref(), Some("127.0.0.1:80"));
        assert_eq!(meant(bind(":::80")).as_deref(), Some("[::]:80"));
        assert_eq!(meant(bind("example.com:80")), None);
        assert_eq!(admin("unix:/run/a.sock"), Ok(AdminAddress::Unix("/run/a.sock".into())));
        assert_eq!(meant(admin("/run/a.sock")).as_deref(), Some("unix:/run/a.sock"));
        assert!(admin("unix:relative").is_err());
    }

    #[test]
    fn servers() {
        assert_eq!(server("10.0.0.1:80"), Ok(HostPort::Literal("10.0.0.1:80".parse().expect("address"))));
        assert_eq!(server("App_1.internal:80"), Ok(HostPort::Name("app_1.internal".to_owned(), 80)));
        assert_eq!(meant(server("http://app/x")).as_deref(), Some("app:80"));
        assert_eq!(meant(server("app")).as_deref(), Some("app:80"));
        assert_eq!(meant(server("::1")).as_deref(), Some("[::1]:80"));
        for text in ["", ":80", "a b:80", "10.0.0:80", "a:0", "a:99999", "-a:80", "https://a", "1.2.3.4:0"] {
            assert!(server(text).is_err(), "{text}");
        }
    }

    #[test]
    fn services() {
        let name = "_http._tcp.cart.internal";
        assert_eq!(service("_HTTP._tcp.cart.internal"), Ok(HostPort::Name(name.to_owned(), 0)));
        assert_eq!(meant(service("_http._tcp.cart.internal:80")).as_deref(), Some(name));
        for text in
            ["", "cart.internal", "_http.cart", "_http._tcp", "_http._tcp.", "_._tcp.a", "_a._tcp.b c"]
        {
            assert!(service(text).is_err(), "{text}");
        }
        assert!(server(name).expect_err("no port").expected.contains("resolve = \"srv\""));
    }

    #[test]
    fn name_servers() {
        let address = |text: &str| text.parse::<SocketAddr>().expect("address");
        assert_eq!(name_server("10.0.0.2"), Ok(address("10.0.0.2:53")));
        assert_eq!(name_server("[::1]:5353"), Ok(address("[::1]:5353")));
        assert_eq!(name_server("::1"), Ok(address("[::1]:53")));
        for text in ["", "dns.internal:53", "10.0.0.2:0", "0.0.0.0:53", "224.0.0.1", "10.0.0.2:x"] {
            assert!(name_server(text).is_err(), "{text}");
        }
    }

    #[test]
    fn networks() {
        assert!(network("10.0.0.0/8").is_ok() && network("::1").is_ok());
        assert_eq!(meant(network("10.1.2.3/16")).as_deref(), Some("10.1.0.0/16"));
        assert_eq!(meant(network("10.1.2.3/0")).as_deref(), Some("0.0.0.0/0"));
        assert_eq!(meant(network("fd00::1/8")).as_deref(), Some("fd00::/8"));
        assert_eq!(meant(network("10.0.0.0/33")), None);
    }
}
