#[derive(Debug, Default)]
pub(crate) struct Keys;
