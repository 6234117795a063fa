/** Calls the owner of a key and prints the answer: `node caller.ts NAMESPACE KEY SERVER...`. */
import { connect, SHARD_METADATA, wrongEpoch } from "waymark";

const [namespace = "", key = "", ...servers] = process.argv.slice(2);
const client = connect({ servers });
const shards = client.shards(namespace);
await shards.ready();

const answer = await shards.call(key, async ({ target, metadata }) => {
  const response = await fetch(`http://${target}`, { method: "POST", headers: { [SHARD_METADATA]: metadata } });
  const body = await response.text();
  if (response.status === 409) {
    const { id, owner, epoch, status } = JSON.parse(body);
    throw wrongEpoch({ namespace, id, owner, epoch: BigInt(epoch), status });
  }
  if (!response.ok) throw new Error(`${response.status}: ${body}`);
  return body;
});
process.stdout.write(answer);
client.close();
