//! `lb explain` and the admin listener's `/explain`: a question put as a request, answered by the same code
//! that decides requests.

mod json;

use std::fmt::Write as _;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use lb_core::{Cursors, Explanation, Network, RequestView, Table, source};

use crate::config::{Listener, Names};

/// Bytes of a question's query string at most.
const QUERY_BYTES_MAX: usize = 64 << 10;

/// A request as somebody describes it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The method.
    pub method: String,
    /// `http://host/path?query`, or a path alone when a Host header is given.
    pub url: String,
    /// Header fields.
    pub headers: Vec<(String, String)>,
    /// The peer's address; absent: 127.0.0.1.
    pub from: Option<IpAddr>,
    /// The listener's name; absent: the one with the URL's port, else the first.
    pub listener: Option<String>,
    /// Whether the answer is wanted as JSON.
    pub json: bool,
}

/// A question answered.
#[derive(Debug)]
pub struct Answer {
    explanation: Explanation,
    listener: String,
    source: IpAddr,
    /// Names of servers that could have been picked, and how they stand.
    names: Vec<(String, String)>,
}

impl Answer {
    /// The same with how the names of the route's servers stand.
    pub fn with_names(mut self, table: &Table, names: &Names, now: Instant) -> Answer {
        let found = self.explanation.find.route.as_ref();
        let mut routes = table.snapshot.routes().iter();
        let route = found.and_then(|found| routes.find(|route| *route.name == *found.name));
        let mut told: Vec<(String, String)> = Vec::new();
        for arm in route.map(|route| route.arms()).unwrap_or_default() {
            let of_arm = names.of_backend(&table.snapshot.backend(arm.backend).name, now);
            told.extend(of_arm.into_iter().filter(|of| !told.contains(of)).collect::<Vec<_>>());
        }
        self.names = told;
        self
    }

    /// For a person.
    pub fn text(&self) -> String {
        let mut text = self.explanation.to_string();
        if !text.ends_with('\n') {
            text.push('\n');
        }
        for (place, (name, words)) in self.names.iter().enumerate() {
            let stage = if place == 0 { "names" } else { "" };
            writeln!(text, "{stage:<9}{name:<17} {words}").expect("writing to a string");
        }
        text
    }

    /// For a program: one object on one line.
    pub fn json(&self) -> String {
        let mut object = json::explanation(&self.explanation);
        object["listener"] = self.listener.clone().into();
        object["source"] = self.source.to_string().into();
        let names = self.names.iter();
        object["names"] =
            names.map(|(name, words)| serde_json::json!({"name": name, "words": words})).collect();
        object.to_string()
    }
}

/// Answers a question by a table. `random` bits are zero, so that equal questions have equal answers.
///
/// # Errors
/// What is wrong with the question, for the person who asked.
pub fn answer(
    table: &Table,
    listeners: &[Listener],
    question: &Question,
    now: Duration,
) -> Result<Answer, String> {
    let url = Url::parse(&question.url)?;
    if question.method.is_empty() || !question.method.bytes().all(is_token) {
        return Err(format!("`{}` is not a method", question.method));
    }
    let mut fields = question.headers.clone();
    let named =
        fields.iter().find(|(name, _)| name.eq_ignore_ascii_case("host")).map(|(_, value)| value.clone());
    let host = match (named, url.host) {
        (Some(host), _) => host,
        (None, Some(host)) => {
            fields.insert(0, ("host".to_owned(), host.to_owned()));
            host.to_owned()
        }
        (None, None) => return Err("a URL such as http://host/path is needed, or a Host header".to_owned()),
    };
    let place = listener(table, listeners, question, &url)?;
    let listener = table.snapshot.listener(place);
    let peer = question.from.unwrap_or(IpAddr::from([127, 0, 0, 1]));
    let source = source::effective(peer, &fields, &listener.rules).address;
    let view = RequestView {
        listener: place,
        method: question.method.as_bytes(),
        host: host.as_bytes(),
        path: url.path.as_bytes(),
        query: url.query.map(str::as_bytes),
        fields: &fields,
        source,
        secure: url.secure,
    };
    let mut cursors = Cursors::default();
    cursors.fit(table);
    let explanation = lb_core::explain(table, &cursors, &view, now, 0);
    Ok(Answer { explanation, listener: listener.name.to_string(), source, names: Vec::new() })
}

fn listener(
    table: &Table,
    listeners: &[Listener],
    question: &Question,
    url: &Url<'_>,
) -> Result<u32, String> {
    let known = || table.snapshot.listeners().iter().map(|listener| &*listener.name);
    if let Some(name) = &question.listener {
        return table.snapshot.listener_index(name).ok_or_else(|| {
            let meant = lb_core::nearest(name, known()).map(|meant| format!("; did you mean `{meant}`?"));
            format!("no listener is named `{name}`{}", meant.unwrap_or_default())
        });
    }
    if known().next().is_none() {
        return Err("the configuration has no listener".to_owned());
    }
    let port = url.port();
    let by_port =
        listeners.iter().find(|listener| listener.bind.iter().any(|address| address.port() == port));
    Ok(by_port.and_then(|listener| table.snapshot.listener_index(&listener.name)).unwrap_or(0))
}

fn is_token(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte)
}

struct Url<'a> {
    secure: bool,
    host: Option<&'a str>,
    path: &'a str,
    query: Option<&'a str>,
}

impl<'a> Url<'a> {
    fn parse(text: &'a str) -> Result<Url<'a>, String> {
        let wrong = || format!("`{text}` is not a URL such as http://shop.example.com/cart/7");
        if text.is_empty() || text.bytes().any(|byte| byte <= b' ' || byte == 0x7f) {
            return Err(wrong());
        }
        let (secure, rest) = match text.split_once("://") {
            Some(("http", rest)) => (false, Some(rest)),
            Some(("https", rest)) => (true, Some(rest)),
            Some(_) if !text.starts_with('/') => return Err(wrong()),
            _ => (false, None),
        };
        let (host, target) = match rest {
            Some(rest) => {
                let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
                (Some(&rest[..end]), &rest[end..])
            }
            None if text.starts_with('/') => (None, text),
            None => return Err(wrong()),
        };
        if host.is_some_and(|host| host.is_empty() || host.contains('@')) {
            return Err(wrong());
        }
        let target = target.split('#').next().unwrap_or_default();
        let (path, query) = match target.split_once('?') {
            Some((path, query)) => (path, Some(query)),
            None => (target, None),
        };
        Ok(Url { secure, host, path: if path.is_empty() { "/" } else { path }, query })
    }

    fn port(&self) -> u16 {
        let written =
            self.host.and_then(|host| host.rsplit_once(':')).and_then(|(_, port)| port.parse().ok());
        written.unwrap_or(if self.secure { 443 } else { 80 })
    }
}

impl Question {
    /// A question about a GET of `url`, from nobody in particular.
    pub fn get(url: impl Into<String>) -> Question {
        Question {
            method: "GET".to_owned(),
            url: url.into(),
            headers: Vec::new(),
            from: None,
            listener: None,
            json: false,
        }
    }

    /// Reads `method=…&url=…&header=Name:value&from=…&listener=…&format=json`, percent-encoded.
    ///
    /// # Errors
    /// What is wrong with it, for the person who asked.
    pub fn from_query(query: &str) -> Result<Question, String> {
        if query.len() > QUERY_BYTES_MAX {
            return Err(format!("more than {QUERY_BYTES_MAX} bytes"));
        }
        let mut question = Question::get("");
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decode(value).ok_or_else(|| format!("`{pair}` is not well encoded"))?;
            match key {
                "method" => question.method = value,
                "url" => question.url = value,
                "header" => question.headers.push(parse_header(&value)?),
                "from" => question.from = Some(parse_from(&value)?),
                "listener" => question.listener = Some(value),
                "format" => question.json = value == "json",
                _ => {
                    return Err(format!("`{key}` is not one of method, url, header, from, listener, format"));
                }
            }
        }
        if question.url.is_empty() {
            return Err("url=… is needed, such as /explain?url=http://shop.example.com/cart".to_owned());
        }
        Ok(question)
    }

    /// The inverse of [`Question::from_query`].
    pub fn to_query(&self) -> String {
        let mut query = format!("method={}&url={}", encode(&self.method), encode(&self.url));
        for (name, value) in &self.headers {
            query.push_str("&header=");
            query.push_str(&encode(&format!("{name}: {value}")));
        }
        if let Some(from) = self.from {
            query.push_str("&from=");
            query.push_str(&encode(&from.to_string()));
        }
        if let Some(listener) = &self.listener {
            query.push_str("&listener=");
            query.push_str(&encode(listener));
        }
        if self.json {
            query.push_str("&format=json");
        }
        query
    }
}

/// Reads `Name: value`.
///
/// # Errors
/// When it is not one, in a person's words.
pub fn parse_header(text: &str) -> Result<(String, String), String> {
    let wrong = || format!("`{text}` is not a header such as 'Name: value'");
    let (name, value) = text.split_once(':').ok_or_else(wrong)?;
    let value = value.trim_matches([' ', '\t']);
    if name.is_empty()
        || !name.bytes().all(is_token)
        || value.bytes().any(|byte| byte < b' ' && byte != b'\t')
    {
        return Err(wrong());
    }
    Ok((name.to_owned(), value.to_owned()))
}

/// Reads the address of a client.
///
/// # Errors
/// When it is none, in a person's words.
pub fn parse_from(text: &str) -> Result<IpAddr, String> {
    text.parse().map_err(|_| match text.parse::<Network>() {
        Ok(_) => format!("`{text}` is a network; a client has one address"),
        Err(_) => format!("`{text}` is not an IP address such as 192.0.2.7"),
    })
}

fn decode(text: &str) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        match first {
            b'%' => {
                let (digits, tail) = rest.split_at_checked(2)?;
                let digits = std::str::from_utf8(digits)
                    .ok()
                    .filter(|text| text.bytes().all(|b| b.is_ascii_hexdigit()))?;
                bytes.push(u8::from_str_radix(digits, 16).ok()?);
                rest = tail;
            }
            b'+' => bytes.push(b' '),
            byte => bytes.push(*byte),
        }
    }
    String::from_utf8(bytes).ok()
}

fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~/:".contains(&byte) {
            encoded.push(char::from(byte));
        } else {
            write!(encoded, "%{byte:02X}").expect("writing to a string");
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls() {
        let url = Url::parse("http://shop.example:8080/a%2Fb?x=1?y#z").expect("a URL");
        assert_eq!((url.host, url.path, url.query), (Some("shop.example:8080"), "/a%2Fb", Some("x=1?y")));
        assert_eq!(url.port(), 8080);
        let url = Url::parse("https://shop.example?q").expect("a URL");
        assert_eq!((url.path, url.query, url.port(), url.secure), ("/", Some("q"), 443, true));
        let url = Url::parse("/a?u=http://b/").expect("a path");
        assert_eq!((url.host, url.path, url.query), (None, "/a", Some("u=http://b/")));
        for text in ["", "shop.example/", "ftp://a/", "http:///a", "http://a b/", "http://u@a/"] {
            assert!(Url::parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn questions_survive_their_encoding() {
        let question = Question {
            method: "POST".to_owned(),
            url: "http://a/é?b=1&c=%2F".to_owned(),
            headers: vec![("Cookie".to_owned(), "a=1; b=x+y".to_owned())],
            from: Some("2001:db8::1".parse().expect("address")),
            listener: Some("web".to_owned()),
            json: true,
        };
        assert_eq!(Question::from_query(&question.to_query()), Ok(question));
        for query in ["", "url=%2", "url=%zz", "url=%ff", "urll=x", "url=/&from=10.0.0.0/8", "url=/&header=x"]
        {
            assert!(Question::from_query(query).is_err(), "{query}");
        }
    }
}
