//! `demo`: a server and three people on this machine, for a reader who wants to see it work and for a machine that wants to know.
//!
//! Everything is real: the server's process data, the profiles, the sockets, the encryption; only the folder is temporary. Every
//! step compares what happened with what should have; the first difference ends the run with the exit status of a bug.

mod file;
mod group;
mod scenes;
mod stage;

use parlour_client::{Code, Error};

use self::stage::Stage;
use crate::cli::{Failure, output::Output};

/// Runs the demonstration.
pub(crate) async fn demo(output: &Output) -> Result<(), Failure> {
    let mut stage = Stage::new(output.clone())?;
    let outcome = play(&mut stage).await;
    stage.clear().await;
    outcome?;
    output.text(&format!("{} steps, every one of them checked", stage.steps()))
}

async fn play(stage: &mut Stage) -> Result<(), Failure> {
    stage.step("a server starts", scenes::server_starts).await?;
    stage.step("alice, bob and carol register", scenes::people_register).await?;
    stage.step("a wrong password and a taken name are refused", scenes::strangers_are_refused).await?;
    stage.step("alice and bob write to each other", scenes::two_people_talk).await?;
    stage.step("their safety numbers are the same", scenes::safety_numbers_agree).await?;
    stage.step("carol is away and finds everything on her return", scenes::offline_reader_catches_up).await?;
    stage.step("bob's connection is cut in the middle of a burst", scenes::cut_connection_loses_nothing).await?;
    stage.step("the server stops, alice writes, the server starts", scenes::server_restarts).await?;
    stage.step("a group: carol is added, and removed again", group::three_people_in_a_group).await?;
    stage.step("alice sends bob a file", file::a_file_is_sent).await?;
    stage.step("alice logs in on a second device by password alone", scenes::second_device_takes_part).await
}

/// The failure of a step: the program did not do what it promises.
fn bug(step: &str, difference: &str) -> Failure {
    Failure::Error(Error::new(Code::INTERNAL, format!("{step}: {difference}")))
}
