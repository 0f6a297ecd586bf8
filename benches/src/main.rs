//! Measures: all benches, or those that are named: `cargo run --profile fast -p throughline-benches -- engine path
//! --quick`. `make bench` runs them all.

#[global_allocator]
static ALLOCATOR: cap::Cap<mimalloc::MiMalloc> = cap::Cap::new(mimalloc::MiMalloc, usize::MAX);

mod assign;
mod cpu;
mod hook;
mod mail;
mod path;
mod recover;
mod soak;

fn main() -> std::process::ExitCode {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let mut named = arguments.iter().map(String::as_str).filter(|argument| !argument.starts_with("--")).peekable();
    let named: Vec<&str> = if named.peek().is_none() {
        vec!["engine", "mail", "hook", "path", "assign", "load", "recover"]
    } else {
        named.collect()
    };
    for bench in named {
        match bench {
            "engine" => {
                let extent = bench_engine::Extent { quick, cycles: None, waiting: None };
                bench_engine::run(&[], extent, &|| ALLOCATOR.allocated());
            }
            "mail" => mail::run(quick),
            "hook" => {
                let runtime = tokio::runtime::Runtime::new().expect("a runtime");
                for (sync_interval, keep_raw) in [("100ms", false), ("100ms", true), ("always", false)] {
                    runtime.block_on(hook::run(sync_interval, keep_raw, quick));
                }
            }
            "hook-alone" => hook::alone(quick),
            "path" => {
                let runtime = tokio::runtime::Runtime::new().expect("a runtime");
                for (sync_interval, replicas) in [("100ms", 1), ("always", 1), ("100ms", 3), ("always", 3)] {
                    runtime.block_on(path::run(sync_interval, replicas, quick));
                }
            }
            "assign" => {
                let runtime = tokio::runtime::Runtime::new().expect("a runtime");
                runtime.block_on(assign::run(quick));
            }
            "recover" => {
                let runtime = tokio::runtime::Runtime::new().expect("a runtime");
                let many = std::env::var("THROUGHLINE_OPEN").ok().and_then(|many| many.parse().ok());
                runtime.block_on(recover::run(many.unwrap_or(if quick { 10_000 } else { 1_000_000 })));
            }
            "load" => {
                let runtime = tokio::runtime::Runtime::new().expect("a runtime");
                runtime.block_on(soak::rates(quick));
            }
            "soak" => {
                let runtime = tokio::runtime::Runtime::new().expect("a runtime");
                runtime.block_on(soak::run(quick));
            }
            _ => {
                eprintln!(
                    "there is no bench {bench}: engine, mail, hook, hook-alone, path, assign, load, recover or soak"
                );
                return std::process::ExitCode::FAILURE;
            }
        }
    }
    std::process::ExitCode::SUCCESS
}
