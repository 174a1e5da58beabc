//! Runs a test in a network namespace of its own, where it sees no interface that it did not make.

use std::process::Command;

/// Set inside.
const INSIDE: &str = "PARLOUR_TEST_OWN_NETWORK";

/// What the shell ends with if the network could not be set up.
const SETUP_FAILED: i32 = 77;

/// Whether this process has a network of its own.
pub(crate) fn is_inside() -> bool {
    std::env::var_os(INSIDE).is_some()
}

/// Runs the test of this name once more in a network of its own, after `setup` (a shell command). Where the kernel or the system
/// refuses one, it must say so by name: nothing passes because something unknown went wrong.
pub(crate) fn run_in_own_network(test: &str, setup: &str) {
    let program = std::env::current_exe().expect("this test");
    // An unprivileged user needs a user namespace around it; root does too where its rights have been cut.
    let mut refusals = Vec::new();
    for flags in [&["--net"][..], &["--map-root-user", "--net"][..]] {
        let mut command = Command::new("unshare");
        command.args(flags).args(["sh", "-c", &format!("({setup}) || exit {SETUP_FAILED}; exec \"$0\" \"$@\"")]);
        command.arg(&program).args(["--exact", test, "--nocapture"]).env(INSIDE, "1");
        let output = match command.output() {
            Ok(output) => output,
            Err(error) => {
                assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "unshare: {error}");
                refusals.push("no `unshare` here".to_owned());
                continue;
            }
        };
        let (said, complained) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        if output.status.success() {
            assert!(said.contains("1 passed"), "the test did not run inside: {said}{complained}");
            return;
        }
        let named = |reasons: &[&str]| reasons.iter().any(|reason| complained.contains(reason));
        // Without rights, without the module of the kernel, or without the tool.
        let refused = named(&["Operation not permitted", "Permission denied", "Invalid argument", "No space left"]);
        let unable = named(&["Operation not permitted", "Unknown device type", "not supported", "not found"]);
        let by_name = complained.contains("unshare:") && refused || output.status.code() == Some(SETUP_FAILED) && unable;
        assert!(by_name, "failed inside: {said}\n{complained}");
        refusals.push(complained.into_owned());
    }
    eprintln!("{test}: no network of its own: {refusals:?}");
}
