#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| flux_bearer_world::fuzz::bearer_token(data));
