//! Components. Those of the corpus are text; what is made of them is made of their bytes.

#![no_main]

use libfuzzer_sys::{fuzz_mutator, fuzz_target, fuzzer_mutate};

fuzz_target!(|input: &[u8]| match wat::parse_bytes(input) {
    Ok(input) => targets::component(&input),
    Err(_) => targets::component(input),
});

fuzz_mutator!(
    |input: &mut [u8], size: usize, size_max: usize, _seed: u32| {
        let assembled = wat::parse_bytes(&input[..size]).map(|bytes| bytes.into_owned());
        let size = match assembled {
            Ok(bytes) if bytes.len() <= size_max => {
                input[..bytes.len()].copy_from_slice(&bytes);
                bytes.len()
            }
            _ => size,
        };
        fuzzer_mutate(input, size, size_max)
    }
);
