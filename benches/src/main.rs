//! Measures, one bench by name: `cargo run --profile fast -p throughline-benches -- engine [--quick]`.

mod engine;

fn main() -> std::process::ExitCode {
    let mut arguments = std::env::args().skip(1);
    let bench = arguments.next().unwrap_or_default();
    let quick = arguments.any(|argument| argument == "--quick");
    match bench.as_str() {
        "engine" => crate::engine::run(quick).iter().for_each(|line| println!("{line}")),
        _ => {
            eprintln!("which bench? engine");
            return std::process::ExitCode::FAILURE;
        }
    }
    std::process::ExitCode::SUCCESS
}
