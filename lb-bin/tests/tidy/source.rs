//! Rust source with comments and literals blanked out, so that rules look at code only.

/// `text` with comments, strings and character literals replaced by spaces; line numbers stay.
pub fn code_only(text: &str) -> String {
    let bytes = text.as_bytes();
    let mut out = String::with_capacity(text.len());
    let mut at = 0;
    while at < bytes.len() {
        let rest = &bytes[at..];
        let len = if rest.starts_with(b"//") {
            rest.iter().position(|&b| b == b'\n').unwrap_or(rest.len())
        } else if rest.starts_with(b"/*") {
            block_comment(rest)
        } else if rest[0] == b'"' {
            string(rest)
        } else if let Some(len) = raw_string(rest).filter(|_| at == 0 || !is_word(bytes[at - 1])) {
            len
        } else if rest[0] == b'\'' {
            char_literal(rest)
        } else {
            out.push(if rest[0].is_ascii() { rest[0] as char } else { ' ' });
            at += 1;
            continue;
        };
        out.extend(rest[..len].iter().map(|&b| if b == b'\n' { '\n' } else { ' ' }));
        at += len;
    }
    out
}

fn block_comment(rest: &[u8]) -> usize {
    let (mut at, mut depth) = (0, 0_u32);
    while at < rest.len() {
        if rest[at..].starts_with(b"/*") {
            depth += 1;
            at += 2;
        } else if rest[at..].starts_with(b"*/") {
            depth -= 1;
            at += 2;
            if depth == 0 {
                break;
            }
        } else {
            at += 1;
        }
    }
    at
}

fn string(rest: &[u8]) -> usize {
    let mut at = 1;
    while at < rest.len() && rest[at] != b'"' {
        at += if rest[at] == b'\\' { 2 } else { 1 };
    }
    (at + 1).min(rest.len())
}

/// The length of `r"…"`, `r#"…"#`, `br"…"` and so on, if one stands here.
fn raw_string(rest: &[u8]) -> Option<usize> {
    let prefix = usize::from(matches!(rest[0], b'b' | b'c'));
    if rest.get(prefix) != Some(&b'r') {
        return None;
    }
    let hashes = rest[prefix + 1..].iter().take_while(|&&b| b == b'#').count();
    if rest.get(prefix + 1 + hashes) != Some(&b'"') {
        return None;
    }
    let body = prefix + 2 + hashes;
    let mut end = vec![b'"'];
    end.resize(1 + hashes, b'#');
    let len = rest[body..].windows(end.len()).position(|window| window == end);
    Some(len.map_or(rest.len(), |len| body + len + end.len()))
}

/// A character literal's length, or 1 where the quote begins a lifetime.
fn char_literal(rest: &[u8]) -> usize {
    if rest.get(1) == Some(&b'\\') {
        let end = rest.iter().skip(3).position(|&b| b == b'\'');
        return end.map_or(rest.len(), |end| end + 4);
    }
    let end = rest.iter().take(6).skip(2).position(|&b| b == b'\'');
    match end {
        // 'a' or a character of several bytes, never a lifetime followed by another
        Some(0) => 3,
        Some(end) if !rest[1].is_ascii() => end + 3,
        _ => 1,
    }
}

pub fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_'
}

/// Numbers (from 1) of the lines of `code` where `needle` stands as words of its own.
pub fn lines_with(code: &str, needle: &str) -> Vec<usize> {
    let whole = |line: &str| {
        line.match_indices(needle).any(|(at, _)| {
            let before = at.checked_sub(1).map(|at| line.as_bytes()[at]);
            let after = line.as_bytes().get(at + needle.len()).copied();
            let first = is_word(needle.as_bytes()[0]);
            let last = is_word(needle.as_bytes()[needle.len() - 1]);
            !(first && before.is_some_and(is_word) || last && after.is_some_and(is_word))
        })
    };
    code.lines().enumerate().filter(|(_, line)| whole(line)).map(|(at, _)| at + 1).collect()
}

#[test]
fn only_code_is_left() {
    let code = code_only(
        "let a = \"unsafe \\\" x\"; // unsafe\nlet b = r#\"unsafe \" y\"#; /* unsafe /* nested */ unsafe */ fn f<'a>(x: &'a u8) {}\nlet c = '\"'; let d = '\\''; unsafe {}",
    );
    assert_eq!(lines_with(&code, "unsafe"), [3]);
    assert_eq!(lines_with(&code, "fn f"), [2]);
    assert!(lines_with("forbid(unsafe_code)", "unsafe").is_empty());
    assert_eq!(lines_with("x\nthread::sleep(d)", "thread::sleep"), [2]);
}
