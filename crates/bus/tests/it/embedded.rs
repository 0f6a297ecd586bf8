//! The embedded server: restarts, adoption, refusals.

use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use throughline_bus::embedded::{Options, Server};
use throughline_bus::{ErrorKind, permissions};

use crate::support::{Folder, World, connect, message, options, publish_surely, soon, streams};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_killed_server_returns_on_the_same_port() {
    let world = World::start().await;
    let bus = world.bus().await;
    bus.ensure(&streams(&[("S", "tl.v1.s.>")])).await.unwrap();
    bus.publish(message("tl.v1.s.a", 1)).await.unwrap();
    let (url, pid) = (world.server().url().to_owned(), world.server().pid());
    let begin = Instant::now();
    world.kill_and_return(&bus).await;
    println!("up again after {:?}", begin.elapsed());
    assert_eq!(world.server().url(), url);
    assert_ne!(world.server().pid(), pid);
    assert_eq!(publish_surely(&bus, message("tl.v1.s.a", 2)).await, 2);
    // Twice, since the second time it is not the process that was started first.
    world.kill_and_return(&bus).await;
    assert_eq!(publish_surely(&bus, message("tl.v1.s.a", 3)).await, 3);
    world.end().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_left_behind_is_adopted_and_watched() {
    let mut world = World::start().await;
    let bus = world.bus().await;
    bus.ensure(&streams(&[("S", "tl.v1.s.>")])).await.unwrap();
    let (url, pid) = (world.server().url().to_owned(), world.server().pid());
    world.server.take().unwrap().detach().await;

    let begin = Instant::now();
    let mut wanted = options(&world.folder);
    // A changed roster needs no restart.
    wanted.users.push(permissions::agent("main", "carla"));
    world.server = Some(Server::start(wanted).await.unwrap());
    println!("adopted in {:?}", begin.elapsed());
    assert!(world.server().adopted());
    assert_eq!((world.server().url(), world.server().pid()), (url.as_str(), pid));
    world.bus_of("agent-main-carla").await;

    // An adopted one is watched like a child.
    world.kill_and_return(&bus).await;
    assert_ne!(world.server().pid(), pid);
    publish_surely(&bus, message("tl.v1.s.a", 1)).await;
    world.end().await;
}

#[tokio::test]
async fn a_server_left_behind_with_other_settings_is_replaced() {
    let folder = Folder::new();
    let server = Server::start(options(&folder)).await.unwrap();
    let (url, pid) = (server.url().to_owned(), server.pid());
    server.detach().await;
    let changed = Options { sync_interval: "200ms".into(), websocket_port: Some(0), ..options(&folder) };
    let server = Server::start(changed).await.unwrap();
    assert!(!server.adopted());
    assert_ne!(server.pid(), pid);
    assert_eq!(server.url(), url, "the port of the run before is kept");
    let websocket = server.websocket_url().unwrap();
    let address = websocket.strip_prefix("ws://").unwrap();
    tokio::net::TcpStream::connect(address).await.unwrap();
    server.stop().await.unwrap();
}

#[tokio::test]
async fn a_taken_port_is_named_with_its_setting() {
    let folder = Folder::new();
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let error = Server::start(Options { port, ..options(&folder) }).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Config);
    assert!(error.to_string().contains(&port.to_string()) && error.to_string().contains("bus.port"), "{error}");
}

#[tokio::test]
async fn a_second_daemon_on_the_same_data_is_refused() {
    let world = World::start().await;
    let error = Server::start(options(&world.folder)).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Config);
    assert!(error.to_string().contains("another throughline daemon"), "{error}");
    let bus = world.bus().await;
    bus.flush().await.unwrap();
    world.end().await;
}

#[tokio::test]
async fn a_bad_setting_shows_what_the_server_said() {
    let folder = Folder::new();
    let bad = Options { sync_interval: "sometimes".into(), ..options(&folder) };
    let error = Server::start(bad).await.unwrap_err();
    assert!(error.to_string().contains("sync_interval") || error.to_string().contains("sometimes"), "{error}");
    let missing = Options { binary: Some("/nowhere/nats-server".into()), ..options(&folder) };
    let error = Server::start(missing).await.unwrap_err();
    assert!(error.to_string().contains("make tools"), "{error}");
    let wrong = Options { binary: Some("/bin/true".into()), ..options(&folder) };
    let error = Server::start(wrong).await.unwrap_err();
    assert!(error.to_string().contains("2.12"), "{error}");
}

#[tokio::test]
async fn secrets_are_for_nobody_else() {
    let world = World::start().await;
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let folder = world.folder.path();
    assert_eq!(mode(&folder.join("nats")), 0o700);
    assert_eq!(mode(&folder.join("credentials")), 0o700);
    assert_eq!(mode(&folder.join("nats/accounts.conf")), 0o600);
    assert_eq!(mode(&folder.join("credentials/router")), 0o600);
    // Kept over restarts.
    let before = std::fs::read(folder.join("credentials/router")).unwrap();
    let World { server, folder } = world;
    server.unwrap().stop().await.unwrap();
    let server = Server::start(options(&folder)).await.unwrap();
    assert_eq!(std::fs::read(folder.path().join("credentials/router")).unwrap(), before);
    soon(connect(&server, "router").await.flush()).await.unwrap();
    server.stop().await.unwrap();
}
