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
  const fail = (details: string) => callback({ code: status.ABORTED, details, metadata: new Metadata() });
  void done
    .then((isAccepted) => (isAccepted ? callback(null, instance) : fail("a later owner has written")))
    .catch((error: unknown) => fail(String(error)))
    .finally(() => ofShard.delete(done));
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
    await Promise.all(calls.get(id) ?? []);
  },
  onLost: ({ id, fenceText }) => {
    owned.delete(id);
    say(`lost ${fenceText}`);
  },
});
say("attached");

let isEnding = false;
async function tick(): Promise<void> {
  while (!isEnding) {
    await wait(TICK_MS);
    await Promise.all([...owned.values()].map((shard) => (shard.isValid() ? write(shard, "tick") : false)));
  }
}
const ticking = tick();

await once(process, "SIGTERM");
await ownership.leave();
say("left");
await once(process, "SIGTERM");
isEnding = true;
await ticking;
await registration.close();
server.forceShutdown();
client.close();
