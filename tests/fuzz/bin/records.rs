#![no_main]

libfuzzer_sys::fuzz_target!(|data: &[u8]| selvedge_fuzz::targets::records(data));
