//! Regular expressions, or what stands in their place in a build without the feature `regex`.

pub(crate) use kind::Regex;

/// With the feature: the crate of the same name, which takes time in proportion to the text.
#[cfg(feature = "regex")]
mod kind {
    use regex::bytes::RegexBuilder;

    /// Bytes that one compiled expression may take.
    const REGEX_BYTES_MAX: usize = 1 << 20;

    /// An expression that the whole of a value must match.
    #[derive(Clone, Debug)]
    pub(crate) struct Regex(regex::bytes::Regex);

    impl Regex {
        pub(crate) const EXPECTED: &str =
            "expected the syntax of Rust's regex crate, which has no look-around and no back-references";

        /// Compiles an expression, or tells why it cannot be used.
        pub(crate) fn new(text: &str) -> Result<Regex, String> {
            let build = |text: &str| RegexBuilder::new(text).size_limit(REGEX_BYTES_MAX).build();
            // Alone first, so that nothing in it can close the group around it.
            build(text).and_then(|_| build(&format!("^(?:{text})$"))).map(Regex).map_err(|error| {
                let error = error.to_string();
                let last = error.lines().last().unwrap_or_default();
                last.strip_prefix("error: ").unwrap_or(last).to_owned()
            })
        }

        pub(crate) fn is_match(&self, value: &[u8]) -> bool {
            self.0.is_match(value)
        }

        pub(crate) fn as_str(&self) -> &str {
            self.0.as_str()
        }
    }
}

/// Without it: there is none, so that whoever has one need not ask.
#[cfg(not(feature = "regex"))]
mod kind {
    use std::convert::Infallible;

    #[derive(Clone, Debug)]
    pub(crate) struct Regex(Infallible);

    impl Regex {
        pub(crate) const EXPECTED: &str =
            "expected `path`, `path_prefix` or a plain value, or lb-core with its feature `regex`";

        pub(crate) fn new(_: &str) -> Result<Regex, String> {
            Err("this build of lb-core has no regular expressions (its feature `regex` is off)".to_owned())
        }

        pub(crate) fn is_match(&self, _: &[u8]) -> bool {
            match self.0 {}
        }

        pub(crate) fn as_str(&self) -> &str {
            match self.0 {}
        }
    }
}
