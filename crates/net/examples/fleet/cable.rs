//! A network cable that can be pulled out: a TCP proxy on loopback.

use std::net::SocketAddr;

use parlour_net::ServerUrl;
use tokio::{
    io::copy_bidirectional,
    net::{TcpListener, TcpStream},
    sync::watch,
};

pub(crate) struct Cable {
    address: SocketAddr,
    plugged: watch::Sender<bool>,
}

impl Cable {
    pub(crate) async fn to(station: SocketAddr) -> std::io::Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let address = listener.local_addr()?;
        let (plugged, state) = watch::channel(true);
        tokio::spawn(async move {
            while let Ok((inner, _)) = listener.accept().await {
                if *state.borrow() {
                    tokio::spawn(pass(inner, station, state.clone()));
                }
            }
        });
        Ok(Self { address, plugged })
    }

    pub(crate) fn url(&self) -> ServerUrl {
        format!("wss://{}", self.address).parse().expect("an address and a port")
    }

    pub(crate) fn pull(&self) {
        self.plugged.send_replace(false);
    }

    pub(crate) fn mend(&self) {
        self.plugged.send_replace(true);
    }
}

async fn pass(mut inner: TcpStream, station: SocketAddr, mut plugged: watch::Receiver<bool>) {
    let Ok(mut outer) = TcpStream::connect(station).await else { return };
    tokio::select! {
        _ = copy_bidirectional(&mut inner, &mut outer) => {}
        _ = plugged.wait_for(|plugged| !plugged) => {}
    }
}
