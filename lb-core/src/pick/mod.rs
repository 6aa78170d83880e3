#[derive(Debug, Default)]
pub(crate) struct Pool;
