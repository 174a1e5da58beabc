//! That a load runs to its end and prints what it measures. What comes out is the machine's business.

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use self::support::{parlour, run};

/// The figures of the link, each with what it is compared with.
const LINK: [(&str, Option<&str>); 32] = [
    ("raw TLS round trip, 64 B, p50", None),
    ("raw TLS round trip, p99", None),
    ("request without codec, p50", Some("raw TLS")),
    ("request with types, p50", Some("raw TLS")),
    ("request with types, p99", Some("raw TLS p99")),
    ("raw TLS echo, 256 B, pipelined", None),
    ("requests without codec, pipelined", Some("raw TLS echo")),
    ("requests with types, pipelined", Some("raw TLS echo")),
    ("actions with types", Some("raw TLS echo")),
    ("raw TLS copy, memory to memory", None),
    ("raw TLS copy, file to file, fsync", Some("memory to memory")),
    ("raw TLS copy, over another file", Some("memory to memory")),
    ("file pulled", Some("raw TLS, file to file")),
    ("file pushed", Some("raw TLS, file to file")),
    ("file pushed over another", Some("raw TLS, file to file")),
    ("file pulled, against memory", Some("raw TLS, memory to memory")),
    ("16 MiB pulled", None),
    ("ping on an idle link, p50", None),
    ("ping on an idle link, p99", None),
    ("ping beside a pull, p50", None),
    ("ping beside a pull, p99", Some("idle p99")),
    ("ping beside a push, p50", None),
    ("ping beside a push, p99", Some("idle p99")),
    ("raw fsync", None),
    ("durable actions, on disk", Some("raw fsync")),
    ("durable actions, delivered", None),
    ("ping over iroh, idle, p50", None),
    ("ping over iroh, idle, p99", None),
    ("ping over iroh, beside a pull, p50", None),
    ("ping over iroh, beside a pull, p99", Some("idle p99")),
    ("ping over iroh, beside a push, p50", None),
    ("ping over iroh, beside a push, p99", Some("idle p99")),
];

#[test]
fn the_load_of_the_link_runs_to_its_end_and_prints_every_figure_with_its_ratio() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let bench = parlour(&["--json", "bench", "link", "--requests", "100", "--file-mib", "1", "--data", data]);
    let rows = run(bench, "").ok().rows();
    let told: Vec<_> = rows.iter().map(|row| (row["what"].as_str().unwrap(), row["baseline"]["name"].as_str())).collect();
    assert_eq!(told, LINK);
    for row in &rows {
        assert!(row["value"].is_number() && row["unit"].is_string(), "{row}");
        assert_eq!(
            (row["ratio"].is_number(), row["met"].is_boolean()),
            (!row["baseline"].is_null(), !row["target"].is_null()),
            "{row}"
        );
    }
}

/// Those of files: each is one figure of a core.
const FILES: [(&str, &str); 4] = [
    ("BLAKE3 alone, one core", "MB/s"),
    ("file: going over it (cipher and both hashes)", "MB/s"),
    ("file: sealing what is sent", "MB/s"),
    ("file: opening it (cipher and both hashes)", "MB/s"),
];

/// The figures of end-to-end encryption, for each suite.
const E2EE: [(&str, &str); 18] = [
    ("encrypt 256 B", "us"),
    ("decrypt 256 B", "us"),
    ("a message on the wire", "KB"),
    ("a message's rows", "KB"),
    ("add one: make", "ms"),
    ("add one: apply", "ms"),
    ("add one: join", "ms"),
    ("add one: its maker in all", "ms"),
    ("add one: until all have it", "ms"),
    ("add one: commit", "KB"),
    ("add one: welcome", "KB"),
    ("add one: group info", "KB"),
    ("remove one: make", "ms"),
    ("remove one: apply", "ms"),
    ("remove one: its maker in all", "ms"),
    ("remove one: until all have it", "ms"),
    ("remove one: commit", "KB"),
    ("state on disk", "KB"),
];

#[test]
fn the_load_of_the_encryption_runs_to_its_end_in_both_suites_and_above_the_hybrid_size_in_one() {
    let rows = run(parlour(&["--json", "bench", "e2ee", "--devices", "2", "--devices", "151"]), "").ok().rows();
    let told: Vec<_> = rows.iter().map(|row| (row["what"].as_str().unwrap().to_owned(), row["unit"].as_str().unwrap())).collect();
    let groups = ["hybrid, 2 devices", "classical, 2 devices", "classical, 151 devices"];
    let of_groups = groups.iter().flat_map(|group| E2EE.map(|(what, unit)| (format!("{group}: {what}"), unit)));
    let all: Vec<_> = FILES.map(|(what, unit)| (what.to_owned(), unit)).into_iter().chain(of_groups).collect();
    assert_eq!(told, all);
    for row in &rows {
        assert!(row["value"].as_f64().unwrap() > 0.0, "{row}");
    }
}

#[test]
fn the_load_of_a_group_runs_to_its_end_from_two_devices_on() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    for devices in ["2", "9"] {
        let load = ["--json", "bench", "group", "--devices", devices, "--messages", "100", "--data", data];
        let rows = run(parlour(&load), "").ok().rows();
        let value = |what: &str| rows.iter().find(|row| row["what"] == what).and_then(|row| row["value"].as_f64()).expect(what);
        assert_eq!(value("devices online in one group").to_string(), devices);
        for what in [
            "adding a device: commit",
            "adding a device: its maker is answered",
            "adding a device: all have its bytes",
            "stored, 256 B",
            "delivered to readers, 256 B",
        ] {
            assert!(value(what) > 0.0, "{what}");
        }
    }
}
