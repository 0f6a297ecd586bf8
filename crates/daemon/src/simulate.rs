//! `throughline simulate`: worlds of customers and agents around the real engine, without a bus.

use std::io::IsTerminal as _;
use std::path::Path;

use contract::Millis;
use indicatif::{ProgressBar, ProgressStyle};
use runtime::settings::Problem;
use simulator::{Company, Report, RunLog, Scenario, Seeds, Trace, bound, peers};

use crate::Failure;
use crate::cli::Simulate;
use crate::output::say;
use crate::settings::load_policy;

/// Reports take at most so many runs together; findings are looked for in all.
const POOLED_MAX: u64 = 200;
/// Fewer runs than this need no progress bar.
const PROGRESS_MIN: u64 = 20;

fn read(path: &Path) -> Result<String, Failure> {
    std::fs::read_to_string(path).map_err(|error| Failure::Other(format!("{}: {error}", path.display())))
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|error| Failure::Other(format!("{}: {error}", path.display())))
}

fn company(dir: &Path) -> Result<Company, Failure> {
    let policy = load_policy(dir).map_err(|problems: Vec<Problem>| Failure::Settings(problems))?;
    Company::from_policy(&policy).map_err(Failure::Other)
}

/// Does what the options say.
pub(crate) fn simulate(options: &Simulate, json: bool) -> Result<(), Failure> {
    if options.list {
        for scenario in Scenario::all() {
            say(&format!("{:<10}{}", scenario.name, scenario.about));
        }
        return Ok(());
    }
    if let Some(instances) = options.bound {
        for skilled in [false, true] {
            say(&bound::distance(instances, skilled).map_err(Failure::Other)?.text());
        }
        return Ok(());
    }
    if let Some(journal) = &options.journal {
        return what_if(options, journal, json);
    }
    let seeds = world(options)?;
    if options.compare { compare(options, &seeds, json) } else { run(options, &seeds, json) }
}

fn world(options: &Simulate) -> Result<Seeds, Failure> {
    let mut scenario = Scenario::named(&options.scenario).ok_or_else(|| {
        let names: Vec<&str> = Scenario::all().iter().map(|scenario| scenario.name).collect();
        Failure::Other(format!("there is no world {:?}; there are {}", options.scenario, names.join(", ")))
    })?;
    if let Some(agents) = options.agents {
        // As many customers for each as before, unless it is said how many.
        scenario.rate *= f64::from(agents) / f64::from(scenario.agents.max(1));
        scenario.agents = agents;
    }
    scenario.rate = options.rate.unwrap_or(scenario.rate);
    scenario.hours = options.hours.or(options.days.map(|days| days * 24.0)).unwrap_or(scenario.hours);
    if !(scenario.rate >= 0.0 && scenario.hours > 0.0 && scenario.rate.is_finite() && scenario.hours.is_finite()) {
        return Err(Failure::Other("--rate must be 0 or more, --hours and --days more than 0".to_owned()));
    }
    let mut seeds = match &options.policy {
        Some(dir) => Seeds::with_policy(scenario, company(dir)?),
        None => Seeds::new(scenario).map_err(Failure::Other)?,
    };
    seeds.to_the_end = !options.no_rest;
    Ok(seeds)
}

fn threshold(options: &Simulate) -> Millis {
    Millis::from_secs(options.threshold)
}

fn run(options: &Simulate, seeds: &Seeds, json: bool) -> Result<(), Failure> {
    let range = options.seed..options.seed + options.seeds.max(1);
    let count = range.end - range.start;
    let threads = options.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, Into::into));
    let bar = progress(count, options.quiet);
    let started = std::time::Instant::now();
    let (mut pooled, mut failure, mut steps, mut done): (Option<RunLog>, _, u64, u64) = (None, None, 0, 0);
    let mut journal = None;
    let mut each = |mut run: simulator::Run| {
        bar.inc(1);
        done += 1;
        steps += run.steps;
        failure = run.failure(&options.scenario, options.commit.as_deref());
        if options.journal_to.is_some() && (done == 1 || failure.is_some()) {
            journal = Some(std::mem::take(&mut run.journal));
        }
        match &mut pooled {
            Some(pooled) if done <= POOLED_MAX => pooled.merge(run.log),
            Some(_) => {}
            None => pooled = Some(run.log),
        }
        failure.is_none()
    };
    match &options.trace {
        Some(file) => {
            let trace = Trace::read(&read(file)?).map_err(Failure::Other)?.staffed_by(&seeds.company);
            for seed in range.clone() {
                if !each(seeds.run_trace(seed, &trace)) {
                    break;
                }
            }
        }
        None => seeds.run_all(range, threads, &mut each),
    }
    bar.finish_and_clear();
    if let (Some(file), Some(entries)) = (&options.journal_to, journal) {
        let to = std::fs::File::create(file).map_err(|error| Failure::Other(format!("{}: {error}", file.display())))?;
        simulator::write_journal(std::io::BufWriter::new(to), &simulator::records(entries))?;
    }
    if let Some(failure) = failure {
        return Err(Failure::Other(failure));
    }
    let report = Report::of(&pooled.unwrap_or_default(), threshold(options));
    show(options, json, std::slice::from_ref(&report), &report, || report.text())?;
    if !options.quiet && !json {
        let rate = done as f64 / started.elapsed().as_secs_f64().max(1e-9);
        say(&format!("{done} seeds, {steps} steps, {rate:.1} seeds/s; nothing broke"));
        if done > POOLED_MAX {
            say(&format!("the report is of the first {POOLED_MAX} of them"));
        }
    }
    Ok(())
}

fn progress(count: u64, quiet: bool) -> ProgressBar {
    if quiet || count < PROGRESS_MIN || !std::io::stderr().is_terminal() {
        return ProgressBar::hidden();
    }
    let bar = ProgressBar::new(count);
    if let Ok(style) = ProgressStyle::with_template("{bar:40} {pos}/{len} seeds, {per_sec}, {eta} left") {
        bar.set_style(style);
    }
    bar
}

fn compare(options: &Simulate, seeds: &Seeds, json: bool) -> Result<(), Failure> {
    let range = options.seed..options.seed + options.seeds.max(1);
    let reports = peers::compare(seeds, range, threshold(options));
    show(options, json, &reports, &reports, || {
        let mut text = simulator::comparison(&reports);
        text.push('\n');
        for system in peers::all(seeds) {
            text.push_str(&format!("{}: {}\n", system.name(), system.about()));
        }
        text
    })
}

fn what_if(options: &Simulate, journal: &Path, json: bool) -> Result<(), Failure> {
    let Some(dir) = &options.policy else {
        return Err(Failure::Other("--journal needs --policy: the other policy to try".to_owned()));
    };
    let file =
        std::fs::File::open(journal).map_err(|error| Failure::Other(format!("{}: {error}", journal.display())))?;
    let records = simulator::read_journal(std::io::BufReader::new(file))
        .map_err(|error| Failure::Other(format!("{}: {error}", journal.display())))?;
    let result = simulator::what_if(&records, &company(dir)?, threshold(options), 10).map_err(Failure::Other)?;
    show(options, json, &result.reports, &result, || result.text())
}

/// Writes the files that were asked for, and answers on standard output.
fn show(
    options: &Simulate,
    json: bool,
    reports: &[Report],
    whole: &impl serde::Serialize,
    text: impl Fn() -> String,
) -> Result<(), Failure> {
    if let Some(file) = &options.html {
        write(file, &simulator::page(&format!("Throughline: world {}", options.scenario), reports))?;
    }
    if let Some(file) = &options.report {
        write(file, &serde_json::to_string_pretty(whole)?)?;
    }
    if json {
        say(&serde_json::to_string_pretty(whole)?);
    } else if !options.quiet {
        say(text().trim_end());
    }
    Ok(())
}
