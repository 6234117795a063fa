/**
 * Owners of shards as programs have them: `_shard-owners-child.ts SERVER,SERVER,… NAMESPACE SERVICE INSTANCE,INSTANCE,… [LOG_PORT]`. It prints when it may
 * act for a shard, and when it may no longer. With the port of a fenced log, it accepts items of work and appends their effects to the log. Lines on its standard
 * input are orders: `attach INSTANCE` and `leave INSTANCE`.
 */
import { createInterface } from "node:readline";
import { setTimeout as wait } from "node:timers/promises";
import { toJson } from "@bufbuild/protobuf";
import { EntryKind } from "../gen/waymark/catalog/v1/entry_pb.js";
import { ShardSchema } from "../gen/waymark/control/v1/shard_pb.js";
import { connect, type ShardOwnership, wrongEpochShard } from "../src/client/index.ts";
import { LineClient, serveLines } from "./_lines.ts";
import { type Appended, type Effect, type ItemAnswer, WORK_MS, type WorkItem } from "./_shard-work.ts";

const [servers = "", namespace = "", service = "", instances = "", logPort = ""] = process.argv.slice(2);
const client = connect({ servers: servers.split(","), findServers: false });
const shards = client.shards(namespace);
await shards.ready();

const log = logPort === "" ? undefined : await LineClient.open(Number(logPort));
const port = log === undefined ? 1 : await serveLines((item) => work(item as WorkItem));
/** The last owner of each instance. After it has left, it rejects work with the `wrongEpoch` error. */
const owners = new Map<string, ShardOwnership>();
/** The work that has begun, by shard. */
const running = new Map<number, Set<Promise<unknown>>>();

function say(what: string, owner: string, id = 0): void {
  process.stdout.write(`${JSON.stringify({ what, owner, id, atMs: Date.now() })}\n`);
}

async function attach(instance: string): Promise<void> {
  const key = { namespace, name: service, kind: EntryKind.SERVICE, instanceId: instance };
  const registration = await client.register([{ key, targets: [{ host: "127.0.0.1", port }] }]);
  const owner = await shards.own({
    instance,
    onOwn: ({ id, signal }) => {
      say("owns", instance, id);
      signal.addEventListener("abort", () => say("lost", instance, id));
    },
    onDrain: ({ id }) => Promise.all(running.get(id) ?? new Set<Promise<unknown>>()),
  });
  owners.set(instance, owner);
  say("attached", instance);
  await owner.done;
  await registration.close();
  say("left", instance);
}

/** The program of a work item has one instance. */
async function work({ item, metadata }: WorkItem): Promise<ItemAnswer> {
  const [[instance, owner] = []] = owners;
  if (log === undefined || owner === undefined || instance === undefined) return { error: "this program owns no shards" };
  try {
    const { id, fence } = owner.check(metadata);
    const done = wait(WORK_MS).then(() => log.ask<Appended>({ id, item, fence, owner: instance } satisfies Effect));
    const begun = running.get(id) ?? new Set();
    running.set(id, begun.add(done));
    const { isAccepted } = await done;
    begun.delete(done);
    return isAccepted ? {} : { error: "the log rejected the fence" };
  } catch (error) {
    const shard = wrongEpochShard(error);
    return shard === undefined ? { error: String(error) } : { shard: toJson(ShardSchema, shard) };
  }
}

function failed(error: unknown): void {
  console.error(error);
  process.exit(1);
}

for (const instance of instances.split(",")) attach(instance).catch(failed);
createInterface({ input: process.stdin })
  .on("line", (line) => {
    const [order, instance = ""] = line.split(" ");
    if (order === "attach") attach(instance).catch(failed);
    else owners.get(instance)?.leave().catch(failed);
  })
  .on("close", () => process.exit());
