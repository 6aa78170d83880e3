#[derive(Debug, Default)]
pub(crate) struct Finder;
#[derive(Debug, Default)]
pub(crate) struct Conditions;
