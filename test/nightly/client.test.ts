/** The client at the sizes of the goals: what 10,000 watches, registrations and channels leave behind, and how 1,000 clients come back after an outage. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, expect, test } from "vitest";
import { type Client, connect, follow } from "../../src/client/index.ts";
import { faultsOf, leftoversOf } from "../fakes/leftovers.ts";
import { startNodeProcess } from "../fakes/node-process.ts";
import { until } from "../fakes/until.ts";

const HOME = mkdtempSync(join(tmpdir(), "waymark-client-long-"));
afterAll(() => rmSync(HOME, { recursive: true, force: true }));

const MIB = 1024 * 1024;

test("10,000 opened and closed watches, registrations, clients and channels leave heap and handles as before, in their process and at the servers", async () => {
  const left = await leftoversOf(10_000, 300);
  console.error(JSON.stringify(left));
  // A byte for each of them would be nothing; an object would be megabytes. Servers remember, within bounds, which calls they were sent and what changed last.
  expect(faultsOf(left, { clientBytes: MIB, serverBytes: 12 * MIB })).toEqual([]);
});

const CLIENTS = 1000;
const OUTAGE_MS = 60_000;

test("1,000 clients come back from an outage within 15 s, without a snapshot, and at most a quarter of them in one second", async () => {
  const flags = ["--data-dir", join(HOME, "node"), "--node-id", "herd"];
  let node = await startNodeProcess(flags);
  const port = node.grpc.split(":").at(-1) ?? "";
  const clients: Client[] = Array.from({ length: CLIENTS }, () => connect({ servers: [node.grpc], findServers: false }));
  const abort = new AbortController();
  /** Snapshots told, and clients that were told anything since the outage, by the time of it. */
  let snapshots = 0;
  let back = new Map<number, number>();
  const watches = clients.map(async (client, i) => {
    for await (const event of follow(client, { namespace: "svc.herd" }, { signal: abort.signal, waitsForServer: true })) {
      if (event.kind !== "synced") continue;
      if (event.isSnapshot) snapshots += 1;
      if (!back.has(i)) back.set(i, performance.now());
    }
  });
  try {
    await until("all are there", () => back.size === CLIENTS);
    await node.stop("SIGKILL");
    back = new Map();
    await sleep(OUTAGE_MS);
    expect(back.size).toBe(0);
    node = await startNodeProcess([...flags, "--grpc-port", port]);
    const readyMs = performance.now();
    await until("all are back", () => back.size === CLIENTS);
    const afterMs = [...back.values()].map((ms) => ms - readyMs).toSorted((a, b) => a - b);
    const most = Math.max(...afterMs.map((ms, i) => afterMs.filter((other, k) => k >= i && other < ms + 1000).length));
    console.error(`the last after ${afterMs.at(-1)?.toFixed(0) ?? ""} ms, ${most} in the fullest second, ${snapshots} snapshots`);
    expect(afterMs.at(-1)).toBeLessThan(15_000);
    expect(most).toBeLessThanOrEqual(CLIENTS / 4);
    expect(snapshots).toBe(CLIENTS);
  } finally {
    abort.abort();
    await Promise.all(watches);
    for (const client of clients) client.close();
    await node[Symbol.asyncDispose]();
  }
});
