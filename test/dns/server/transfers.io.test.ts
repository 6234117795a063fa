/** Transfers beside other work of the process: in slices, a few at a time, and of one moment. */

import { once } from "node:events";
import { connect } from "node:net";
import { setImmediate } from "node:timers/promises";
import packet from "dns-packet";
import { expect, test } from "vitest";
import { KIND } from "../../../src/catalog/record/record.ts";
import { Reads } from "../../../src/discovery/reads.ts";
import { DNS_LIMITS } from "../../../src/dns/server/server.io.ts";
import { Transfers } from "../../../src/dns/transfer/transfers.io.ts";
import { viewersOf } from "../../../src/dns/views/views.ts";
import { openLog } from "../../../src/lib/log.io.ts";
import { Metrics } from "../../../src/lib/metrics/metrics.ts";
import { NO_POLICY } from "../../../src/policy/set/verdict.ts";
import { FakeDnsCatalog, TEST_DNS_SETTINGS } from "../../fakes/dns-catalog.ts";
import { startTestGateway } from "../../fakes/dns-gateway.ts";
import { SETTINGS } from "../../fakes/options.ts";
import { at, draftAt, Registry } from "../../fakes/registry.ts";
import { signedBy } from "../../fakes/tsig.ts";
import { until } from "../../fakes/until.ts";
import { questionBytes } from "../asking.ts";

const NODE = { nodeId: "a", clusterId: "c1", region: "r1", boot: "b1" };
const AXFR = 252;
const KEY = { name: "k", algorithm: "hmac-sha256", secret: Buffer.from("0123456789abcdef"), viewIndex: 0 } as const;

function open(serviceCount: number) {
  const r = new Registry();
  const put = (from: number, count: number, host: string): void => {
    const drafts = Array.from({ length: count }, (_, i) =>
      draftAt(
        { kind: KIND.SERVICE, namespace: "svc", name: `s${from + i}`, instanceId: "1" },
        { targets: [{ host, port: 80, protocol: "tcp" }] },
      ),
    );
    for (let first = 0; first < drafts.length; first += 500) r.register("ann", drafts.slice(first, first + 500), at(0), { isStatic: true });
  };
  put(0, serviceCount, "10.0.0.1");
  const policies = { policy: NO_POLICY };
  const metrics = new Metrics();
  const transfers = new Transfers({
    reads: new Reads(r.replica, NODE, { policies, onDenied: () => {} }),
    policies,
    clusterId: NODE.clusterId,
    zones: ["waymark"],
    blocks: [],
    catalog: SETTINGS.catalog,
    viewers: viewersOf({ views: [] }, NODE),
    settings: TEST_DNS_SETTINGS,
    serialOf: () => 7,
    metrics,
    log: openLog({ level: "silent", scopes: new Map(), format: "json" }).child("dns"),
  });
  const start = (keyName = "k") => {
    const signing = {
      key: KEY,
      keyName,
      algorithm: KEY.algorithm,
      requestMac: Buffer.alloc(32),
      timeSigned: 0,
      error: 0,
      other: Buffer.alloc(0),
      isUnsigned: false,
    };
    const request = {
      id: 1,
      question: questionBytes(AXFR, "waymark").slice(12),
      opt: new Uint8Array(),
      zone: "waymark",
      signing,
      viewIndex: 0,
    };
    return transfers.start(request, "127.0.0.1")[Symbol.asyncIterator]();
  };
  const count = (outcome: "cut" | "done" | "refused") => metrics.counter("dns_transfers_total", { outcome }).value;
  return { put, transfers, start, count };
}

/** The records of the rest of a transfer: owner, type and address. */
async function rest(messages: AsyncIterator<Uint8Array>): Promise<readonly string[]> {
  const lines: string[] = [];
  for (let next = await messages.next(); next.done !== true; next = await messages.next())
    for (const record of packet.decode(Buffer.from(next.value)).answers ?? [])
      lines.push(`${record.name} ${record.type} ${record.type === "A" ? record.data : ""}`.trim());
  return lines;
}

test("thirty thousand services are copied and sent in slices, between which other work has its turn", async () => {
  const { start, put } = open(30_000);
  let turns = 0;
  const transfer = { isDone: false };
  const others = (async () => {
    for (; !transfer.isDone; turns++) {
      // Changes go on meanwhile: the zone has one of them or not, as the others of its moment.
      if (turns === 5 || turns === 200) put(0, 30, `10.0.0.${2 + turns}`);
      await setImmediate();
    }
  })();
  const lines = await rest(start());
  transfer.isDone = true;
  await others;
  expect([lines[0], lines.at(-1)]).toEqual(["waymark SOA", "waymark SOA"]);
  expect(lines.filter((line) => /^s\d+\.svc\.waymark A /.test(line)).length).toBe(30_000);
  const changed = lines.filter((line) => /^s(?:1|2)?\d\.svc\.waymark A /.test(line)).map((line) => line.split(" ").at(-1));
  expect([changed.length, new Set(changed).size]).toEqual([30, 1]);
  // Four names of each are looked at, fifty of all in a slice, and five hundred entries are copied in one.
  expect(turns).toBeGreaterThan((30_000 * 4) / 50 + 30_000 / 500);
}, 60_000);

test("a transfer whose client does not read holds its place and makes nothing; two of a key and four of all run at a time", async () => {
  const { start, transfers, count } = open(2000);
  const first = [start("k"), start("k"), start("x")];
  for (const each of first) expect((await each.next()).done).toBe(false);
  expect([transfers.mayBegin("k"), transfers.mayBegin("x")]).toEqual([false, true]);
  const fourth = start("x");
  expect([transfers.mayBegin("y"), count("refused")]).toEqual([false, 2]);
  expect((await rest(fourth)).length).toBeGreaterThan(8000);
  expect([transfers.mayBegin("y"), count("done")]).toEqual([true, 1]);
  // The connection has ended.
  for (const each of first) await each.return?.();
  expect([transfers.count, count("cut")]).toEqual([0, 3]);
});

test("a client that reads nothing gets what fits into the buffers, and is cut after a while", async () => {
  const { transfers, count } = open(20_000);
  const limits = { ...DNS_LIMITS, idleTimeoutMs: 1000 };
  await using served = await startTestGateway(new FakeDnsCatalog(), { limits, transfers: { findKey: () => KEY, running: transfers } });
  const socket = connect({ port: served.gateway.tcpPort, host: "127.0.0.1" });
  socket.on("error", () => {});
  await once(socket, "connect");
  socket.pause();
  const atSeconds = Math.floor(Date.now() / 1000);
  const { bytes } = signedBy({ key: KEY.name, atSeconds }, questionBytes(AXFR, "waymark"));
  socket.write(Buffer.concat([Buffer.of(0, bytes.length), bytes]));
  await until("the transfer runs", async () => transfers.count === 1);
  await until("it is cut", async () => count("cut") === 1);
  expect([transfers.count, count("done"), served.count("dns_dropped_total", { reason: "idle" })]).toEqual([0, 0, 1]);
  socket.destroy();
}, 60_000);
