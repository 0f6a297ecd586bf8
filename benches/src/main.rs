//! Measures, one bench by name: `cargo run --profile fast -p throughline-benches -- engine [--quick]`.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

mod cpu;
mod engine;
mod path;

fn main() -> std::process::ExitCode {
    let mut arguments = std::env::args().skip(1);
    let bench = arguments.next().unwrap_or_default();
    let quick = arguments.any(|argument| argument == "--quick");
    match bench.as_str() {
        "engine" => crate::engine::run(quick).iter().for_each(|line| println!("{line}")),
        "path" => {
            let runtime = tokio::runtime::Runtime::new().expect("a runtime");
            for sync_interval in ["100ms", "always"] {
                runtime.block_on(path::run(sync_interval, quick));
            }
        }
        _ => {
            eprintln!("which bench? engine or path");
            return std::process::ExitCode::FAILURE;
        }
    }
    std::process::ExitCode::SUCCESS
}
