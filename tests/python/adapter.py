"""A channel adapter: brings one message in, then sends what agents answer.  pip install nats-py msgpack"""
import asyncio, json, os, sys, time
import msgpack, nats

TENANT, KIND, ACCOUNT = "main", "demo", "shop"
IN, JSON = f"tl.v1.in.{TENANT}.{KIND}.{ACCOUNT}", {"content-type": "application/json"}


def envelope(kind, key, **fields):
    who = {"identity": {"scheme": "login", "value": "ann", "scope": "global"}, "display": "Ann"}
    return {"v": 1, "kind": kind, "tenant": TENANT, "account": {"kind": KIND, "id": ACCOUNT}, "dedup_key": key,
            "thread": {"key": "ann"}, "sender": who, "sender_auth": {"level": "unverified"},
            "received_at": int(time.time() * 1000), **fields}


async def main(text="Hello from Python"):
    user = os.environ["THROUGHLINE_USER"]
    nc = await nats.connect(os.environ["THROUGHLINE_URL"], user=user, password=os.environ["THROUGHLINE_PASSWORD"],
                            inbox_prefix=f"_INBOX_{user}".encode())
    js = nc.jetstream()

    async def publish(event):  # Only once this has returned may the provider be told that we have it.
        dedup = {"Nats-Msg-Id": f"{TENANT}/{KIND}/{ACCOUNT}/{event['dedup_key']}"}
        await js.publish(IN, json.dumps(event).encode(), headers=JSON | dedup)

    await publish(envelope("message", f"ann/{time.time_ns()}", content=[{"type": "text", "body": text}]))
    print("stored", flush=True)
    jobs, sent = await js.pull_subscribe_bind(f"out-{KIND}", "OUT"), set()  # A real ledger outlives the process.
    while True:
        try:
            [job] = await jobs.fetch(1, timeout=5)
        except nats.errors.TimeoutError:
            continue
        is_json = (job.headers or {}).get("content-type") == JSON["content-type"]
        command = json.loads(job.data) if is_json else msgpack.unpackb(job.data)
        if command["command_id"] not in sent:
            print("send", "".join(part.get("body", "") for part in command["content"]), flush=True)
            sent.add(command["command_id"])
        receipt = {"status": "delivered", "command_id": command["command_id"]}
        await publish(envelope("receipt", f"{command['command_id']}/delivered", receipt=receipt))
        await job.ack()


asyncio.run(main(*sys.argv[1:]))
