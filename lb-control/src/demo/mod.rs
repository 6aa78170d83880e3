//! What `lb demo` balances: three small origins on loopback and a configuration in front of them.

mod origin;

use std::io;
use std::net::SocketAddr;
use std::thread::JoinHandle;

use tokio::net::TcpListener;
use tokio::sync::watch;

/// The origins' names, in the order of [`Origins::addresses`].
pub const NAMES: [&str; 3] = ["old-1", "old-2", "new-1"];

/// The canary's share in the demo, in percent.
pub const SHARE_PERCENT: u8 = 10;

/// Three HTTP origins on loopback ports of their own, on one thread. They stop when this is dropped.
#[derive(Debug)]
pub struct Origins {
    addresses: [SocketAddr; 3],
    stop: watch::Sender<bool>,
    thread: Option<JoinHandle<()>>,
}

impl Origins {
    /// Binds three free ports and begins to serve.
    ///
    /// # Errors
    /// When no port or no thread can be had.
    pub fn start() -> io::Result<Origins> {
        let mut addresses = [SocketAddr::from(([127, 0, 0, 1], 0)); 3];
        let mut sockets = Vec::with_capacity(3);
        for address in &mut addresses {
            let socket = std::net::TcpListener::bind(*address)?;
            socket.set_nonblocking(true)?;
            *address = socket.local_addr()?;
            sockets.push(socket);
        }
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
        let (stop, stopped) = watch::channel(false);
        let thread = std::thread::Builder::new().name("lb-demo-origins".to_owned()).spawn(move || {
            runtime.block_on(async move {
                let mut servers = tokio::task::JoinSet::new();
                for (socket, name) in sockets.into_iter().zip(NAMES) {
                    let mut stopped = stopped.clone();
                    servers.spawn(async move {
                        let Ok(listener) = TcpListener::from_std(socket) else { return };
                        let serve = async { axum::serve(listener, origin::app(name)).await };
                        tokio::select! {
                            _ = serve => {}
                            _ = stopped.wait_for(|stop| *stop) => {}
                        }
                    });
                }
                servers.join_all().await;
            });
        })?;
        Ok(Origins { addresses, stop, thread: Some(thread) })
    }

    /// Where each of [`NAMES`] listens.
    pub fn addresses(&self) -> [SocketAddr; 3] {
        self.addresses
    }

    /// The configuration of the demo: one route, the old backend with two servers, the new one as canary.
    pub fn config(&self, listen: &str, admin: &str) -> String {
        let [old_1, old_2, new_1] = self.addresses;
        format!(
            r#"# What `lb demo` runs with. The servers are three small origins inside the same process.
[admin]
listen = "{admin}"

[session]
cookie = "lb_session"

[[listener]]
name = "web"
bind = "{listen}"

[[route]]
name    = "shop"
backend = "old"
canary  = {{ backend = "new", share = "{SHARE_PERCENT}%", cookie = "canary", release = "demo" }}

[[backend]]
name    = "old"
balance = "least_request"
sticky  = {{ cookie = "lb_old" }}
server  = [
  {{ name = "old-1", address = "{old_1}" }},
  {{ name = "old-2", address = "{old_2}" }},
]

[[backend]]
name   = "new"
server = [{{ name = "new-1", address = "{new_1}" }}]
"#
        )
    }
}

impl Drop for Origins {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}
