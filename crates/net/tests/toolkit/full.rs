//! A disk that is full at one who pulls: that transfer ends, and nothing else.
//!
//! The process that meets the full disk is this test program itself, started with a limit on the size of its files, as the
//! operating system knows it.

use std::{path::Path, process::Command, sync::Arc};

use parlour_net::{Access, Context, FileError, Files, Rights, Root, Station};
use tokio::sync::Semaphore;

use crate::world::{agent_config, bounded, ready, reports, station_config};

/// The folder, for the process with the limit.
const CHILD: &str = "PARLOUR_TEST_FULL";
/// The limit in the units of `ulimit -f`: half a KiB in some shells, one in others.
const BLOCKS: usize = 2048;
const LARGE: usize = 8 << 20;
const LITTLE: usize = 16 << 10;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_disk_that_is_full_at_one_who_pulls_ends_the_transfer_and_touches_no_link() {
    if let Ok(folder) = std::env::var(CHILD) {
        return pull_too_much(Path::new(&folder)).await;
    }
    let folder = tempfile::tempdir().unwrap();
    for name in ["there", "here"] {
        std::fs::create_dir(folder.path().join(name)).unwrap();
    }
    std::fs::write(folder.path().join("there/large"), vec![7; LARGE]).unwrap();
    std::fs::write(folder.path().join("there/little"), vec![8; LITTLE]).unwrap();
    let name = "full::a_disk_that_is_full_at_one_who_pulls_ends_the_transfer_and_touches_no_link";
    let output = Command::new("sh")
        .args(["-c", &format!("ulimit -f {BLOCKS}; trap '' XFSZ; exec \"$0\" \"$@\"")])
        .arg(std::env::current_exe().unwrap())
        .args(["--exact", name, "--nocapture", "--test-threads=1"])
        .env(CHILD, folder.path())
        .output()
        .unwrap();
    let [said, complained] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success() && said.contains("1 passed"), "{said}\n{complained}");
}

fn names(folder: &Path) -> Vec<String> {
    let mut names: Vec<_> =
        std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

async fn pull_too_much(folder: &Path) {
    let (there, here) = (folder.join("there"), folder.join("here"));
    let files = Files::builder().root(Root::new("box", there, Rights::Read).allow(Access::Authenticated)).open().unwrap();
    let (lost, mut losses) = reports();
    let (held, mut holds) = reports();
    let gate = Arc::new(Semaphore::new(0));
    let (mut stations, mut agents) = (Vec::new(), Vec::new());
    for n in 0..2_u8 {
        let mut config = station_config();
        files.serve(&mut config.handlers);
        let (held, gate) = (held.clone(), Arc::clone(&gate));
        let hold = move |_cx: Context, number: u32| {
            let (held, gate) = (held.clone(), Arc::clone(&gate));
            async move {
                held.send(number).unwrap();
                gate.acquire().await.unwrap().forget();
                Ok(number)
            }
        };
        config.handlers.on_request("hold", hold).allow(Access::Authenticated);
        let station = Station::bind(config).await.unwrap();
        let mut config = agent_config(&station, n + 1);
        let lost = lost.clone();
        config.hooks.on_disconnect(move |_station, reason| {
            lost.send((n, reason)).unwrap();
            std::future::ready(())
        });
        agents.push(ready(config).await);
        stations.push(station);
    }
    let sessions = agents.iter().map(|agent| agent.link().session()).collect::<Vec<_>>();

    // One request is under way on each link, that of the transfer and the other one.
    let asked: Vec<_> = agents.iter().zip(0..).map(|(agent, n)| agent.request::<u32>("hold", &n).send()).collect();
    holds.take(2).await;
    let error = bounded(agents[0].link().pull("box/large", here.join("large"))).await.unwrap_err();
    assert_eq!((error, names(&here)), (FileError::DiskFull, vec![]));
    gate.add_permits(2);
    for (asked, n) in asked.into_iter().zip(0..) {
        assert_eq!(bounded(asked).await, Ok(n));
    }
    // What fits still comes, to the same session as before.
    for (agent, n) in agents.iter().zip(0..) {
        bounded(agent.link().pull("box/little", here.join(format!("little {n}")))).await.unwrap();
    }
    assert_eq!(names(&here), ["little 0", "little 1"]);
    assert_eq!(agents.iter().map(|agent| agent.link().session()).collect::<Vec<_>>(), sessions);
    assert!(losses.rest().is_empty());
}
