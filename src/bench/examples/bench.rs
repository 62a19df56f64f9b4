//! Runs scenarios without building an agent: `cargo run --release -p bench --example bench -- burst -binary PATH`, where
//! PATH is an agent's program of any build.

fn main() -> std::process::ExitCode {
    // The process of simulated nodes is this program again, called as the agent's program would be.
    let args = std::env::args().skip(1).skip_while(|arg| arg == "bench").collect();
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    match builder.enable_all().build() {
        Ok(runtime) => {
            let code = runtime.block_on(bench::run(args));
            runtime.shutdown_background();
            u8::try_from(code).unwrap_or(1).into()
        }
        Err(error) => {
            eprintln!("could not start: {error}");
            1.into()
        }
    }
}
