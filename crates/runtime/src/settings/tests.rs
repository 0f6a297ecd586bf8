use std::collections::BTreeMap;
use std::path::PathBuf;

use serde::Deserialize;

use super::*;

#[derive(Debug, Deserialize, PartialEq)]
struct Settings {
    bus: Bus,
    name: String,
}

#[derive(Debug, Deserialize, PartialEq)]
struct Bus {
    port: u16,
    servers: Vec<String>,
    #[serde(default)]
    token: Option<String>,
    mode: Mode,
}

#[derive(Debug, Deserialize, PartialEq)]
#[serde(rename_all = "snake_case")]
enum Mode {
    Embedded,
    External,
}

const DEFAULTS: &str = "name = \"main\"\n[bus]\nport = 1\nservers = []\nmode = \"embedded\"\n";

fn folder(files: &[(&str, &str)]) -> PathBuf {
    static NEXT: std::sync::atomic::AtomicUsize = std::sync::atomic::AtomicUsize::new(0);
    let n = NEXT.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
    let dir = std::env::temp_dir().join(format!("throughline-settings-{}-{n}", std::process::id()));
    let _ = std::fs::remove_dir_all(&dir);
    std::fs::create_dir_all(&dir).unwrap();
    for (name, text) in files {
        std::fs::write(dir.join(name), text).unwrap();
    }
    dir
}

fn env(pairs: &[(&str, &str)]) -> Vec<(String, String)> {
    pairs.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect()
}

fn lines<T: std::fmt::Debug>(outcome: Result<T, Vec<Problem>>) -> Vec<String> {
    outcome.unwrap_err().iter().map(Problem::to_string).collect()
}

#[test]
fn later_layers_win_key_by_key() {
    let dir = folder(&[("a.toml", "[bus]\nport = 2\nservers = [\"one\", \"two\"]\n")]);
    let loader = Loader::new(DEFAULTS)
        .set("bus.mode", "external")
        .env(env(&[("THROUGHLINE__BUS__PORT", "3"), ("OTHER", "x"), ("THROUGHLINE_BIN", "x")]))
        .file(dir.join("a.toml"));
    let bus = Bus { port: 3, servers: vec!["one".into(), "two".into()], token: None, mode: Mode::External };
    assert_eq!(loader.load::<Settings>().unwrap(), Settings { bus, name: "main".into() });
}

#[test]
fn text_is_read_as_what_the_setting_wants() {
    let settings: Settings = Loader::new(DEFAULTS)
        .env(env(&[
            ("THROUGHLINE__NAME", "2025"),
            ("THROUGHLINE__BUS__SERVERS", "[\"a\", \"b\"]"),
            ("THROUGHLINE__BUS__TOKEN", "true"),
        ]))
        .set_pair("bus.port = 7")
        .load()
        .unwrap();
    assert_eq!(settings.name, "2025");
    assert_eq!(settings.bus.servers, ["a", "b"]);
    assert_eq!(settings.bus.token.as_deref(), Some("true"));
    assert_eq!(settings.bus.port, 7);
    // A second assignment behind a line end is text like any other.
    let settings: Settings = Loader::new(DEFAULTS).set("name", "1\nbus.port = 9").load().unwrap();
    assert_eq!(settings.name, "1\nbus.port = 9");
}

#[test]
fn all_problems_are_reported_with_path_and_source() {
    let dir = folder(&[("a.toml", "nam = \"x\"\n[bus]\nport = \"4222\"\nmode = \"embeded\"\nprot = 2\n")]);
    let file = dir.join("a.toml").display().to_string();
    let loader =
        Loader::new(DEFAULTS).file(&file).env(env(&[("THROUGHLINE__BUS__SERVER", "x")])).set("bus.port", "70000");
    assert_eq!(
        lines(loader.load::<Settings>()),
        [
            format!("{file}: bus.mode: unknown variant `embeded`, expected `embedded` or `external`"),
            "flag bus.port: bus.port: invalid value: integer `70000`, expected u16".to_owned(),
            format!("{file}: bus.prot: there is no such setting"),
            "environment THROUGHLINE__BUS__SERVER: bus.server: there is no such setting".to_owned(),
            format!("{file}: nam: there is no such setting"),
        ]
    );
}

#[test]
fn files_are_strict_about_types() {
    let dir = folder(&[("a.toml", "[bus]\nport = \"4222\"\nservers = [\"a\", 1, 2]\n")]);
    let file = dir.join("a.toml").display().to_string();
    assert_eq!(
        lines(Loader::new(DEFAULTS).file(&file).load::<Settings>()),
        [
            format!("{file}: bus.port: invalid type: string \"4222\", expected u16"),
            format!("{file}: bus.servers[1]: invalid type: integer `1`, expected a string"),
        ]
    );
}

#[test]
fn a_value_without_a_default_is_not_also_missing() {
    let dir = folder(&[("a.toml", "name = 1\n[bus]\nport = -1\nservers = []\nmode = \"external\"\n")]);
    let file = dir.join("a.toml").display().to_string();
    assert_eq!(
        lines(load_file::<Settings>(&file)),
        [format!("{file}: bus.port: invalid value: integer `-1`, expected u16"),]
            .into_iter()
            .chain([format!("{file}: name: invalid type: integer `1`, expected a string")])
            .collect::<Vec<_>>()
    );
    let dir = folder(&[("a.toml", "name = \"x\"\n[bus]\nservers = []\nmode = \"external\"\n")]);
    let file = dir.join("a.toml").display().to_string();
    assert_eq!(lines(load_file::<Settings>(&file)), [format!("{file}: bus: missing field `port`")]);
}

#[test]
fn broken_toml_names_line_and_column_and_a_missing_file_is_said() {
    let dir = folder(&[("a.toml", "name = \"x\"\nport = = 2\n")]);
    let found = lines(Loader::new(DEFAULTS).file(dir.join("a.toml")).file(dir.join("b.toml")).load::<Settings>());
    assert!(found[0].starts_with(&format!("{}/a.toml:2:", dir.display())), "{found:?}");
    assert!(found[1].contains("b.toml: cannot read the file"), "{found:?}");
    assert_eq!(found.len(), 2, "{found:?}");
}

#[test]
fn bad_names_of_overrides_are_refused() {
    let loader = Loader::new(DEFAULTS).set_pair("bus.port").set("bus..port", "1").env(env(&[("THROUGHLINE__", "1")]));
    let found = lines(loader.load::<Settings>());
    assert_eq!(found.len(), 3, "{found:?}");
}

#[test]
fn a_folder_is_put_together_table_by_table() {
    type Skills = BTreeMap<String, BTreeMap<String, u8>>;
    let dir = folder(&[
        ("1.toml", "[anna]\n\"lang:de\" = 5\n[ben]\nphones = 1\n"),
        ("2.toml", "[anna]\nphones = 2\n"),
        (".3.toml", "!"),
        ("4.txt", "!"),
    ]);
    let skills: Skills = load_dir(&dir).unwrap();
    assert_eq!(skills["anna"], [("lang:de".to_owned(), 5), ("phones".to_owned(), 2)].into());

    std::fs::write(dir.join("5.toml"), "[anna]\nphones = 9\n[ben]\n\"lang:de\" = 300\n").unwrap();
    let d = dir.display();
    assert_eq!(
        lines(load_dir::<Skills>(&dir)),
        [
            format!("{d}/5.toml: anna.phones: stands in {d}/2.toml too; keep one"),
            format!("{d}/5.toml: ben.\"lang:de\": invalid value: integer `300`, expected u8"),
        ]
    );
    assert_eq!(lines(load_dir::<Skills>(dir.join("none"))).len(), 1);
}

#[test]
fn structs_that_refuse_unknown_fields_are_reported_at_the_field() {
    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    struct Strict {
        #[expect(dead_code, reason = "only its presence matters")]
        good: u8,
    }
    let table = parse("good = 1\nbad = 2\nworse = 3\n", "x.toml").unwrap();
    assert_eq!(
        lines(load_value::<Strict>(&table, "x.toml")),
        [
            "x.toml: bad: unknown field `bad`, expected `good`".to_owned(),
            "x.toml: worse: unknown field `worse`, expected `good`".to_owned()
        ]
    );
}

#[test]
fn the_source_of_a_value_is_known() {
    let loader = Loader::new(DEFAULTS).env(env(&[("THROUGHLINE__BUS__PORT", "3")])).set("bus.servers", "[\"a\"]");
    assert_eq!(loader.source_of("bus.port"), "environment THROUGHLINE__BUS__PORT");
    assert_eq!(loader.source_of("bus.servers[0]"), "flag bus.servers");
    assert_eq!(loader.source_of("name"), "built-in defaults");
    assert_eq!(loader.source_of("bus"), "");
}
