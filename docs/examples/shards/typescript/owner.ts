/**
 * A program that owns shards and answers calls for them. Start it several times: each instance gets its share of the shards. Run it with
 * `node owner.ts NAMESPACE SERVICE INSTANCE SERVER...`. Only programs on this machine can connect.
 */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { connect, EntryKind, SHARD_METADATA, type ShardTerm, wrongEpochShard } from "waymark";

const [namespace = "", service = "", instance = "", ...servers] = process.argv.slice(2);
const client = connect({ servers });

const server = createServer((request, response) => {
  try {
    const { fenceText } = owner.check(String(request.headers[SHARD_METADATA]));
    // A real program sends the fence with its effects.
    response.end(`${fenceText}\n`);
  } catch (error) {
    const shard = wrongEpochShard(error);
    if (shard === undefined) response.writeHead(503).end(String(error));
    else response.writeHead(409).end(JSON.stringify({ id: shard.id, owner: shard.owner, epoch: String(shard.epoch), status: shard.status }));
  }
});
await new Promise<void>((resolve) => {
  server.listen(0, "127.0.0.1", resolve);
});
// oxlint-disable-next-line typescript/no-unsafe-type-assertion -- a TCP server has such an address
const { port } = server.address() as AddressInfo;
const key = { namespace, name: service, kind: EntryKind.SERVICE, instanceId: instance };
const registration = await client.register([{ key, targets: [{ host: "127.0.0.1", port }] }]);

function report(what: string, { fenceText }: ShardTerm): void {
  process.stdout.write(`${what} ${fenceText}\n`);
}
const owner = await client.shards(namespace).own({
  instance,
  onPrepare: ({ id }) => void process.stdout.write(`prepares ${id}\n`),
  onOwn: (shard) => report("owns", shard),
  onDrain: (shard) => report("drains", shard),
  onLost: (shard) => report("lost", shard),
});
process.stdout.write(`listening on ${port}\n`);

process.once("SIGTERM", () => void owner.leave());
await owner.done;
await registration.close();
client.close();
server.close();
