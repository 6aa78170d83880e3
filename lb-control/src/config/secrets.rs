//! Keys: read from a file, made once in the state directory, or made anew at every start.
//!
//! A file of keys has one `id:hex` line per key, 32 hexadecimal digits each. The line `share:hex` is the share
//! key; of the others the first signs and all verify. Empty lines and lines that begin with `#` are skipped.

use std::fs;
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use lb_core::spec::{Policy, SecretKey, Secrets, SigningKey, Spec};

use super::reader::Located;
use super::source::{SourceFile, Span};
use super::{Purpose, codes, gather};
use crate::report::{Diagnostic, Report};

/// The id of the share key's line.
const SHARE: &str = "share";

/// Name of the file that is made in the state directory.
const STATE_FILE: &str = "secret";

/// Where keys are looked for.
pub(super) struct Place<'a> {
    /// The file that the configuration names.
    pub file: Option<&'a Located<PathBuf>>,
    /// The state directory.
    pub state_dir: Option<&'a Path>,
}

/// Finds or makes the keys. `previous` are those in use, which stay where nothing is written down.
pub(super) fn find(
    place: &Place<'_>,
    spec: &Spec,
    purpose: Purpose,
    previous: Option<&Secrets>,
    report: &mut Report,
) -> Secrets {
    let needed = needs_keys(spec);
    if let Some(file) = place.file {
        return match gather::read(&file.value) {
            Ok(text) => {
                warn_if_open(&file.value, Some(file.span), report);
                parse(&file.value, text, report)
            }
            Err(why) => {
                let message = format!("cannot read `{}`: {why}", file.value.display());
                report.add(Diagnostic::error(codes::UNREADABLE, message).at(file.span));
                Secrets::default()
            }
        };
    }
    let Some(dir) = place.state_dir else {
        if needed {
            report.add(
                Diagnostic::warning(codes::PASSING_KEYS, "cookies and shares last only until the next start")
                    .note("name a `secret_file` in [session], or a `dir` in [state] for one to be made in"),
            );
        }
        return match (previous, purpose) {
            (Some(secrets), _) => secrets.clone(),
            (None, Purpose::Check) => placeholder(),
            (None, Purpose::Run) => match random_text() {
                Ok(text) => parse(Path::new("made keys"), text, report),
                Err(error) => {
                    report.add(Diagnostic::error(codes::UNREADABLE, format!("cannot make keys: {error}")));
                    Secrets::default()
                }
            },
        };
    };
    if needed {
        report.add(
            Diagnostic::warning(
                codes::OWN_KEYS,
                "the keys are this node's own: another node will disagree with it",
            )
            .note("for several nodes, give all of them one `secret_file` in [session]"),
        );
    }
    let path = dir.join(STATE_FILE);
    let text = match (gather::read(&path), purpose) {
        (Ok(text), _) => Ok(text),
        (Err(_), Purpose::Check) if !path.exists() => return previous.cloned().unwrap_or_else(placeholder),
        (Err(_), Purpose::Run) if !path.exists() => make(dir, &path).map_err(|error| gather::plain(&error)),
        (Err(why), _) => Err(why),
    };
    match text {
        Ok(text) => {
            warn_if_open(&path, None, report);
            parse(&path, text, report)
        }
        Err(why) => {
            let message = format!("cannot use `{}` for keys: {why}", path.display());
            report.add(Diagnostic::error(codes::UNREADABLE, message));
            Secrets::default()
        }
    }
}

/// Whether anything in the spec is signed or hashed with a key.
fn needs_keys(spec: &Spec) -> bool {
    spec.routes.iter().any(|route| route.canary.is_some())
        || spec.backends.iter().any(|backend| {
            backend.sticky.is_some() || matches!(backend.balance, Policy::Rendezvous | Policy::Maglev)
        })
}

/// Keys that stand for the real ones where nothing may be made: enough to check a file and to explain it.
fn placeholder() -> Secrets {
    Secrets {
        signing: vec![SigningKey { id: "none".to_owned(), key: SecretKey::new([0; 16]) }],
        share: Some(SecretKey::new([0; 16])),
    }
}

fn parse(path: &Path, text: String, report: &mut Report) -> Secrets {
    let name = path.display().to_string();
    let file = report.sources.add(SourceFile::new(name.clone(), path, text).keep_secret());
    let text = report.sources.file(file).text.clone();
    let mut secrets = Secrets::default();
    let mut start = 0;
    for line in text.split('\n') {
        let span = Span { file, start, end: start + line.trim_end().len() };
        start += line.len() + 1;
        let line = line.trim();
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let parts = line.split_once(':').map(|(id, hex)| (id.trim(), SecretKey::from_hex(hex.trim())));
        let Some((id, Some(key))) = parts.filter(|(id, _)| !id.is_empty() && id.len() <= 64) else {
            report.add(Diagnostic::error(codes::BAD_KEY_LINE, "this line is not a key").at(span).note(
                "expected an id, a colon and 32 hexadecimal digits, as `openssl rand -hex 16` makes them",
            ));
            continue;
        };
        let known =
            secrets.signing.iter().any(|key| key.id == id) || (id == SHARE && secrets.share.is_some());
        if known {
            report
                .add(Diagnostic::error(codes::BAD_KEY_LINE, format!("the id `{id}` is used twice")).at(span));
        } else if id == SHARE {
            secrets.share = Some(key);
        } else {
            secrets.signing.push(SigningKey { id: id.to_owned(), key });
        }
    }
    let whole = Span { file, start: 0, end: 0 };
    if secrets.share.is_none() {
        report.add(Diagnostic::error(codes::NO_KEY, format!("`{name}` has no share key")).at(whole).note(
            "add a line `share:` and 32 hexadecimal digits; it decides who is in which share, so keep it",
        ));
    }
    if secrets.signing.is_empty() {
        report.add(
            Diagnostic::error(codes::NO_KEY, format!("`{name}` has no key to sign with"))
                .at(whole)
                .note("add a line with an id of your choice, a colon and 32 hexadecimal digits"),
        );
    }
    secrets
}

fn warn_if_open(path: &Path, span: Option<Span>, report: &mut Report) {
    let open = fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o007 != 0);
    if open {
        let message = format!("`{}` is open to every user of this machine", path.display());
        report.add(
            Diagnostic::warning(codes::OPEN_KEYS, message).at(span).note("chmod 600 keeps keys private"),
        );
    }
}

fn random_text() -> io::Result<String> {
    let hex = || -> io::Result<String> {
        let mut bytes = [0u8; 16];
        getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
        Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
    };
    Ok(format!("1:{}\n{SHARE}:{}\n", hex()?, hex()?))
}

/// Makes the file of keys, whole or not at all; if another process was faster, its file counts.
fn make(dir: &Path, path: &Path) -> io::Result<String> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(dir)?;
    let draft = dir.join(format!("{STATE_FILE}.{}.new", std::process::id()));
    let text = random_text()?;
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&draft)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    let linked = fs::hard_link(&draft, path);
    fs::remove_file(&draft)?;
    match linked {
        Ok(()) => Ok(text),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => fs::read_to_string(path),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "000102030405060708090a0b0c0d0e0f";

    fn parsed(text: &str) -> (Secrets, Report) {
        let mut report = Report::new();
        let secrets = parse(Path::new("keys"), text.to_owned(), &mut report);
        (secrets, report)
    }

    #[test]
    fn reads_keys_in_order() {
        let (secrets, report) = parsed(&format!("# ours\n\nnew:{KEY}\nold: {KEY}\r\nshare:{KEY}\n"));
        assert!(!report.failed(), "{}", report.text(""));
        assert_eq!(secrets.signing.iter().map(|key| key.id.as_str()).collect::<Vec<_>>(), ["new", "old"]);
        assert!(secrets.share.is_some());
    }

    #[test]
    fn refuses_what_is_no_key_without_showing_it() {
        let (_, report) = parsed(&format!("a:{KEY}\na:{KEY}\nb:abc\n{KEY}\n"));
        let found: Vec<(&str, usize)> = report
            .diagnostics()
            .iter()
            .map(|found| (found.code, report.sources.locate(found.span.expect("place")).position.line))
            .collect();
        let expected = [
            (codes::NO_KEY, 1),
            (codes::BAD_KEY_LINE, 2),
            (codes::BAD_KEY_LINE, 3),
            (codes::BAD_KEY_LINE, 4),
        ];
        assert_eq!(found, expected);
        assert!(!report.text("").contains("0001020304") && !report.json().contains("0001020304"));
    }

    #[test]
    fn makes_keys_once_and_for_itself_only() {
        let dir = tempfile::tempdir().expect("temporary directory");
        let state = dir.path().join("state");
        let place = Place { file: None, state_dir: Some(&state) };
        let spec = Spec::default();
        let mut report = Report::new();
        let checked = find(&place, &spec, Purpose::Check, None, &mut report);
        assert!(!state.exists(), "a check changes nothing");
        let first = find(&place, &spec, Purpose::Run, None, &mut report);
        let second = find(&place, &spec, Purpose::Run, None, &mut report);
        assert!(!report.failed(), "{}", report.text(""));
        assert_eq!(first, second);
        assert_ne!(first, checked);
        let mode = fs::metadata(state.join(STATE_FILE)).expect("made").permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(fs::read_dir(&state).expect("directory").count(), 1, "no draft is left");
    }
}
