/**
 * A program that owns shards: `node shard-owner-child.ts INSTANCE LOG_URL NAMESPACE SERVER...`. It does the work of `shard-work.ts`, and writes each item to
 * a `FencedLog`. It also writes `tick` for each of its shards, again and again. After SIGTERM it leaves, and after another SIGTERM it ends.
 */
import { once } from "node:events";
import { setTimeout as wait } from "node:timers/promises";
import { Metadata, Server, ServerCredentials, type ServerUnaryCall, type sendUnaryData, status } from "@grpc/grpc-js";
import { connect, FENCE_METADATA, SHARD_METADATA, type ShardTerm } from "../../src/client/index.ts";
import { INSTANCE_HEADER } from "./fenced-log.ts";
import { WORK_SERVICE } from "./shard-work.ts";

/** Duration of the work for an item, so that there is work in progress at most times. */
const WORK_MS = 20;
const TICK_MS = 100;

const [instance = "", logUrl = "", namespace = "", ...servers] = process.argv.slice(2);
const client = connect({ servers });
const owned = new Map<number, ShardTerm>();
/** The calls in progress, by shard. */
const calls = new Map<number, Set<Promise<boolean>>>();
const say = (line: string) => process.stdout.write(`${line}\n`);

async function write({ fenceText }: ShardTerm, item: string): Promise<boolean> {
  const { status: code } = await fetch(logUrl, {
    method: "POST",
    headers: { [FENCE_METADATA]: fenceText, [INSTANCE_HEADER]: instance },
    body: item,
  });
  return code === 204;
}

async function work(shard: ShardTerm, item: string): Promise<boolean> {
  await wait(WORK_MS);
  return write(shard, item);
}

function handle({ request, metadata }: ServerUnaryCall<string, string>, callback: sendUnaryData<string>): void {
  let shard: ShardTerm;
  try {
    shard = ownership.check(String(metadata.get(SHARD_METADATA)[0]));
  } catch (error) {
    callback(error as Error);
    return;
  }
  const done = work(shard, request);
  const ofShard = calls.get(shard.id) ?? new Set();
  calls.set(shard.id, ofShard.add(done));
  void answer(done, callback).finally(() => ofShard.delete(done));
}

async function answer(done: Promise<boolean>, callback: sendUnaryData<string>): Promise<void> {
  let details = "a later owner has written";
  try {
    if (await done) {
      // oxlint-disable-next-line unicorn/no-null -- grpc-js expects it
      callback(null, instance);
      return;
    }
  } catch (error) {
    details = String(error);
  }
  callback({ code: status.ABORTED, details, metadata: new Metadata() });
}

const server = new Server();
server.addService(WORK_SERVICE, { do: handle });
const port = await new Promise<number>((resolve, reject) => {
  server.bindAsync("127.0.0.1:0", ServerCredentials.createInsecure(), (error, bound) => (error === null ? resolve(bound) : reject(error)));
});
const registration = await client.register([
  { key: { namespace, name: "worker", instanceId: instance }, targets: [{ host: "127.0.0.1", port }] },
]);
const ownership = await client.shards(namespace).own({
  instance,
  onPrepare: () => {},
  onOwn: (shard) => {
    owned.set(shard.id, shard);
    say(`owns ${shard.fenceText}`);
  },
  onDrain: async ({ id }) => {
    owned.delete(id);
    await Promise.all(calls.get(id) ?? new Set<Promise<boolean>>());
  },
  onLost: ({ id, fenceText }) => {
    owned.delete(id);
    say(`lost ${fenceText}`);
  },
});
say("attached");

const end = new AbortController();
async function tick(): Promise<void> {
  while (!end.signal.aborted) {
    await wait(TICK_MS);
    await Promise.all([...owned.values()].filter((shard) => shard.isValid()).map((shard) => write(shard, "tick")));
  }
}
const ticking = tick();

await once(process, "SIGTERM");
await ownership.leave();
say("left");
await once(process, "SIGTERM");
end.abort();
await ticking;
await registration.close();
server.forceShutdown();
client.close();
