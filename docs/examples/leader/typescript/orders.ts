/**
 * A database that rejects the writes of earlier leaders. Each POST carries the fence of its writer in the header `waymark-fence`, and is answered with 204,
 * with 409 if a later leader has written before, or with 403 if the fence is for another scope. Run it with `node orders.ts orders.db 8080`.
 * Only programs on this machine can connect. Authenticate writers before you let other machines connect, because a writer can send any number in its fence.
 */
import { createServer } from "node:http";
import type { AddressInfo } from "node:net";
import { DatabaseSync } from "node:sqlite";
import { FENCE_METADATA, parseFence } from "waymark";

/** The scope whose leader may write. Fences of other scopes are rejected. */
const SCOPE = "custom/orders/cleaner";
const [file = "orders.db", port = "0"] = process.argv.slice(2);
const database = new DatabaseSync(file);
database.exec(`CREATE TABLE IF NOT EXISTS cleaned (
  scope TEXT PRIMARY KEY, failover_version INTEGER NOT NULL, store_epoch INTEGER NOT NULL, number INTEGER NOT NULL, count INTEGER NOT NULL
) STRICT`);
// A single statement compares the fence and writes, so no later leader can write in between.
const write = database.prepare(`INSERT INTO cleaned VALUES (?, ?, ?, ?, 1)
  ON CONFLICT (scope) DO UPDATE SET
    failover_version = excluded.failover_version, store_epoch = excluded.store_epoch, number = excluded.number, count = count + 1
  WHERE (failover_version, store_epoch, number) <= (excluded.failover_version, excluded.store_epoch, excluded.number)`);

const server = createServer((request, response) => {
  const sent = parseFence(String(request.headers[FENCE_METADATA]));
  if (request.method !== "POST" || sent === undefined) {
    response.writeHead(400).end(`send a POST with the header ${FENCE_METADATA}: ${SCOPE};<fence>\n`);
    return;
  }
  if (sent.scope !== SCOPE) {
    response.writeHead(403).end(`only the leader of ${SCOPE} can write here, and the fence is for ${sent.scope}\n`);
    return;
  }
  const { failoverVersion, storeEpoch, number } = sent.fence;
  const { changes } = write.run(SCOPE, failoverVersion, storeEpoch, number);
  process.stdout.write(`${changes > 0 ? "accepted" : "rejected"} ${failoverVersion}.${storeEpoch}.${number}\n`);
  response.writeHead(changes > 0 ? 204 : 409).end();
});
server.listen(Number(port), "127.0.0.1", () => {
  // oxlint-disable-next-line typescript/no-unsafe-type-assertion -- a TCP server has such an address
  process.stdout.write(`listening on ${(server.address() as AddressInfo).port}\n`);
});
