#![no_main]

#[path = "../checks/response_head.rs"]
mod check;
#[path = "../../lb-io/tests/http1/relay.rs"]
mod relay;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| check::check(bytes));
