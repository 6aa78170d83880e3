//! Our own cookies in a request.

use crate::cookie;
use crate::defaults::ARMS_MAX;
use crate::view::Fields;

/// The names to look for, for one route.
#[derive(Clone, Debug, Default)]
pub(crate) struct CookieNames {
    pub(crate) session: Option<Box<str>>,
    pub(crate) tester: Option<Box<str>>,
    pub(crate) mark: Option<Box<str>>,
    /// By arm.
    pub(crate) sticky: [Option<Box<str>>; ARMS_MAX],
}

/// The values that were found: of each name the first, which is the one with the longest path (RFC 6265,
/// section 5.4).
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Jar<'a> {
    pub(crate) session: Option<&'a [u8]>,
    pub(crate) tester: Option<&'a [u8]>,
    pub(crate) mark: Option<&'a [u8]>,
    /// By arm.
    pub(crate) sticky: [Option<&'a [u8]>; ARMS_MAX],
}

impl CookieNames {
    pub(crate) fn is_empty(&self) -> bool {
        let sticky = self.sticky.iter().all(Option::is_none);
        sticky && self.session.is_none() && self.tester.is_none() && self.mark.is_none()
    }

    /// Looks for all of them in one pass.
    pub(crate) fn look<'a, F: Fields + ?Sized>(&self, fields: &'a F) -> Jar<'a> {
        let mut jar = Jar::default();
        // All at once: going from pair to pair takes twice the time.
        cookie::of_request(fields).for_each(|(name, value)| {
            let put = |wanted: &Option<Box<str>>, slot: &mut Option<&'a [u8]>| {
                if slot.is_none() && wanted.as_ref().is_some_and(|wanted| wanted.as_bytes() == name) {
                    *slot = Some(value);
                }
            };
            put(&self.session, &mut jar.session);
            put(&self.tester, &mut jar.tester);
            put(&self.mark, &mut jar.mark);
            for (wanted, slot) in self.sticky.iter().zip(&mut jar.sticky) {
                put(wanted, slot);
            }
        });
        jar
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_of_each_name() {
        let names = CookieNames {
            session: Some("s".into()),
            tester: None,
            mark: Some("m".into()),
            sticky: [Some("lb".into()), Some("lb".into())],
        };
        let fields = [("Cookie", "x=0; s=1; s=2"), ("host", "s=9"), ("cookie", "lb=3; t=4; S=5")];
        let jar = names.look(&fields);
        assert_eq!(jar.session, Some(&b"1"[..]));
        assert_eq!((jar.tester, jar.mark), (None, None));
        assert_eq!(jar.sticky, [Some(&b"3"[..]); 2]);
    }
}
