"""A channel adapter: brings one message in, then sends what agents answer.  pip install nats-py msgpack"""
import asyncio, json, os, sys, time, msgpack, nats

URL, USER, PASSWORD = (os.environ[f"THROUGHLINE_{name}"] for name in ("URL", "USER", "PASSWORD"))
TENANT, KIND, ACCOUNT, JSON = "main", "demo", "shop", "application/json"


def envelope(kind, key, **fields):
    who = {"identity": {"scheme": "login", "value": "ann", "scope": "global"}, "display": "Ann"}
    return {"v": 1, "kind": kind, "tenant": TENANT, "account": {"kind": KIND, "id": ACCOUNT}, "dedup_key": key,
            "thread": {"key": "ann"}, "sender": who, "sender_auth": {"level": "unverified"},
            "received_at": int(time.time() * 1000), **fields}


async def main(text="Hello from Python"):
    nc = await nats.connect(URL, user=USER, password=PASSWORD, inbox_prefix=f"_INBOX_{USER}".encode())
    js, sent = nc.jetstream(), set()  # What was sent: a real adapter's ledger outlives its process.

    async def publish(event):  # Only once this has returned may the provider be told that we have it.
        headers = {"content-type": JSON, "Nats-Msg-Id": f"{TENANT}/{KIND}/{ACCOUNT}/{event['dedup_key']}"}
        await js.publish(f"tl.v1.in.{TENANT}.{KIND}.{ACCOUNT}", json.dumps(event).encode(), headers=headers)

    await publish(envelope("message", f"ann/{time.time_ns()}", content=[{"type": "text", "body": text}]))
    print("stored", flush=True)
    jobs = await js.pull_subscribe_bind(f"out-{KIND}", "OUT")
    while True:
        try:
            [job] = await jobs.fetch(1, timeout=60)
        except nats.errors.TimeoutError:
            continue
        command = json.loads(job.data) if job.headers["content-type"] == JSON else msgpack.unpackb(job.data)
        name = command["command_id"]
        if name not in sent:
            print("send", "".join(part.get("body", "") for part in command["content"]), flush=True)
            sent.add(name)
        await publish(envelope("receipt", f"{name}/sent", receipt={"status": "sent", "command_id": name}))
        await job.ack()


asyncio.run(main(*sys.argv[1:]))
