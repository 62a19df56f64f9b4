//! `chaos-sim`: runs seeds, repeats one, or shrinks what it does. Each run is a process of its own, so that whatever a run
//! takes from process-wide sources is the same whenever it is repeated.

use std::process::ExitCode;

mod command;
mod runs;
mod table;

fn main() -> ExitCode {
    match command::Command::parse(std::env::args().skip(1)) {
        Ok(command) => match runs::perform(command) {
            Ok(code) => code,
            Err(error) => {
                eprintln!("chaos-sim: {error}");
                ExitCode::from(2)
            }
        },
        Err(error) => {
            eprintln!("chaos-sim: {error}\n\n{}", command::USAGE);
            ExitCode::from(2)
        }
    }
}
