//! The binary starts and says what it is. That this test names it also makes cargo build it for the tests of the whole.

use std::process::Command;

#[test]
fn the_binary_says_what_it_is() {
    let output = Command::new(env!("CARGO_BIN_EXE_wayfarer"))
        .arg("version")
        .output()
        .expect("the built binary starts");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{said}");
    assert!(said.starts_with("Wayfarer v"), "{said}");
}
