use crate::spec::SessionKey;
#[derive(Debug)]
pub(crate) struct Canary {
    pub(crate) key: SessionKey,
    pub(crate) release: Box<str>,
}
