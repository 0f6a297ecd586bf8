//! Least privilege, as the server enforces it.

use std::time::{Duration, Instant};

use contract::{AccountId, ChannelKind, TenantId};
use throughline_bus::{ErrorKind, Publish, Topology, permissions, topology};

use crate::support::{World, message, soon};

#[tokio::test]
async fn an_agent_hears_only_its_own_feed() {
    let world = World::start().await;
    let router = world.bus().await;
    let anna = world.bus_of("agent-main-anna").await;
    let mut feed = anna.subscribe("tl.v1.agent.main.anna.>").await.unwrap();
    for foreign in ["tl.v1.agent.main.ben.>", "tl.v1.agent.>", ">", "_INBOX_agent-main-ben.>", "tl.v1.out.>"] {
        let error = anna.subscribe(foreign).await.err().unwrap_or_else(|| panic!("{foreign} is allowed"));
        assert_eq!(error.kind, ErrorKind::Forbidden, "{foreign}");
    }
    router.send(message("tl.v1.agent.main.ben.offer.made", "ben's")).await.unwrap();
    router.send(message("tl.v1.agent.main.anna.offer.made", "anna's")).await.unwrap();
    assert_eq!(&soon(feed.next()).await.unwrap().payload[..], b"anna's");

    // Another's command fails at once, it does not run into its timeout.
    let begin = Instant::now();
    let command = message("tl.v1.cmd.main.agent.ben.offer.accept", "");
    assert_eq!(anna.request(command, Duration::from_secs(10)).await.unwrap_err().kind, ErrorKind::Forbidden);
    assert!(begin.elapsed() < Duration::from_secs(1));
    let error = anna.publish(message("tl.v1.in.0.main.chat.web", "")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Forbidden);
    assert_eq!(anna.last("IN-0", ">").await.unwrap_err().kind, ErrorKind::Forbidden);
    world.end().await;
}

#[tokio::test]
async fn an_adapter_writes_and_works_only_its_own_kind() {
    let world = World::start().await;
    let router = world.bus().await;
    router.ensure(&Topology::throughline(8, 1, &["chat", "email"])).await.unwrap();
    let chat = world.bus_of("adapter-chat").await;

    let (kind, account) = (ChannelKind::new("chat").unwrap(), AccountId::new("web").unwrap());
    for name in ["main", "acme", "Größe & Söhne", "a-b", "globex"] {
        let tenant = TenantId::new(name).unwrap();
        let shard = contract::shard::of(&tenant, 8);
        // With the shard, and without: the server puts in the same one.
        let with = contract::subject::inbound(shard, &tenant, &kind, &account);
        let without = contract::subject::inbound_unsharded(&tenant, &kind, &account);
        let stream = topology::in_stream(shard);
        let first = chat.publish(message(&with, "1")).await.unwrap().seq;
        let second = chat.publish(message(&without, "2")).await.unwrap().seq;
        assert_eq!(second, first + 1);
        assert_eq!(router.get(&stream, second).await.unwrap().unwrap().subject, with);
    }

    for foreign in ["tl.v1.in.0.main.email.support", "tl.v1.in.main.email.support", "tl.v1.out.main.chat.web"] {
        let begin = Instant::now();
        assert_eq!(chat.publish(message(foreign, "")).await.unwrap_err().kind, ErrorKind::Forbidden, "{foreign}");
        assert!(begin.elapsed() < Duration::from_secs(1), "{foreign}");
    }

    // Its jobs, its ledger, the media; not those of others.
    router.publish(message("tl.v1.out.main.chat.web", "hello")).await.unwrap();
    let mut jobs = chat.work(topology::OUT, "out-chat").await.unwrap();
    soon(jobs.next()).await.unwrap().ack().await.unwrap();
    assert_eq!(chat.work(topology::OUT, "out-email").await.err().unwrap().kind, ErrorKind::Forbidden);
    // What it puts aside to fetch.
    let (own, foreign) = ("tl.v1.fetch.main.chat.web", "tl.v1.fetch.main.email.a");
    chat.publish(message(own, "picture")).await.unwrap();
    assert_eq!(chat.publish(message(foreign, "")).await.unwrap_err().kind, ErrorKind::Forbidden);
    let mut jobs = chat.work(topology::FETCH, "fetch-chat").await.unwrap();
    soon(jobs.next()).await.unwrap().ack().await.unwrap();
    assert_eq!(chat.work(topology::FETCH, "fetch-email").await.err().unwrap().kind, ErrorKind::Forbidden);
    let ledger = chat.bucket(topology::LEDGER).await.unwrap();
    let revision = ledger.update("chat.web.c1", "sent".into(), 0).await.unwrap();
    assert_eq!(ledger.get("chat.web.c1").await.unwrap().unwrap().revision, revision);
    assert_eq!(ledger.put("email.a.c1", "x".into()).await.unwrap_err().kind, ErrorKind::Forbidden);
    assert_eq!(ledger.entries_below("chat").await.unwrap().len(), 1);
    let channels = chat.bucket(topology::CHANNELS).await.unwrap();
    channels.put("main.chat.web", "up".into()).await.unwrap();
    assert_eq!(channels.put("main.email.a", "up".into()).await.unwrap_err().kind, ErrorKind::Forbidden);
    let media = chat.objects(topology::MEDIA).await.unwrap();
    media.put("a.png", "png".into()).await.unwrap();
    assert_eq!(&media.get("a.png", 10).await.unwrap().unwrap()[..], b"png");
    media.delete("a.png").await.unwrap();
    chat.publish(message("tl.v1.dead.main.out-chat", "poison")).await.unwrap();
    chat.publish(message("tl.v1.dead.main.hook-chat", "poison")).await.unwrap();
    let error = chat.publish(message("tl.v1.dead.main.hook-email", "poison")).await.unwrap_err();
    assert_eq!(error.kind, ErrorKind::Forbidden);

    // An operator sees what is dead and takes it away, and has no other business.
    let admin = world.bus_of(permissions::ADMIN).await;
    let dead = admin.collect(topology::DEAD, "tl.v1.dead.>", None).await;
    // The filter of a scan is part of what is permitted.
    assert_eq!(dead.unwrap().len(), 2);
    admin.delete(topology::DEAD, 1).await.unwrap();
    assert_eq!(admin.publish(message("tl.v1.event.main.message.c1", "")).await.unwrap_err().kind, ErrorKind::Forbidden);
    let channels = admin.bucket(topology::CHANNELS).await.unwrap();
    assert_eq!(channels.keys().await.unwrap(), ["main.chat.web"]);
    assert_eq!(channels.put("main.chat.web", "x".into()).await.unwrap_err().kind, ErrorKind::Forbidden);
    world.end().await;
}

#[tokio::test]
async fn users_come_and_go_while_the_server_runs() {
    let world = World::start_with(permissions::all(&["chat"], &[("main", "anna")])).await;
    let router = world.bus().await;
    let server = world.server();
    let pid = server.pid();
    server.set_users(permissions::all(&["chat"], &[("main", "carla")])).await.unwrap();
    assert_eq!(server.pid(), pid, "a reload is no restart");
    let carla = world.bus_of("agent-main-carla").await;
    let mut feed = carla.subscribe("tl.v1.agent.main.carla.>").await.unwrap();
    router.send(message("tl.v1.agent.main.carla.offer.made", "x")).await.unwrap();
    soon(feed.next()).await.unwrap();
    let credentials = server.credentials("agent-main-anna").unwrap();
    let options = throughline_bus::Options { servers: vec![server.url().into()], credentials, ..Default::default() };
    let begin = Instant::now();
    assert_eq!(throughline_bus::Bus::connect(options).await.unwrap_err().kind, ErrorKind::Forbidden);
    assert!(begin.elapsed() < Duration::from_secs(1));
    // Sending to a subject that is not legal is a fault of the caller's.
    let bad = Publish { subject: "a b".into(), ..Publish::default() };
    assert_eq!(router.publish(bad).await.unwrap_err().kind, ErrorKind::Config);
    world.end().await;
}
