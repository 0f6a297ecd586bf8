//! The engine's bench alone: `cargo run --profile fast -p throughline-bench-engine -- [NAME…] [--quick]
//! [--waiting=N] [--cycles=N]`, where a name is that of a world, `facts`, `identities` or `rebuild`.

#[global_allocator]
static ALLOCATOR: cap::Cap<mimalloc::MiMalloc> = cap::Cap::new(mimalloc::MiMalloc, usize::MAX);

fn main() {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let quick = arguments.iter().any(|argument| argument == "--quick");
    let named: Vec<&str> = arguments.iter().map(String::as_str).filter(|name| !name.starts_with("--")).collect();
    let number = |option: &str| {
        let given = arguments.iter().find_map(|argument| argument.strip_prefix(option));
        given.and_then(|number| number.parse().ok())
    };
    let extent = throughline_bench_engine::Extent { quick, cycles: number("--cycles="), waiting: number("--waiting=") };
    throughline_bench_engine::run(&named, extent, &|| ALLOCATOR.allocated());
}
