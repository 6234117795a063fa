/**
 * Clients as programs have them, many in one process: `_shard-watchers-child.ts SERVER,SERVER,… NAMESPACE KEY COUNT`. Each follows the shards of the
 * namespace. When the owner of the key has changed for all of them, the parent is told when each client's map showed it.
 */
import { type Client, connect } from "../src/client/index.ts";

/** Times are of the system's clock, in ms. */
export interface SeenMove {
  readonly epoch: number;
  readonly owner: string;
  readonly atMs: readonly number[];
}

const [servers = "", namespace = "", key = "", count = "0"] = process.argv.slice(2);
const COUNT = Number(count);
const seen = new Map<number, number[]>();

/** Calls `onApplied` after the client has applied a message. */
function listen(client: Client, onApplied: () => void): void {
  const streamAt = client.streamAt.bind(client);
  const listening: Client["streamAt"] = async function* (...args) {
    for await (const message of streamAt(...args)) {
      yield message;
      onApplied();
    }
  };
  Object.assign(client, { streamAt: listening });
}

async function open(i: number): Promise<void> {
  const list = servers.split(",");
  const client = connect({ servers: [...list.slice(i % list.length), ...list.slice(0, i % list.length)], findServers: false });
  let last: string | undefined;
  listen(client, () => {
    if (last === undefined) return;
    const { owner, epoch } = shards.route(key);
    if (owner !== last) note(owner, epoch);
    last = owner;
  });
  const shards = client.shards(namespace);
  await shards.ready();
  last = shards.route(key).owner;
}

function note(owner: string, epoch: number): void {
  const atMs = seen.get(epoch) ?? [];
  atMs.push(Date.now());
  seen.set(epoch, atMs);
  if (atMs.length === COUNT) process.send?.({ epoch, owner, atMs } satisfies SeenMove);
}

await Promise.all(Array.from({ length: COUNT }, (_, i) => open(i)));
process.on("disconnect", () => process.exit());
process.send?.("ready");
